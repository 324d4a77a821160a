from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from project_making import (
    BASIS,
    DOT,
    add_picture,
    box_labels,
    derive_found,
    derive_mask,
    found,
    made_by_hand,
    project,
    run,
    unique,
)

from softmatch_jax import InputError
from softmatch_jax.serve.project.documents import FoundDocument
from softmatch_jax.serve.project.errors import ConflictError, NotFoundError
from softmatch_jax.serve.project.pictures import Pictures
from softmatch_jax.serve.project.showing import all_shown, shown
from softmatch_jax.serve.project.store import Entry, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = project(tmp_path / "project")
    yield store
    store.close()


def reopened(store: Store) -> Store:
    store.close()
    return Store.open(store.folder)


def random_step(store: Store, rng: np.random.Generator) -> None:
    """Something that a person or the engine may do; some of it is refused."""
    state = store.state()
    image = f"i{rng.integers(1, 5)}"
    cls = f"c{rng.integers(1, 4)}"
    mask = shown(state, image, cls)
    x, y = (int(v) for v in rng.integers(0, 40, 2))
    brush = [{"points": [[x, y]], "width": 9, "add": bool(rng.integers(2))}]
    prompts = [key.rpartition("/")[2] for key in state.documents.group(f"prompt/{image}/{cls}")] or ["p1"]
    steps: list[Any] = [
        lambda: run(store, "add_prompt", image, cls, prompt=DOT, shown=mask),
        lambda: run(store, "delete_prompt", image, cls, prompt=prompts[0]),
        lambda: run(store, "paint", image, cls, shown=mask, strokes=brush),
        lambda: run(store, "promote", image, cls, reference=bool(rng.integers(2)), shown=mask),
        lambda: run(store, "clear_layer", image, cls),
        lambda: run(store, "accept", image, shown=all_shown(state, image)),
        lambda: run(store, "reopen", image),
        lambda: run(store, "reject", image),
        lambda: run(store, "edit_project", seed=int(rng.integers(9))),
        lambda: run(store, "add_class", name=f"more {rng.integers(99)}"),
        lambda: run(store, "delete_class", cls=cls),
        lambda: run(store, "delete_image", image),
        lambda: add_picture(store, int(rng.integers(4))),
        lambda: derive_mask(store, image, cls, box_labels(x, y, x + 5, y + 5)),
        lambda: derive_found(store, image, **{cls: box_labels(y, x, y + 5, x + 5)}),
        lambda: store.undo(id=unique()),
        lambda: store.redo(id=unique()),
    ]
    with contextlib.suppress(InputError):
        steps[rng.integers(len(steps))]()


@pytest.mark.parametrize("seed", range(3))
def test_any_history_folds_reopens_and_can_be_undone_and_redone(tmp_path: Path, seed: int) -> None:
    store = project(tmp_path / "project")
    rng = np.random.default_rng(seed)
    for _ in range(120):
        random_step(store, rng)
    assert store.check() == []
    before, depth = store.state(), 0
    store = reopened(store)
    after = store.state()
    assert dict(after.docs) == dict(before.docs)
    assert (after.seq, after.undo, after.redo) == (before.seq, before.undo, before.redo)
    assert after.boot != before.boot
    here = made_by_hand(store)
    while store.state().undo is not None:
        store.undo(id=unique())
        depth += 1
    assert depth > 10
    assert set(made_by_hand(store)) == {"project"}
    assert [*store.state().docs] == ["project"]
    for _ in range(depth):
        store.redo(id=unique())
    assert made_by_hand(store) == here
    assert store.check() == []
    store.close()


def test_undoing_goes_back_step_by_step_and_a_new_command_ends_redoing(store: Store) -> None:
    states = [made_by_hand(store)]
    for number in range(4):
        run(store, "add_prompt", "i1", "c1", prompt=DOT | {"xy": [number, 1]})
        states.append(made_by_hand(store))
    for state in states[-2::-1]:
        entry = store.undo(id=unique())
        assert made_by_hand(store) == state
        assert (entry.what["do"], entry.redo) == ("add_prompt", "add_prompt")
    assert store.state().undo == "add_class"
    for state in states[1:]:
        store.redo(id=unique())
        assert made_by_hand(store) == state
    with pytest.raises(ConflictError, match="nothing to redo"):
        store.redo(id=unique())
    store.undo(id=unique())
    run(store, "edit_project", seed=5)
    assert store.state().redo is None
    store = reopened(store)
    with pytest.raises(ConflictError, match="nothing to redo"):
        store.redo(id=unique())
    assert (store.undo(id=unique()).undo, store.undo(id=unique()).redo) == ("add_prompt", "add_prompt")
    store.close()


