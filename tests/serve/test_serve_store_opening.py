from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from project_making import DOT, box_labels, made_by_hand, png, project, run, unique

from softmatch_jax import InputError
from softmatch_jax.serve.project import connections, database, locking, schema
from softmatch_jax.serve.project.errors import ConflictError, FullDiskError, NotFoundError, ReadOnlyError
from softmatch_jax.serve.project.store import Store

BENCH = Path(__file__).parents[2] / "bench" / "project_store.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed project."""
    project(tmp_path / "project").close()
    return tmp_path / "project"


def edit(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "project.sqlite3", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_a_new_project_has_its_folders_name_and_nothing_to_undo(tmp_path: Path) -> None:
    with_store = Store.open(tmp_path / "a" / "my ducks")
    assert with_store.state().project().name == "my ducks"
    assert with_store.state().undo is None
    with pytest.raises(ConflictError, match="nothing to undo"):
        with_store.undo(id=unique())
    assert with_store.check() == []
    with_store.close()
    with_store.close()
    with pytest.raises(ReadOnlyError, match="is closed"):
        run(with_store, "edit_project", seed=1)


def test_commits_are_on_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(folder)
    statements: list[str] = []
    store._connections.main.set_trace_callback(statements.append)
    assert store._connections.main.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    for call, mode in (
        (lambda: run(store, "add_prompt", "i1", "c1", prompt=DOT), "FULL"),
        (lambda: store.undo(id=unique()), "FULL"),
        (lambda: store.put_raster(box_labels(0, 0, 3, 3)), "NORMAL"),
        (lambda: store.redo(id=unique()), "FULL"),
    ):
        statements.clear()
        call()
        begin = statements.index("BEGIN IMMEDIATE")
        assert statements[begin - 1] == f"PRAGMA synchronous = {mode}"
        assert statements[begin:].count("COMMIT") == 1
        assert statements[-1] == "COMMIT"
    store._connections.main.set_trace_callback(None)
    store.close()


def test_a_second_writer_is_refused_and_a_reader_is_not(folder: Path) -> None:
    store = Store.open(folder)
    with pytest.raises(ConflictError, match="open in another softmatch"):
        Store.open(folder)
    code = (
        "import sys, pathlib; from softmatch_jax.serve.project.locking import Lock\n"
        "from softmatch_jax import InputError\n"
        "try: Lock(pathlib.Path(sys.argv[1]))\n"
        "except InputError as error: print(type(error).__name__)"
    )
    answer = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert answer.stdout == "ConflictError\n"
    reader = Store.open(folder, read_only=True)
    run(store, "add_prompt", "i1", "c1", prompt=DOT)
    assert made_by_hand(reader) != made_by_hand(store)
    assert reader.entries(0)[-1].what["do"] == "add_prompt"
    with pytest.raises(ReadOnlyError, match="open to read only"):
        run(reader, "edit_project", seed=1)
    with pytest.raises(ReadOnlyError, match="open to read only"):
        reader.put_raster(box_labels(0, 0, 3, 3))
    reader.close()
    store.close()
    Store.open(folder).close()


def test_reading_makes_no_project(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no project in"):
        Store.open(tmp_path / "none", read_only=True)
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_cannot_be_written_can_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, flags: int, mode: int = 0o777) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    with monkeypatch.context() as patch:
        # The tests may run as root, whom no permission stops.
        patch.setattr(locking.os, "open", refuse)
        with pytest.raises(ReadOnlyError, match="cannot be written; check the folder's permissions"):
            Store.open(folder)
    monkeypatch.setattr(database.os, "access", lambda *_: False)
    before = sorted(path.name for path in folder.iterdir())
    store = Store.open(folder, read_only=True)
    assert len(store.state().of("image")) == 2
    assert sorted(path.name for path in folder.iterdir()) == before
    store.close()


def test_a_database_that_cannot_be_written_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(folder)
    store._connections.main.execute("PRAGMA query_only = ON")
    with pytest.raises(ReadOnlyError, match="cannot be written"):
        run(store, "edit_project", seed=1)
    store._connections.main.execute("PRAGMA query_only = OFF")
    assert run(store, "edit_project", seed=1).seq == store.state().seq
    store.close()


def test_a_full_disk_changes_nothing_and_work_goes_on_when_there_is_room(folder: Path) -> None:
    store = Store.open(folder)
    main = store._connections.main
    pages = main.execute("PRAGMA page_count").fetchone()[0]
    main.execute(f"PRAGMA max_page_count = {pages + 2}")
    before = store.state()
    heard: list = []
    store.subscribe(heard.append)
    scribble = {"kind": "scribble", "points": [[i % 60, i % 40] for i in range(5000)], "width": 3}
    with pytest.raises(FullDiskError, match="disk is full, so nothing was changed"):
        run(store, "add_prompt", "i1", "c1", prompt=scribble)
    assert store.state() is before
    assert heard == []
    assert store.check() == []
    main.execute("PRAGMA max_page_count = 1000000")
    entry = run(store, "add_prompt", "i1", "c1", prompt=scribble)
    assert entry.seq == before.seq + 1
    assert "prompt/i1/c1/p1" in entry.changes
    assert store.check() == []
    store.close()


def test_a_newer_project_is_refused_untouched(folder: Path) -> None:
    edit(folder, f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    before = (folder / "project.sqlite3").read_bytes()
    for read_only in (False, True):
        with pytest.raises(InputError, match=r"made by a newer softmatch; .*install the newer one"):
            Store.open(folder, read_only=read_only)
    assert (folder / "project.sqlite3").read_bytes() == before


def test_an_older_project_is_brought_up_to_date_step_by_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = (
        *schema.MIGRATIONS,
        ("CREATE TABLE more (x)",),
        ("ALTER TABLE more ADD y", "INSERT INTO more VALUES (1, 2)"),
    )
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    monkeypatch.setattr(database, "MIGRATIONS", steps)
    with pytest.raises(InputError, match="older softmatch"):
        Store.open(folder, read_only=True)
    store = Store.open(folder)
    assert store._connections.main.execute("SELECT x, y FROM more").fetchall() == [(1, 2)]
    assert len(store.state().of("image")) == 2
    store.close()
    Store.open(folder).close()


def test_a_step_that_fails_leaves_the_version_before_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = (*schema.MIGRATIONS, ("CREATE TABLE more (x)", "no statement"))
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    with pytest.raises(InputError, match="cannot be used"):
        Store.open(folder)
    monkeypatch.undo()
    store = Store.open(folder)
    assert store.check() == []
    store.close()


def damaged_header(folder: Path) -> None:
    (folder / "project.sqlite3").write_bytes(b"hello" * 1000)


def damaged_pages(folder: Path) -> None:
    data = bytearray((folder / "project.sqlite3").read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    (folder / "project.sqlite3").write_bytes(data)


def damaged_document(folder: Path) -> None:
    edit(folder, "UPDATE documents SET body = '{\"name\": 3}' WHERE key = 'project'")


def no_json(folder: Path) -> None:
    edit(folder, "UPDATE documents SET body = '{' WHERE key = 'project'")


def unknown_kind(folder: Path) -> None:
    edit(folder, "INSERT INTO documents VALUES ('nonsense/1', '{}')")


@pytest.mark.parametrize(
    "damage",
    [damaged_header, damaged_pages, damaged_document, no_json, unknown_kind],
    ids=lambda d: d.__name__,
)
def test_a_damaged_project_is_one_sentence(folder: Path, damage: object) -> None:
    damage(folder)
    for read_only in (False, True):
        with pytest.raises(InputError, match=r"damaged.*; restore (it|the project) from a copy\.$"):
            Store.open(folder, read_only=read_only)
    # The lock was given back.
    locking.Lock(folder).release()


def test_another_programs_database_and_a_file_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    edit(other, "CREATE TABLE theirs (x)")
    with pytest.raises(InputError, match="database of another program"):
        Store.open(other)
    (tmp_path / "file").write_bytes(png(0))
    with pytest.raises(InputError, match="is a file; expected the folder"):
        Store.open(tmp_path / "file")


def test_failing_to_open_closes_what_was_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> None:
        raise InputError("no")

    with monkeypatch.context() as patch:
        patch.setattr(connections, "open_to_read", fail)
        with pytest.raises(InputError, match="no"):
            Store.open(folder)
    Store.open(folder).close()


@pytest.mark.slow
def test_a_killed_process_loses_nothing_that_it_acknowledged() -> None:
    answer = subprocess.run([sys.executable, BENCH, "--smoke"], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "| lost | 0 |" in answer.stdout
