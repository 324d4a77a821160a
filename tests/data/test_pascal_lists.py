"""Lists of PASCAL-5i: the rule, where names come from, and counts kept in a file."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.data.pascal_coco_counts import MaskRecord, read_names, read_prepared
from softmatch_jax.data.pascal_coco_lists import list_pictures
from softmatch_jax.data.pascal_lists import (
    VOC_CLASSES,
    build_pascal_lists,
    find_voc,
    listed_names,
    novel_classes,
    pascal_counts,
    prepare_pascal,
)
from softmatch_jax.data.published_counts import PASCAL_LISTED, PASCAL_VAL_CLASSES, compare_pascal
from softmatch_jax.imaging import write_image, write_indexed_mask

PALETTE = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)

# Pixels of each class in each mask, of 100 x 100: the rest is background.
VAL = {
    "2007_b": {1: 2048, 15: 2048},  # folds 0 and 2
    "2007_a": {1: 2047, 2: 2048},  # 1 is present but too small
    "2008_c": {1: 2047},  # in no list
    "2008_d": {255: 9000},  # void only
    "2008_e": {1: 3000, 2: 3000, 255: 1000},  # two novel classes
    "2008_f": {20: 2048},
}
TRAIN = {
    "2009_a": {6: 2048, 7: 2047},
    "2009_b": {6: 3000, 1: 1},  # one pixel of a class of fold 0
    "2009_c": {6: 2048, 20: 4000, 255: 500},
    "2009_d": {3: 5000},
}


def write_voc(root, masks):
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, pixels in masks.items():
        values = np.repeat(list(pixels), list(pixels.values()))
        labels = np.zeros(100 * 100, np.uint8)
        labels[100 : 100 + values.size] = values  # away from the corner
        write_indexed_mask(root / f"SegmentationClassAug/{name}.png", labels.reshape(100, 100), PALETTE)
        write_image(root / f"JPEGImages/{name}.jpg", np.zeros((100, 100, 3), np.uint8))


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2012"
    write_voc(root, VAL | TRAIN)
    (root / "ImageSets/Segmentation/val.txt").write_text("\n".join(VAL) + "\n")
    return root


def test_lists_to_evaluate(voc):
    lists = build_pascal_lists(voc, 0, "val")
    assert lists.images == ("2007_b", "2007_a", "2008_e")  # in the order of val.txt
    assert lists.by_class == {1: ("2007_b", "2008_e"), 2: ("2007_a", "2008_e"), 3: (), 4: (), 5: ()}
    assert lists.present == ((1,), (1, 2), (1, 2))
    assert build_pascal_lists(voc, 2, "val").by_class == {11: (), 12: (), 13: (), 14: (), 15: ("2007_b",)}
    assert build_pascal_lists(voc, 3, "val").images == ("2008_f",)


def test_lists_to_train(voc):
    lists = build_pascal_lists(voc, 0, "train")  # all with a mask and not in val.txt, by name
    assert lists.images == ("2009_a", "2009_c")
    assert lists.by_class.keys() == set(range(6, 21))
    assert lists.by_class[6] == ("2009_a", "2009_c") and lists.by_class[20] == ("2009_c",)
    assert lists.by_class[7] == ()
    assert build_pascal_lists(voc, 1, "train").images == ("2009_d",)
    assert build_pascal_lists(voc, 3, "train").images == ("2009_a", "2009_b", "2009_d")


def test_the_rule_against_a_plain_loop():
    rng = np.random.default_rng(0)
    counts = {
        f"{i:03}": MaskRecord(
            {int(k): int(rng.integers(1, 5000)) for k in rng.choice(np.arange(1, 21), 3, replace=False)}, 0, 0
        )
        for i in range(200)
    }
    novel, base = {6, 7, 8, 9, 10}, sorted(set(range(1, 21)) - {6, 7, 8, 9, 10})
    expected = {k: [n for n in counts if not novel & set(counts[n].pixels)] for k in base}
    expected = {k: tuple(n for n in v if counts[n].pixels.get(k, 0) > 2047) for k, v in expected.items()}
    lists = list_pictures(counts, base, absent=novel)
    assert lists.by_class == expected
    assert lists.images == tuple(sorted({name for names in expected.values() for name in names}))


def test_folds():
    assert [novel_classes(fold)[0] for fold in range(4)] == [1, 6, 11, 16]
    assert sorted(k for fold in range(4) for k in novel_classes(fold)) == list(range(1, 21))
    named = [[VOC_CLASSES[k - 1] for k in novel_classes(fold, "coco")] for fold in range(4)]
    assert named == [  # Boudiaf et al. 2021, table of the domain shift
        ["aeroplane", "boat", "chair", "diningtable", "dog", "person"],
        ["bicycle", "bus", "horse", "sofa"],
        ["bird", "car", "pottedplant", "sheep", "train", "tvmonitor"],
        ["bottle", "cat", "cow", "motorbike"],
    ]
    with pytest.raises(InputError, match="fold is 4; expected 0 to 3"):
        novel_classes(4)


def test_the_root_is_found(voc):
    assert find_voc(voc) == find_voc(voc.parent) == find_voc(voc.parent.parent) == voc
    with pytest.raises(InputError, match="absent does not exist; expected the folder of PASCAL VOC 2012"):
        find_voc(voc / "absent")
    with pytest.raises(InputError, match="has no folder JPEGImages"):
        find_voc(voc / "JPEGImages")
    (voc / "SegmentationClassAug").rename(voc / "SegmentationClass")
    with pytest.raises(InputError, match="has no folder SegmentationClassAug"):
        find_voc(voc)


def test_where_training_names_come_from(voc, tmp_path):
    sets = voc / "ImageSets/Segmentation"
    assert listed_names(voc, "train") == ("2009_a", "2009_b", "2009_c", "2009_d")
    (sets / "trainaug.txt").write_text("2009_d\n2009_c\n")
    assert listed_names(voc, "train") == ("2009_d", "2009_c")
    (sets / "train_noval.txt").write_text("2009_b\n2009_a\n")
    (sets / "train.txt").write_text("2009_a\n2009_d\n")
    assert listed_names(voc, "train") == ("2009_b", "2009_a", "2009_d")  # merged, each once
    given = tmp_path / "list.txt"
    given.write_text("/x/JPEGImages/2009_c.jpg /x/SegmentationClassAug/2009_c.png\n\n")
    assert listed_names(voc, "train", given) == ("2009_c",)


def test_bad_lists(voc, tmp_path):
    given = tmp_path / "list.txt"
    for text, message in (
        ("", "names no picture"),
        ("a\nb\na\n", "names 'a' twice"),
        ("zz\n", "lacks 1 of 1"),
    ):
        given.write_text(text)
        with pytest.raises(InputError, match=message):
            listed_names(voc, "val", given)
    with pytest.raises(InputError, match=r"cannot be read .*expected a list of pictures"):
        read_names(tmp_path / "absent.txt")
    (voc / "JPEGImages/2007_a.jpg").unlink()
    with pytest.raises(InputError, match=r"JPEGImages lacks 1 of 6 .* first 2007_a.jpg"):
        build_pascal_lists(voc, 0, "val")


def test_another_value_is_named(voc):
    labels = np.full((100, 100), 21, np.uint8)
    write_indexed_mask(voc / "SegmentationClassAug/2008_f.png", labels, PALETTE)
    with pytest.raises(InputError, match=r"2008_f.png holds the value 21; expected .* 1 to 20 .* or 255"):
        build_pascal_lists(voc, 0, "val")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_prepared_lists_are_the_same(voc, tmp_path, elsewhere):
    before = {(f, s): build_pascal_lists(voc, f, s) for f in range(4) for s in ("val", "train")}
    seen = []
    folder = prepare_pascal(
        voc.parent,
        tmp_path / "new" / "out" if elsewhere else None,
        report=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (4, 4) and len(seen) == len(VAL) + len(TRAIN)
    roots = [folder] if elsewhere else [voc, voc.parent]
    for mask in voc.glob("SegmentationClassAug/*.png"):  # would be unreadable if it were read again
        status = mask.stat()
        mask.write_bytes(b"x" * status.st_size)
        os.utime(mask, ns=(status.st_atime_ns, status.st_mtime_ns))
    for root in roots:
        assert {key: build_pascal_lists(root, *key) for key in before} == before


def test_changed_masks_are_noticed(voc):
    prepare_pascal(voc, splits=("val",))
    mask = voc / "SegmentationClassAug/2008_f.png"
    os.utime(mask, ns=(1, 1))
    with pytest.raises(InputError, match="has changed since the lists were made; run softmatch data prepare"):
        pascal_counts(voc, "val")
    assert len(pascal_counts(voc, "train")) == len(TRAIN)  # was not prepared: is counted
    mask.unlink()
    with pytest.raises(InputError, match="was there when the lists were made"):
        pascal_counts(voc, "val")


def test_a_damaged_file(voc):
    path = prepare_pascal(voc) / "softmatch_lists.json"
    whole = path.read_text()
    assert read_prepared(voc, "pascal5i").classes == VOC_CLASSES
    document = json.loads(whole)
    document["splits"]["val"]["masks"]["2007_b"] = 3
    for text in (whole[:100], "[]", "{}", json.dumps(document)):
        path.write_text(text)
        with pytest.raises(InputError, match="is damaged"):
            pascal_counts(voc, "val")
    path.write_text(whole)
    with pytest.raises(InputError, match="for pascal5i; expected version 1 for coco20i"):
        read_prepared(voc, "coco20i")


def test_published_counts_are_consistent():
    for fold in range(4):
        sizes = PASCAL_VAL_CLASSES[5 * fold : 5 * fold + 5]
        assert max(sizes) <= PASCAL_LISTED["val"][fold] <= sum(sizes)
    assert (PASCAL_VAL_CLASSES[0], PASCAL_VAL_CLASSES[14], PASCAL_VAL_CLASSES[19]) == (81, 386, 69)


def test_comparison_with_published_counts():
    """A data set made to have the published class sizes, each picture with one class, agrees in them."""
    counts = {
        f"{k}-{i}": MaskRecord({k: 2048}, 0, 0)
        for k, size in enumerate(PASCAL_VAL_CLASSES, 1)
        for i in range(size)
    }
    rows = {row.what: row for row in compare_pascal(counts, "val")}
    assert len(rows) == 1 + 4 + 20
    assert all(row.agrees for what, row in rows.items() if len(what.split()) == 4)
    assert (rows["val fold 0"].ours, rows["val fold 0"].published) == (365, 364)  # one has two classes
    assert not rows["val fold 0"].agrees and not rows["val pictures"].agrees