def test_deriving_is_no_step_and_stays_when_undoing(store: Store) -> None:
    run(store, "add_prompt", "i1", "c1", prompt=DOT)
    run(store, "edit_project", seed=5)
    store.undo(id=unique())
    rasters = derive_found(store, "i2", c1=box_labels(0, 0, 9, 9))
    assert (store.state().undo, store.state().redo) == ("add_prompt", "edit_project")
    store.redo(id=unique())
    store.undo(id=unique())
    store.undo(id=unique())
    assert shown(store.state(), "i2", "c1") == rasters["c1"]
    assert shown(store.state(), "i1", "c1") is None


def test_a_command_that_changes_nothing_is_answered_and_is_no_step(store: Store) -> None:
    run(store, "edit_project", seed=5)
    store.undo(id=unique())
    entry = run(store, "edit_project", seed=0)
    assert (entry.changes, entry.undo, entry.redo) == ({}, "add_class", "edit_project")
    store = reopened(store)
    assert store.redo(id=unique()).changes["project"].seed == 5
    store.close()


def test_asking_again_is_answered_by_the_entry_of_then(store: Store) -> None:
    first = run(store, "add_class", name="once")
    again = store.undo(id=first.id)
    assert again == first
    entry = store.undo(id="undo once")
    run(store, "add_class", name="other")
    store = reopened(store)
    seq = store.state().seq
    assert store.undo(id="undo once") == entry
    assert store.redo(id=first.id) == first
    assert store.state().seq == seq
    for wrong in ("", "x" * 101, "a\nb"):
        with pytest.raises(InputError, match="expected 1 to 100 printable"):
            store.undo(id=wrong)
    store.close()


def test_the_same_picture_twice_is_named(store: Store) -> None:
    with pytest.raises(ConflictError, match=r"0\.png is already in the project, as 0\.png \(i1\)") as refusal:
        add_picture(store, 0)
    assert refusal.value.image == "i1"
    run(store, "delete_image", "i1")
    assert add_picture(store, 0) == "i3"
    with Pictures(store.folder).incoming() as incoming:
        incoming.write(Pictures(store.folder).path(store.state().image("i2").digest).read_bytes())
        stored = incoming.finish()
    for name in ("", "a\nb", "x" * 201):
        with pytest.raises(InputError, match="expected 1 to 200 characters"):
            store.add_image(name, stored, id=unique())


def test_entries_tell_the_whole_story(store: Store) -> None:
    run(store, "add_prompt", "i1", "c1", prompt=DOT)
    store.undo(id=unique())
    entries = store.entries(0)
    assert [entry.seq for entry in entries] == [*range(1, store.state().seq + 1)]
    assert [entry.kind for entry in entries] == ["command", *["upload"] * 2, *["command"] * 3, "undo"]
    documents: dict = {}
    for entry in entries:
        for key, document in entry.changes.items():
            documents[key] = document
            if document is None:
                del documents[key]
    assert documents == dict(store.state().docs)
    assert [entry.seq for entry in store.entries(2, limit=3)] == [3, 4, 5]
    assert store.entries(store.state().seq) == []
    assert entries[5].what == {
        "do": "add_prompt",
        "image": "i1",
        "class": "c1",
        "prompt": DOT | {"positive": True},
    }
    assert entries[6].what == {"do": "add_prompt", "of": 6}


def test_a_stroke_costs_the_same_however_many_there_are(store: Store) -> None:
    def length(entry: Entry) -> int:
        row = sqlite3.connect(store.folder / "project.sqlite3")
        query = "SELECT length(what) + length(before) + length(after) FROM log WHERE seq = ?"
        (answer,) = row.execute(query, (entry.seq,)).fetchone()
        row.close()
        return answer

    lengths = [length(run(store, "add_prompt", "i1", "c1", prompt=DOT)) for _ in range(120)]
    assert max(lengths[1:]) - min(lengths[1:]) <= 8  # the figures of longer numbers
    assert len(store.state().prompts("i1", "c1")) == 120


def test_a_state_does_not_change_under_whoever_holds_it(store: Store) -> None:
    before = store.state()
    documents = dict(before.docs)
    run(store, "add_prompt", "i1", "c1", prompt=DOT)
    run(store, "delete_image", "i2")
    assert dict(before.docs) == documents
    assert len(before.docs) == len(documents)
    with pytest.raises(TypeError):
        before.of("image")["image/i9"] = None
    with pytest.raises(TypeError):
        before.docs["x"] = None


