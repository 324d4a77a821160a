"""Folders of pictures with masks, and what all layouts have in common."""

from __future__ import annotations

import os
import pickle

import numpy as np
import PIL.Image
import pytest
from folder_tree import SIZE, grey, label_map, listed, mask, picture, refused, tree

from softmatch_jax.data.folder import open_folder


@pytest.mark.parametrize(
    ("image", "truth"),
    [
        ("{}.jpg", "{}.png"),
        ("{}.JPG", "{}.PNG"),
        ("{}.webp", "{}.png"),
        ("{}.png", "{}_mask.png"),
        ("{}.jpg", "{}_gt.png"),
        ("{}.tif", "{}-mask.tif"),
        ("images/{}.jpg", "masks/{}.png"),
        ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
        ("imgs/{}.png", "gt/{}.png"),
        ("img/{}.png", "labels/{}_mask.png"),
        ("image/{}.bmp", "mask/{}.bmp"),
        ("Images/{}.jpg", "Annotations/{}.png"),
        ("train/{}.jpg", "trainannot/{}.png"),
    ],
)
def test_flat_folders_are_one_class(tmp_path, image, truth):
    root = tree(tmp_path / "cracks", image, truth)
    lists = open_folder(root)
    stem = image.rsplit(".", 1)[0]
    assert listed(lists) == {"cracks": [stem.format(name) for name in "abc"]}
    assert lists.name == "folder cracks" and lists.raster is None
    for index, sample in enumerate(lists.samples["cracks"]):
        read = sample.read()
        assert read.image.shape == (*SIZE, 3)
        assert read.truth.mask.sum() == 10 + index and read.truth.mask[0].sum() >= 10
        assert read.truth.void is None


@pytest.mark.parametrize(
    ("image", "truth"),
    [
        ("{}/1.jpg", "{}/1.png"),
        ("{}/night/1.jpg", "{}/night/1.png"),
        ("images/{}/1.jpg", "masks/{}/1.png"),
        ("images/train/{}/1.jpg", "masks/train/{}/1.png"),
        ("{}/images/1.jpg", "{}/masks/1.png"),
        ("train/{}/1.png", "train/{}/1_mask.png"),
    ],
)
def test_sub_folders_are_classes(tmp_path, image, truth):
    root = tree(tmp_path, image, truth, names=("dog", "cat"))
    stem = image.rsplit(".", 1)[0]
    assert list(listed(open_folder(root)).items()) == [
        ("cat", [stem.format("cat")]),
        ("dog", [stem.format("dog")]),
    ]


def test_splits_are_no_classes_unless_there_are_others(tmp_path):
    for split in ("train", "val"):
        tree(tmp_path / "a" / split)
        tree(tmp_path / "b" / split)
    tree(tmp_path / "b" / "tram")
    assert len(open_folder(tmp_path / "a").samples["a"]) == 6
    assert open_folder(tmp_path / "b").classes == ("train", "tram", "val")


def test_a_class_may_be_called_as_a_folder_of_masks(tmp_path):
    for name in ("mask", "cat"):
        tree(tmp_path / name)
    assert open_folder(tmp_path).classes == ("cat", "mask")


def test_a_picture_may_be_called_as_a_mask(tmp_path):
    root = tree(tmp_path / "r", "images/{}.jpg", "masks/{}.png", names=("x", "x_mask"))
    areas = [sample.read().truth.mask.sum() for sample in open_folder(root).samples["r"]]
    assert areas == [10, 11]


def test_the_order_and_the_digest_do_not_depend_on_the_disk(tmp_path):
    names = ["10", "2", "b/1", "a-1", "a/1"]
    roots = [tree(tmp_path / str(k) / "r" / "thing", names=names[::step]) for k, step in enumerate((1, -1))]
    first, second = (open_folder(root.parent) for root in roots)
    assert [sample.name for sample in first.samples["thing"]] == [
        "thing/" + name for name in ("10", "2", "a-1", "a/1", "b/1")
    ]
    assert first.digest == second.digest
    assert pickle.loads(pickle.dumps(first)) == first


