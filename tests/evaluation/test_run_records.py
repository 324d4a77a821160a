"""Records and the file beside them: torn lines, several writers, other settings."""

import os
import shutil

import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.evaluation.records import EpisodeRecord, RecordWriter, finished, read_records
from softmatch_jax.evaluation.run_file import RUN, first_difference, read_run, start_run

MADE = {"method": "geometric", "shots": 1, "settings": {"matching": {"temperature": 0.1}}, "raster": (5, 5)}


def record(index, **fields):
    made = {"class_name": "büro", "target": "a/b", "references": ("c", "d"), "counts": (1, 2, 3, 4)}
    return EpisodeRecord(seed=0, index=index, **(made | fields))


def test_records_come_back(tmp_path):
    kept = [record(0), record(1, error="no such file", counts=()), record(2, reason="r", absent=True)]
    with RecordWriter(tmp_path) as writer:
        for one in kept:
            writer.write(one)
            assert list(read_records(tmp_path))[-1] == one  # at once, not when the file is closed
    assert list(read_records(tmp_path)) == kept
    assert finished(tmp_path) == {(0, 0), (0, 2)}


def test_names_that_are_no_text_are_kept(tmp_path):
    odd = record(0, target="caf\udce9")
    with RecordWriter(tmp_path) as writer:
        writer.write(odd)
    assert list(read_records(tmp_path)) == [odd]


def test_a_torn_line_is_passed_over(tmp_path):
    with RecordWriter(tmp_path) as writer:
        writer.write(record(0))
        writer.write(record(1))
    (path,) = (tmp_path / "records").iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    assert [one.index for one in read_records(tmp_path)] == [0]
    with RecordWriter(tmp_path) as writer:  # goes on in another file
        writer.write(record(1))
    assert finished(tmp_path) == {(0, 0), (0, 1)}


def test_writers_do_not_share_a_file(tmp_path):
    with RecordWriter(tmp_path) as one, RecordWriter(tmp_path) as two:
        one.write(record(0))
        two.write(record(1))
        one.write(record(2))
    assert finished(tmp_path) == {(0, 0), (0, 1), (0, 2)}
    assert len(list((tmp_path / "records").iterdir())) == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_said_once_and_the_torn_line_is_no_record(tmp_path):
    with pytest.raises(InputError, match="No space left on device"), RecordWriter(tmp_path) as writer:
        writer.write(record(0))
        writer._file.close()
        writer._file = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115
        writer.write(record(1))
    assert finished(tmp_path) == {(0, 0)}


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "records").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        RecordWriter(tmp_path)


def start(root, made=MADE, **options):
    start_run(root, made, **({"resume": False, "overwrite": False, "join": False} | options))


def test_a_run_is_resumed_with_equal_settings_only(tmp_path):
    root = tmp_path / "out" / "run"
    start(root)
    start(root, resume=True)
    start(root, join=True)
    with pytest.raises(InputError, match="holds an earlier run; expected --resume"):
        start(root)
    other = {**MADE, "settings": {"matching": {"temperature": 0.2}}}
    with pytest.raises(InputError, match=r"settings\.matching\.temperature was 0\.1 and is 0\.2"):
        start(root, other, resume=True)
    assert read_run(root)["settings"] == MADE["settings"]
    with RecordWriter(root) as writer:
        writer.write(record(0))
    start(root, other, overwrite=True)
    assert not list(read_records(root)) and read_run(root)["settings"] == other["settings"]


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("dear")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(InputError, match="not of a run"):
            start(tmp_path, **options)
    assert (tmp_path / "thesis.tex").read_text() == "dear"


def test_overwriting_removes_what_a_run_wrote_only(tmp_path):
    start(tmp_path / "run")
    (tmp_path / "run/notes.txt").write_text("mine")
    start(tmp_path / "run", overwrite=True)
    assert (tmp_path / "run/notes.txt").exists()


def test_records_that_cannot_be_removed_are_not_joined(tmp_path, monkeypatch):
    start(tmp_path)
    with RecordWriter(tmp_path) as writer:
        writer.write(record(0))

    def refuses(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuses)
    other = {**MADE, "shots": 5}
    with pytest.raises(InputError, match=r"records cannot be removed \(Permission denied\)"):
        start(tmp_path, other, overwrite=True)
    assert read_run(tmp_path)["shots"] == MADE["shots"]


def test_a_damaged_run_file(tmp_path):
    (tmp_path / RUN).write_text("{")
    with pytest.raises(InputError, match="damaged"):
        read_run(tmp_path)
    with pytest.raises(InputError, match="expected a folder that softmatch evaluate wrote"):
        read_run(tmp_path / "none")


@pytest.mark.parametrize(
    "before, now, sentence",
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "a.b was [1, 2] and is [1, 3]"),
        ({"a": 1}, {"a": 1, "c": 2}, "c was None and is 2"),
        ({"a": 1, "c": 2}, {"a": 1}, "c was 2 and is None"),
    ],
)
def test_differences(before, now, sentence):
    assert first_difference(before, now) == sentence
