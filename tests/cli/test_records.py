"""Records survive damage, and documents are the same for equal content."""

import json

import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.cli.records import (
    Record,
    check_same_making,
    is_absent,
    read_record,
    read_records,
    to_json,
    write_record,
)

ENTRY = {
    "target": "a.png", "status": "ok", "size": [9, 9], "mask": "masks/a.png", "overlay": "overlays/a.jpg",
    "classes": [{"name": "x", "absent": True, "map": "maps/a.png"}],
}  # fmt: skip
RECORD = Record({"seed": 0, "settings": {"a": [1, 2]}}, ENTRY, [[[1.0, 2.0, 0]]])


def test_a_record_is_read_as_written(tmp_path):
    write_record(tmp_path / "a.json", RECORD)
    assert read_record(tmp_path / "a.json") == RECORD
    assert RECORD.files() == ("masks/a.png", "overlays/a.jpg", "maps/a.png")
    sure = {**ENTRY, "classes": [{**ENTRY["classes"][0], "confidence_map": "confidence/a.png"}]}
    assert Record({}, sure, []).files()[2:] == ("maps/a.png", "confidence/a.png")


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "{}", '{"made_with": 1}', '{"made_with": {}, "entry": [], "points": []}',
        '{"made_with": {}, "entry": {"status": "ok", "classes": [3]}, "points": []}', "\xff",
    ],
)  # fmt: skip
def test_what_is_no_record_counts_as_none(tmp_path, text):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "a.json").write_bytes(text.encode("latin-1"))
    assert read_record(tmp_path / "records" / "a.json") is None
    assert read_records(tmp_path) == {}


def test_a_different_making_is_named(tmp_path):
    records = {"records/a.json": RECORD}
    check_same_making({"seed": 0, "settings": {"a": (1, 2)}}, records, tmp_path)
    for made_with, said in (
        ({"seed": 1, "settings": {"a": [1, 2]}}, "seed was 0 and is 1"),
        ({"seed": 0, "settings": {"a": [1, 3]}}, r"settings\.a was \[1, 2\] and is \[1, 3\]"),
        ({"seed": 0}, "settings was"),
    ):
        with pytest.raises(InputError, match=said):
            check_same_making(made_with, records, tmp_path)


def test_lists_of_numbers_take_one_line():
    document = {
        "box": [1, 2.5, -3e-05],
        "text": "[\n 1,\n 2\n]",
        "nested": [[1, 2], [3]],
        "empty": [],
        "é": None,
    }
    text = to_json(document)
    assert json.loads(text) == document
    assert '"box": [1, 2.5, -3e-05]' in text and "[1, 2],\n" in text and '"é"' in text


def test_absence():
    assert is_absent(ENTRY) and not is_absent({"status": "failed"})