def test_hidden_files_and_loops_of_links_are_passed_over(tmp_path):
    root = tree(tmp_path / "r")
    picture(root / ".thumbs" / "x.jpg")
    picture(root / "._a.jpg")
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "README.txt").write_text("x")
    assert len(open_folder(root).samples["r"]) == 3
    far = tree(tmp_path / "far" / "cat")
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "cat").symlink_to(far, target_is_directory=True)
    assert len(open_folder(linked).samples["cat"]) == 3


def test_only_some_classes_and_areas(tmp_path):
    for name in ("cat", "dog", "emu"):
        tree(tmp_path / name)
    mask(tmp_path / "emu" / "a.png", 0)
    mask(tmp_path / "dog" / "b.png", 5)
    assert listed(open_folder(tmp_path, classes=["emu", "cat"])) == {
        "cat": ["cat/a", "cat/b", "cat/c"],
        "emu": ["emu/b", "emu/c"],
    }
    assert listed(open_folder(tmp_path, classes=["dog"], min_area=5))["dog"] == ["dog/a", "dog/b", "dog/c"]
    assert listed(open_folder(tmp_path, classes=["dog"], min_area=6))["dog"] == ["dog/a", "dog/c"]
    refused(tmp_path, "'cat' of", classes=["cat"], min_area=13)
    refused(tmp_path, "no class 'Cat'; expected one of 'cat', 'dog', 'emu'", classes=["Cat"])
    refused(tmp_path, "classes is empty", classes=[])
    refused(tmp_path, "min_area is 0", min_area=0)
    refused(tmp_path, "expected one of pairs, indexed, coco", layout="voc")


def test_soft_masks_need_a_threshold(tmp_path):
    root = tree(tmp_path)
    grey(root / "b.png", np.arange(192).reshape(SIZE))
    refused(root, "--mask-threshold")
    samples = open_folder(root, threshold=100).samples[tmp_path.name]
    assert [sample.read().truth.mask.sum() for sample in samples] == [10, 92, 12]
    refused(root, "threshold was given", layout="indexed", threshold=3)
    refused(root, "labels was given", layout="pairs", labels={1: "x"})
    refused(root, "give one kind", void=[1], threshold=3)


def test_what_is_missing(tmp_path):
    refused(tmp_path / "none", "does not exist")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no picture in it or below; expected files that end in .bmp, .jpeg, .jpg")
    (tmp_path / "note.txt").write_text("x")
    refused(tmp_path / "note.txt", "is not a folder; expected a folder of pictures")
    for k in range(5):
        picture(tmp_path / "plain" / f"{k}.jpg")
    refused(tmp_path / "plain", "5 (0.jpg, 1.jpg, 2.jpg, ...), but no masks")
    root = tree(tmp_path / "half")
    picture(root / "d.jpg")
    refused(root, "pictures without a mask, of 4 in all: 1 (d.jpg); expected one for each")
    other = tree(tmp_path / "other", "images/{}.jpg", "masks/{}.png")
    mask(other / "masks" / "d_mask.png")
    refused(other, "masks without a picture: 1 (masks/d_mask.png)")
    picture(other / "preview.png")
    refused(other, "1 (preview.png)")


def test_an_unreadable_folder(tmp_path):
    root = tree(tmp_path / "r")
    (root / "locked").mkdir(mode=0)
    if os.access(root / "locked", os.R_OK):
        pytest.skip("this user may read everything")
    refused(root, "cannot be listed")


def test_names_that_are_not_utf8(tmp_path):
    root = tree(tmp_path / "r")
    try:
        (root / "sub").mkdir()
        open(os.fsencode(root / "sub") + b"/\xff.jpg", "wb").close()
    except OSError:
        pytest.skip("this file system refuses such names itself")
    refused(root, "not UTF-8")


