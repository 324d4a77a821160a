"""Folders of pictures with maps of classes, and the names of their values."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
from folder_tree import label_map, listed, picture, refused, tree

from softmatch_jax.data.folder import open_folder


def street(root, image="images/{}.jpg", truth="masks/{}.png"):
    for name, areas in {"a": {1: 30, 3: 4, 255: 9}, "b": {1: 3, 2: 50}, "c": {3: 8, 255: 20}}.items():
        picture(root / image.format(name))
        label_map(root / truth.format(name), areas)
    return root


@pytest.mark.parametrize(
    ("image", "truth"),
    [
        ("images/{}.jpg", "masks/{}.png"),
        ("val/{}.jpg", "valannot/{}.png"),
        ("{}.jpg", "{}.png"),
        ("train/images/{}.png", "train/labels/{}.png"),
    ],
)
def test_maps_without_names(tmp_path, image, truth):
    lists = open_folder(street(tmp_path, image, truth))
    a, b, c = (image.rsplit(".", 1)[0].format(name) for name in "abc")
    assert list(listed(lists).items()) == [("class 1", [a, b]), ("class 2", [b]), ("class 3", [a, c])]
    truth = lists.samples["class 3"][0].read().truth
    assert truth.mask.sum() == 4 and truth.void.sum() == 9


def test_palettes(tmp_path):
    root = street(tmp_path)
    for path in (root / "masks").iterdir():
        with PIL.Image.open(path) as opened:
            values = opened.copy()
        values.putpalette(list(np.random.default_rng(0).permutation(768) % 256))
        values.save(path)
    assert open_folder(root).classes == ("class 1", "class 2", "class 3")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "background\nroad\ncar\ntree\n"),
        ("labels.txt", "__ignore__\n_background_\nroad\ncar\r\ntree\n\n"),
        ("classes.json", '{"1": "road", "2": "car", "3": "tree", "0": "background"}'),
        ("classes.json", '["background", "road", "car", "tree", "bus"]'),
        ("classes.txt", "\ufeffbackground\nroad\ncar\ntree\nvoid\n"),
    ],
)
def test_names_from_a_file(tmp_path, name, text):
    root = street(tmp_path)
    (root / name).write_text(text, encoding="utf-8")
    lists = open_folder(root)
    assert lists.classes == ("road", "car", "tree")
    assert [sample.read().truth.mask.sum() for sample in lists.samples["road"]] == [30, 3]


def test_value_0_is_a_class_if_it_is_named_so(tmp_path):
    root = street(tmp_path)
    names = {0: "sky", 1: "road", 2: "Void", 3: "tree"}
    lists = open_folder(root, labels=names)
    assert lists.classes == ("sky", "road", "tree")
    assert [s.read().truth.mask.sum() for s in lists.samples["sky"]] == [192 - 43, 192 - 53, 192 - 28]
    assert lists.samples["sky"][1].read().truth.void.sum() == 50
    (root / "classes.txt").write_text("sky\nroad\ncar\ntree\n")
    assert open_folder(root).classes == ("sky", "road", "car", "tree")


def test_void_values(tmp_path):
    root = street(tmp_path)
    lists = open_folder(root, void=[2])
    assert lists.classes == ("class 1", "class 3")
    assert lists.samples["class 1"][1].read().truth.void.sum() == 50
    assert open_folder(root, labels={1: "a", 2: "b", 3: "c", 255: "edge"}).classes == ("a", "b", "c", "edge")
    assert open_folder(root, void=[0]).samples["class 2"][0].read().truth.void.sum() == 192 - 53


def test_what_values_mean_enters_the_digest(tmp_path):
    """The same pictures of the same classes, but other masks."""
    root = tmp_path / "street"
    for name in ("a", "b"):
        picture(root / "images" / f"{name}.jpg")
        label_map(root / "masks" / f"{name}.png", {1: 30, 2: 20})
    named = [open_folder(root, labels=names) for names in ({1: "x", 2: "y"}, {1: "y", 2: "x"})]
    assert len({lists.digest for lists in named}) == 2
    plain = open_folder(root, layout="indexed", classes=["class 1"])
    assert plain.digest != open_folder(root, classes=["class 1"], void=[2]).digest
    assert plain.digest == open_folder(root, layout="indexed", classes=["class 1"]).digest


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"labels": {1: "road", 2: "car"}},
            "holds the value 3, which labels does not name (it has 1 road, 2 car)",
        ),
        ({"labels": {1: "road", 2: "road", 3: "x"}}, "expected different names"),
        ({"labels": {1: "road", 2: "Road", 3: "x"}}, "upper and lower case only"),
        ({"labels": {1: "road", 2: " ", 3: "x"}}, "different names"),
        ({"labels": {0: "background"}}, "besides background and void"),
        ({"labels": {1: "road", 256: "x"}}, "labels has the value 256"),
        ({"void": [-1]}, "void has the value -1"),
        ({"labels": {1: "road"}, "void": [1]}, "is void and named 'road'"),
        ({"classes": ["class 7"]}, "no class 'class 7'"),
        ({"layout": "pairs"}, "distinct values"),
    ],
)
def test_maps_and_names_that_do_not_fit(tmp_path, options, words):
    refused(street(tmp_path), words, **options)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("classes.txt", b"background\nroad\n", "classes.txt does not name (it has 1 road)"),
        ("classes.txt", b"a\n\nb\n", "no name for class 1"),
        ("classes.txt", b"a\nb\nb\n", "the name 'b' twice"),
        ("classes.txt", b"", "holds no names"),
        ("classes.txt", b"a\nb\xff\n", "not text in UTF-8"),
        ("classes.json", b'{"one": "a"}', "has 'one' where the number"),
        ("classes.json", b'{"1": 2}', "no name for class 1"),
        ("classes.json", b'"a"', "holds no names"),
        ("classes.json", b'{"1": "a", "01": "b"}', "names class 1 twice"),
        ("classes.json", b'{"1": "a"', "not valid JSON at line 1"),
    ],
)
def test_files_of_names_that_do_not_fit(tmp_path, name, text, words):
    root = street(tmp_path)
    (root / name).write_bytes(text)
    refused(root, words)


def test_two_files_of_names(tmp_path):
    root = street(tmp_path)
    for name in ("classes.txt", "labels.txt"):
        (root / name).write_text("a\nb\nc\nd\n")
    refused(root, "expected one of them")


def test_a_map_of_another_size(tmp_path):
    root = street(tmp_path)
    label_map(root / "masks" / "b.png", {1: 5}, size=(6, 8))
    refused(root, "b.png is 8x6 pixels but its image is 16x12", layout="indexed")


def test_a_jpeg_is_no_map(tmp_path):
    root = tree(tmp_path, "images/{}.jpg", "masks/{}.jpg")
    refused(root, "JPEG", layout="indexed")


def test_real_maps(data_dir):
    names = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "person", "bike"]
    lists = open_folder(data_dir / "camvid", labels=dict(enumerate(names)), void=[11])
    assert lists.classes == tuple(names)
    assert len(lists.samples["sky"]) == 467 and len(lists.samples["fence"]) == 274
    truth = lists.samples["sky"][0].read().truth
    assert truth.mask[:100].mean() > 0.2 and not truth.mask[-100:].any() and truth.void.any()
