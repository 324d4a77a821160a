"""``softmatch data``: prepare, check, and how each ends."""

from __future__ import annotations

import json

import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.cli.data import run_data
from softmatch_jax.data import published_counts
from softmatch_jax.imaging import write_image, write_indexed_mask

PALETTE = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)


@pytest.fixture
def run(capsys):
    """Calls the command; gives its status, standard output and standard error."""

    def call(*words):
        capsys.readouterr()
        try:
            code = run_data([str(word) for word in words])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for number, name in enumerate("abcd"):
        labels = np.zeros((60, 60), np.uint8)
        labels[:50, :50] = number + 1
        write_indexed_mask(root / f"SegmentationClassAug/{name}.png", labels, PALETTE)
        write_image(root / f"JPEGImages/{name}.jpg", np.zeros((60, 60, 3), np.uint8))
    (root / "ImageSets/Segmentation/val.txt").write_text("a\nb\nc\n")
    return root


@pytest.fixture
def coco(tmp_path):
    root = tmp_path / "coco"
    for folder in ("annotations", "val2014"):
        (root / folder).mkdir(parents=True)
    square = [[0, 0, 60, 0, 60, 60, 0, 60], [90, 90, 99, 99, 90, 99]]
    content = {
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, 81)],
        "images": [{"id": k, "file_name": f"{k}.jpg", "height": 64, "width": 64} for k in (1, 2, 3)],
        "annotations": [
            {"id": k, "image_id": k, "category_id": k, "segmentation": square, "iscrowd": 0}
            for k in (1, 2, 3)
        ],
    }
    for k in (1, 2):
        write_image(root / f"val2014/{k}.jpg", np.zeros((64, 64, 3), np.uint8))
    (root / "annotations/instances_val2014.json").write_text(json.dumps(content))
    return root


def test_help(run):
    for words in ([], ["-h"], ["--help"], ["prepare"], ["check", "--help"]):
        code, out, err = run(*words)
        assert (code, err) == (0, "") and all(w in out for w in ("prepare", "check", "pascal5i", "coco20i"))
    for words, option in (
        (["prepare", "pascal5i"], "--train-list"),
        (["prepare", "coco20i"], "--overlap"),
        (["check", "pascal5i"], "--split"),
        (["check", "coco20i"], "--root"),
    ):
        code, out, _ = run(*words, "--help")
        assert code == 0 and option in out and "softmatch data" in out


def test_words_that_are_not_known(run):
    with pytest.raises(InputError, match="'remove' is not a command; expected prepare or check"):
        run("remove")
    with pytest.raises(
        InputError, match="'fss1000' is not a data set to prepare; expected pascal5i or coco20i"
    ):
        run("prepare", "fss1000")
    assert run("prepare", "coco20i", "--root", ".", "--overlap", "first")[0] == 2


def test_prepare_and_check_pascal(run, voc, tmp_path):
    output = tmp_path / "lists"
    code, out, _ = run("prepare", "pascal5i", "--root", voc, "--output", output)
    assert (code, out) == (0, f"Wrote {output / 'softmatch_lists.json'}.\n")
    for root in (voc, output):
        code, out, _ = run("check", "pascal5i", "--root", root)
        assert code == 1
        lines = [line.split() for line in out.splitlines()]
        assert ["val", "pictures", "3", "1449", "differs"] in lines
        assert ["val", "fold", "0", "bicycle", "1", "63", "differs"] in lines
        assert ["train", "fold", "1", "1", "3726", "differs"] in lines  # d has class 4
        assert ["train", "fold", "0", "0", "4208", "differs"] in lines
        assert "30 of 30 counts differ from the published ones, first val pictures: 3, published 1449;" in out
    code, out, _ = run("check", "pascal5i", "--root", voc, "--split", "val")
    assert code == 1 and "\ntrain" not in out


def test_agreement_is_told(run, voc, monkeypatch):
    monkeypatch.setattr(published_counts, "PASCAL_PICTURES", {"val": 3, "train": 1})
    monkeypatch.setattr(published_counts, "PASCAL_LISTED", {"val": (3, 0, 0, 0), "train": (0, 1, 1, 1)})
    monkeypatch.setattr(published_counts, "PASCAL_VAL_CLASSES", (1, 1, 1) + (0,) * 17)
    code, out, _ = run("check", "pascal5i", "--root", voc)
    assert code == 0 and "All counts agree" in out and "differs" not in out


def test_prepare_and_check_coco(run, coco, monkeypatch):
    with pytest.raises(InputError, match="run softmatch data prepare coco20i --root"):
        run("check", "coco20i", "--root", coco)
    code, out, err = run("prepare", "coco20i", "--root", coco)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "val2014: 2 masks painted, 0 kept; left out 1 annotated pictures without a file; "
        "2 polygons wholly outside.",
        f"Wrote {coco / 'softmatch_lists.json'}.",
    ]
    assert run("prepare", "coco20i", "--root", coco)[1].startswith(
        "val2014: 0 masks painted, 2 kept; left out 1"
    )
    code, out, _ = run("check", "coco20i", "--root", coco)
    lines = [line.split() for line in out.splitlines()]
    assert code == 1
    assert ["val", "fold", "0", "1", "-"] in lines  # no published count is known
    assert ["val", "fold", "1", "entries", "1", "17912", "differs"] in lines
    monkeypatch.setattr(published_counts, "COCO_VAL_PICTURES", 2)
    monkeypatch.setattr(published_counts, "COCO_VAL_LISTED", (None, 1, 0, 0))
    monkeypatch.setattr(published_counts, "COCO_VAL_ENTRIES", (None, 1, 0, 0))
    assert run("check", "coco20i", "--root", coco)[0] == 0


def test_the_tolerance_is_one_percent():
    def agrees(ours):
        return published_counts.Comparison("x", ours, 15305, published_counts.COCO_TOLERANCE).agrees

    assert [agrees(n) for n in (15151, 15152, 15305, 15458, 15459)] == [False, True, True, True, False]
