from __future__ import annotations

import pickle

import numpy as np
import PIL.Image
import pytest
from folder_tree import refused

from softmatch_jax.data.folder import open_folder
from softmatch_jax.data.folder_names import read_yaml_names

SIZE = (20, 40)
HALF = "0.25 0.2 0.75 0.2 0.75 0.6 0.25 0.6"  # x 10 to 30, y 4 to 12
CORNER = "-0.1 -0.1 0.1 -0.1 0.1 0.1 -0.1 0.1"  # x 0 to 4, y 0 to 2


def made(root, labels, image="images/{}.jpg", place="labels/{}.txt", names="names: [cat, dog]\n"):
    for name, text in labels.items():
        for path in (root / image.format(name), root / place.format(name)):
            path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", SIZE[::-1], "grey").save(root / image.format(name))
        if text is not None:
            (root / place.format(name)).write_text(text)
    if names is not None:
        (root / "data.yaml").write_text(names)
    return root


LABELS = {"a": f"1 {HALF}\n0 {CORNER}\n1 {CORNER}\n", "b": f"1 {CORNER}", "c": "", "d": None}


@pytest.mark.parametrize(
    ("image", "place"),
    [
        ("images/{}.jpg", "labels/{}.txt"),
        ("images/train/{}.png", "labels/train/{}.txt"),
        ("train/images/{}.jpg", "train/labels/{}.txt"),
        ("JPEGImages/{}.jpg", "labels/{}.txt"),
        ("{}.jpg", "labels/{}.txt"),
        ("{}.jpg", "{}.txt"),
    ],
)
def test_polygons_of_a_class_are_united(tmp_path, image, place):
    root = made(tmp_path / "pets", LABELS, image, place)
    lists = open_folder(root)
    a, b = (image.rsplit(".", 1)[0].format(name) for name in "ab")
    names = {name: [sample.name for sample in samples] for name, samples in lists.samples.items()}
    assert list(names.items()) == [("cat", [a]), ("dog", [a, b])] and lists.name == "folder pets"
    expected = np.zeros(SIZE, bool)
    expected[:2, :4] = True
    assert np.array_equal(lists.samples["cat"][0].read().truth.mask, expected)
    expected[4:12, 10:30] = True
    assert np.array_equal(lists.samples["dog"][0].read().truth.mask, expected)
    assert pickle.loads(pickle.dumps(lists)) == lists
    assert [s.name for s in open_folder(root, classes=["dog"], min_area=9).samples["dog"]] == [a]


def test_names_from_other_files_or_none(tmp_path):
    root = made(tmp_path, LABELS, names=None)
    assert open_folder(root).classes == ("class 0", "class 1")
    (root / "labels" / "classes.txt").write_text("cat\ndog\n")
    assert open_folder(root).classes == ("cat", "dog")
    (root / "dataset.yaml").write_text("path: .\nnames:\n  0: tac\n  1: god\n")
    assert open_folder(root).classes == ("tac", "god")
    (root / "data.yaml").write_text("train: images\n")
    assert open_folder(root).classes == ("tac", "god")


@pytest.mark.parametrize(
    "text",
    [
        "names: [cat, 'big dog', \"o'x # 1\"]",
        "train: x\nnames: ['cat','big dog',\n  \"o'x # 1\",\n]\nnc: 3\n",
        'nc: 3  # three\nnames:\n- cat\n- big dog\n- "o\'x # 1"\nval: y',
        "names:  # of all\n  # first\n  - cat\n\n  - 'big dog' # second\n  - 'o''x # 1'\n",
        'names:\n  0: cat\n  1: big dog\n  2: "o\'x # 1"\n',
        'names: {0: cat, 1: "big dog", 2: "o\'x # 1"}\n',
        "\ufeff# made by hand\nnames :\r\n  '1': big dog\r\n  2: \"o'x # 1\"\r\n  0: cat",
    ],
)
def test_the_yaml_of_names(tmp_path, text):
    path = tmp_path / "data.yaml"
    path.write_text(text, encoding="utf-8")
    assert sorted((read_yaml_names(path) or {}).items()) == [(0, "cat"), (1, "big dog"), (2, "o'x # 1")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("names:\nnc: 0", "holds no names"),
        ("names: [a, b]\nnc: 3", "says nc: 3 but has 2 names"),
        ("names: [a, b", "open with [ and do not close"),
        ("names: [a, a]", "the name 'a' twice"),
        ("names: other.txt", "has 'other.txt' where the number of a class"),
        ("names:\n  0: a\n  0: b", "names class 0 twice"),
        ("names:\n  0:\n  1: b", "no name for class 0"),
        ("names:\n  -1: b", "where the number of a class"),
        ("names:\n  - a\n  b", "has 'b' in its list of names"),
    ],
)
def test_yaml_that_is_not_understood(tmp_path, text, words):
    refused(made(tmp_path, LABELS, names=text), words)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1 0.5 0.5 0.2 0.2", "a.txt, line 2, is a class and a box; boxes are not masks"),
        ("1 0.5 0.5", "has 2 numbers; expected x and y of at least three points"),
        (f"1 {HALF} 0.5", "has 9 numbers"),
        (f"2 {HALF}", "line 2, is of class 2, but"),
        (f"cat {HALF}", "begins with 'cat'; expected the number of a class"),
        (f"-1 {HALF}", "begins with '-1'"),
        (f"1.0 {HALF}", "begins with '1.0'"),
        (f"1 {HALF} 0.5 x", "holds a word that is no number"),
        (f"1 {HALF} 0.5 nan", "holds nan; expected fractions"),
        ("1 10 4 30 4 30 12", "holds 10; expected fractions of the picture's sides"),
        ("1 1.1 0.1 1.3 0.1 1.3 0.4", "lies at x 44 to 52 and y 2 to 8, wholly outside"),
    ],
)
def test_lines_that_are_wrong(tmp_path, line, words):
    refused(made(tmp_path, {"a": f"1 {HALF}\n{line}\n", "b": f"1 {HALF}"}), words)


def test_files_that_are_wrong(tmp_path):
    root = made(tmp_path / "a", LABELS)
    (root / "labels" / "z.txt").write_text("")
    refused(root, "label files without a picture: 1 (labels/z.txt)")
    root = made(tmp_path / "b", LABELS)
    PIL.Image.new("RGB", SIZE[::-1]).save(root / "images" / "a.png")
    refused(root, "2 (images/a.jpg, images/a.png) pictures; expected one", layout="yolo")
    root = made(tmp_path / "c", LABELS)
    (root / "images" / "a.txt").write_text(f"1 {HALF}")
    refused(root, "label files; expected one")
    root = made(tmp_path / "d", LABELS)
    (root / "labels" / "a.txt").write_bytes(b"1 \xff")
    refused(root, "not text in UTF-8")
    refused(made(tmp_path / "e", {"a": ""}), "no annotated picture")
    refused(made(tmp_path / "f", {"a": None}), "has no labels", layout="yolo")
    refused(made(tmp_path / "g", {"a": None}), "no masks were found")
    refused(made(tmp_path / "h", LABELS, names="names: [cat, Cat, c, d]"), "upper and lower case only")
    refused(made(tmp_path / "i", LABELS), "labels was given", layout="yolo", labels={1: "x"})