def test_the_log_cannot_be_rewritten(store: Store) -> None:
    with sqlite3.connect(store.folder / "project.sqlite3") as other:
        for statement in ("UPDATE log SET what = '{}'", "DELETE FROM log WHERE seq = 2"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                other.execute(statement)
    other.close()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            "UPDATE documents SET body = json_set(body, '$.seed', 9) WHERE key = 'project'",
            "project as stored",
        ),
        ("DELETE FROM documents WHERE key = 'class/c1'", "class/c1 as stored"),
        ("DELETE FROM rasters", "The raster .* cannot be read"),
        ("UPDATE rasters SET body = substr(body, 1, 20)", "The raster .* is damaged"),
        ("DROP TRIGGER log_is_not_shortened; DELETE FROM log WHERE seq = 3", "lacks entry 3"),
        (
            "DROP TRIGGER log_is_not_changed; UPDATE log SET before = '{}' WHERE kind = 'undo'",
            "does not follow",
        ),
    ],
)
def test_checking_finds_damage(store: Store, damage: str, words: str) -> None:
    run(store, "paint", "i1", "c1", shown=None, strokes=[{"points": [[9, 9]], "width": 9, "add": True}])
    run(store, "edit_project", seed=3)
    store.undo(id=unique())
    assert store.check() == []
    with sqlite3.connect(store.folder / "project.sqlite3") as other:
        other.executescript(damage)
    other.close()
    faults = store.check()
    assert any(re.search(words, fault) for fault in faults), faults


def test_checking_names_a_missing_picture(store: Store) -> None:
    Pictures(store.folder).path(store.state().image("i2").digest).unlink()
    (fault,) = store.check()
    assert fault.startswith("The file of 1.png (image/i2) is missing")


def test_subscribers_hear_every_entry_once_and_in_order(store: Store) -> None:
    heard: list[int] = []
    on_disk: list[bool] = []

    def listen(entry: Entry) -> None:
        heard.append(entry.seq)
        on_disk.append(store.state().seq == entry.seq == store.entries(entry.seq - 1)[0].seq)

    stop = store.subscribe(listen)
    start = store.state().seq

    def work(number: int) -> None:
        for _ in range(10):
            run(store, "add_prompt", "i1", f"c{number % 2 + 1}", prompt=DOT)
            derive_found(store, "i2", c1=box_labels(0, 0, number + 1, 9))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == [*range(start + 1, store.state().seq + 1)]
    assert all(on_disk)
    assert len(store.state().of("prompt")) == 40
    assert store.check() == []
    stop()
    run(store, "edit_project", seed=1)
    assert len(heard) == store.state().seq - start - 1


def test_a_failing_subscriber_spoils_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    heard = []

    def fail(entry: Entry) -> None:
        raise RuntimeError("subscriber")

    store.subscribe(fail)
    store.subscribe(heard.append)
    entry = run(store, "edit_project", seed=1)
    assert heard == [entry]
    assert "subscriber" in caplog.text


def test_rasters_that_undoing_may_need_stay_and_others_go(store: Store) -> None:
    old = derive_found(store, "i2", c1=box_labels(0, 0, 9, 9))["c1"]
    kept = derive_found(store, "i2", c1=box_labels(0, 0, 9, 10))["c1"]
    run(store, "promote", "i2", "c1", reference=True, shown=kept)
    run(store, "clear_layer", "i2", "c1")
    heat, stale = (store.put_heat(np.full((4, 5), value, np.uint8)) for value in (1, 2))
    new = store.put_raster(box_labels(0, 0, 9, 11))
    document = FoundDocument(basis=BASIS, classes={"c1": found(new, heat)}, uncertainty=0.0)
    store.derive({"found/i2": document}, what={})
    store = reopened(store)
    np.testing.assert_array_equal(store.raster(new), box_labels(0, 0, 9, 11))
    np.testing.assert_array_equal(store.heat(heat), np.full((4, 5), 1))
    assert store.heat_png(heat).startswith(b"\x89PNG")
    assert store.raster_png(new).startswith(b"\x89PNG")
    for gone in (old, BASIS, "../../etc/passwd"):
        with pytest.raises(NotFoundError, match="no raster"):
            store.raster(gone)
    with pytest.raises(NotFoundError, match="no match map"):
        store.heat(stale)
    store.undo(id=unique())
    assert shown(store.state(), "i2", "c1") == kept
    np.testing.assert_array_equal(store.raster(kept), box_labels(0, 0, 9, 10))
    assert store.check() == []
    store.close()


def test_a_damaged_row_of_the_log_is_one_sentence(store: Store) -> None:
    entry = run(store, "edit_project", seed=1)
    with sqlite3.connect(store.folder / "project.sqlite3") as other:
        other.execute("DROP TRIGGER log_is_not_changed")
        other.execute('UPDATE log SET after = \'{"project": {"name": 3}}\' WHERE seq = ?', (entry.seq,))
        other.execute("UPDATE log SET what = '{' WHERE seq = 2")
    other.close()
    with pytest.raises(InputError, match="document project of the project is damaged"):
        store.entries(entry.seq - 1)
    with pytest.raises(InputError, match="row of the project is damaged"):
        store.entries(1)
    assert len(store.check()) == 1


def test_the_log_is_plain_json(store: Store) -> None:
    run(store, "add_prompt", "i1", "c1", prompt=DOT)
    other = sqlite3.connect(store.folder / "project.sqlite3")
    (row,) = other.execute("SELECT after FROM log ORDER BY seq DESC LIMIT 1").fetchone()
    other.close()
    assert json.loads(row)["layer/i1/c1"] == {"reference": True, "base": None, "painted": None}