def test_what_is_there_twice(tmp_path):
    root = tree(tmp_path / "a", "images/{}.jpg", "masks/{}.png")
    picture(root / "images" / "b.jpeg")
    refused(root, "images/b.jpeg and images/b.jpg")
    root = tree(tmp_path / "b")
    picture(root / "b.bmp")
    refused(root, "b.bmp and b.jpg")
    root = tree(tmp_path / "c")
    mask(root / "b_mask.png")
    refused(root, "are masks of one name")
    root = tree(tmp_path / "d", "images/{}.jpg", "masks/{}.png")
    picture(root / "imgs" / "x.jpg")
    refused(root, "Both images and imgs could be the pictures")


def test_names_that_differ_in_case_only(tmp_path):
    root = tree(tmp_path / "a", names=("x", "X"))
    if len(list(root.iterdir())) != 4:
        pytest.skip("this file system ignores case itself")
    refused(root, "'x' of")
    tree(tmp_path / "b" / "cat", names=("1",))
    tree(tmp_path / "b" / "Cat", names=("2",))
    refused(tmp_path / "b", "differs from 'Cat' in upper and lower case only")


def test_masks_that_do_not_fit(tmp_path):
    root = tree(tmp_path / "a")
    mask(root / "b.png", size=(6, 8))
    message = refused(root, "is 8x6 pixels but its image is 16x12")
    assert str(root / "b.png") in message
    root = tree(tmp_path / "b")
    (root / "c.png").write_bytes((root / "c.png").read_bytes()[:50])
    refused(root, "c.png is damaged")
    root = tree(tmp_path / "c")
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)).save(root / "a.png")
    refused(root, "coloured")
    root = tree(tmp_path / "d")
    for name in "abc":
        mask(root / f"{name}.png", 0)
    refused(root, "'d' of")
    root = tree(tmp_path / "e" / "cat").parent
    tree(root)
    refused(root, "outside the folders of the classes")


def test_binary_masks_or_maps(tmp_path):
    """Where both would do, the user is asked."""
    several = tree(tmp_path / "several")
    mask(several / "b.png", value=3)
    mask(several / "c.png", value=5)
    refused(several, "binary masks or maps of classes")
    assert open_folder(several, layout="indexed").classes == ("class 3", "class 5")
    assert open_folder(several, layout="pairs").classes == ("several",)
    ones = tree(tmp_path / "ones")
    mask(ones / "b.png", value=1)
    assert open_folder(ones).classes == ("ones",)
    apart = tree(tmp_path / "apart" / "cat").parent
    for name in "abc":
        picture(apart / "dog" / f"{name}.jpg")
        mask(apart / "dog" / f"{name}.png", value=2)
    (apart / "classes.txt").write_text("cat\ndog\n")  # of folders, not of values
    assert open_folder(apart).classes == ("cat", "dog")
    high = tree(tmp_path / "high")
    label_map(high / "a.png", {10: 5, 200: 6})
    refused(high, "a.png holds 3 values, up to 200")


def test_real_pictures(data_dir):
    lists = open_folder(data_dir / "perseg")
    assert {name: len(samples) for name, samples in lists.samples.items()} == {"cat": 3, "duck_toy": 3}
    assert len(open_folder(data_dir / "fss1000_sample").samples["eiffel_tower"]) == 5
    assert len(open_folder(data_dir / "crackforest").samples["crackforest"]) == 59
    tiles = open_folder(data_dir / "mt_defects", threshold=1)
    assert {name: len(samples) for name, samples in tiles.samples.items()} == {
        **{"blowhole": 57, "break": 42, "crack": 28, "fray": 16},
        "uneven": 50,  # one of its 51 masks is empty
    }
    refused(data_dir / "mt_defects", "--mask-threshold")
    refused(data_dir / "bsds500", "no masks were found")
