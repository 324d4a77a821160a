from __future__ import annotations

import json
import pickle

import numpy as np
import PIL.Image
import pytest
from folder_tree import refused

from softmatch_jax.data.folder import open_folder
from softmatch_jax.data.outlines import decode_rle

SIZE = (12, 16)
BOX = [2, 3, 8, 3, 8, 9, 2, 9]  # 36 pixels


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", SIZE[::-1], "grey").save(path)


def box(x0, y0, x1, y1):
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def drawn(*boxes):
    mask = np.zeros(SIZE, bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def runs(mask):
    """Run lengths down the columns, outside first."""
    lengths, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            lengths, value = [*lengths, 0], pixel
        lengths[-1] += 1
    return lengths


def document():
    return {
        "info": {},
        "images": [
            {"id": 7, "file_name": "b.jpg", "height": 12, "width": 16},
            {"id": 3, "file_name": "a.jpg", "height": 12, "width": 16},
            {"id": "x", "file_name": "c.jpg"},
            {"id": 9, "file_name": "not there.jpg"},
        ],
        "categories": [
            {"id": 5, "name": "cat"},
            {"id": 2, "name": "dog", "supercategory": "animal"},
            {"id": 4, "name": "never"},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 5, "iscrowd": 0, "segmentation": [BOX]},
            {"id": 2, "image_id": 7, "category_id": 5, "segmentation": [box(6, 7, 12, 11), box(0, 0, 2, 2)]},
            {"id": 3, "image_id": 7, "category_id": 2, "segmentation": [box(-5, -5, 3, 2)]},
            {
                **{"id": 4, "image_id": 7, "category_id": 2, "iscrowd": 1},
                "segmentation": {"size": [12, 16], "counts": runs(drawn((1, 0, 9, 6)))},
            },
            {
                **{"id": 5, "image_id": 3, "category_id": 5},
                "segmentation": {"size": [12, 16], "counts": runs(drawn((3, 4, 5, 6)))},
            },
            # 28 outside, 3 inside, 161 outside in COCO's text form
            {
                **{"id": 6, "image_id": "x", "category_id": 2},
                "segmentation": {"size": [12, 16], "counts": "l03Q5"},
            },
            {"id": 7, "image_id": 3, "category_id": 2, "iscrowd": 1, "segmentation": [BOX]},
        ],
    }


def made(root, content, place="annotations.json", images="{}.jpg"):
    for name in "abcd":
        picture(root / images.format(name))
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (root / place).write_bytes(text)
    return root


@pytest.mark.parametrize(
    ("place", "images"),
    [
        ("annotations.json", "{}.jpg"),
        ("annotations/instances.json", "images/{}.jpg"),
        ("annotations/instances_train2017.json", "train2017/{}.jpg"),
        ("annotations/instances_train2017.json", "images/train2017/{}.jpg"),
        ("_annotations.coco.json", "some/where/{}.jpg"),
    ],
)
def test_instances_are_united(tmp_path, place, images):
    root = made(tmp_path / "pets", document(), place, images)
    lists = open_folder(root)
    a, b, c = (images.rsplit(".", 1)[0].format(name) for name in "abc")
    names = {name: [sample.name for sample in samples] for name, samples in lists.samples.items()}
    assert list(names.items()) == [("dog", [b, c]), ("cat", [a, b])]  # by id
    assert lists.name == "folder pets"
    cats = [sample.read().truth for sample in lists.samples["cat"]]
    assert np.array_equal(cats[0].mask, drawn((3, 4, 5, 6))) and cats[0].void is None
    assert np.array_equal(cats[1].mask, drawn((2, 3, 8, 9), (6, 7, 12, 11), (0, 0, 2, 2)))
    dogs = [sample.read().truth for sample in lists.samples["dog"]]
    assert np.array_equal(dogs[0].mask, drawn((0, 0, 3, 2)))
    assert np.array_equal(dogs[0].void, drawn((1, 0, 9, 6)) & ~dogs[0].mask)
    assert np.argwhere(dogs[1].mask).tolist() == [[4, 2], [5, 2], [6, 2]]
    given = open_folder(root / place)
    assert given.samples == lists.samples and given.digest == lists.digest
    assert pickle.loads(pickle.dumps(lists)) == lists
    assert hash(lists.samples["cat"][0].truth) == hash(given.samples["cat"][0].truth)


def test_outlines_are_filled_as_pycocotools_does(tmp_path):
    """One polygon of those in test_outlines.py, where pycocotools' mask is from."""
    PIL.Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg")
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[2.3, 1.7, 27.9, 6.2, 14.1, 18.8]]}
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    packed = "n11c02N1O2O0O1O2N1O2O0O2N0000O1O2N1O1O1O1O1O2N1O1O10R1"
    mask = open_folder(tmp_path).samples["cat"][0].read().truth.mask
    np.testing.assert_array_equal(mask, decode_rle(packed, (20, 30)))


def test_some_classes_and_areas(tmp_path):
    root = made(tmp_path, document())
    assert open_folder(root, classes=["cat"]).classes == ("cat",)
    assert [s.name for s in open_folder(root, classes=["cat"], min_area=5).samples["cat"]] == ["b"]
    refused(root, "'dog' of", min_area=7)
    refused(root, "no class 'cow'", classes=["cow"])
    refused(root, "'never' of", classes=["never"])
    refused(root, "void was given", void=[3])
    refused(root / "annotations.json", "labels was given", labels={1: "x"})
    refused(root / "annotations.json", "is a file; expected a folder", layout="yolo")


def test_names_of_pictures_with_folders(tmp_path):
    content = document()
    for entry in content["images"]:
        entry["file_name"] = "val\\" + entry["file_name"]
    root = made(tmp_path, content, images="images/val/{}.jpg")
    for name in "abc":
        picture(root / "images" / "train" / f"{name}.jpg")
    assert open_folder(root).samples["dog"][0].name == "images/val/b"
    made(root, document())
    for name in "abc":
        (root / f"{name}.jpg").unlink()
    refused(root, "images/train/b.jpg and images/val/b.jpg")


def change(path, value):
    """Sets a place such as ``annotations.0.image_id``; ``None`` takes it away."""
    content = document()
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    here = content
    for step in way:
        here = here[step]
    if value is None:
        del here[last]
    else:
        here[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("categories", None, "not a file of COCO; expected an object with the lists images"),
        ("images", {}, "not a file of COCO"),
        ("annotations.1.image_id", 99, "annotations[1] is of image 99, which is not in images"),
        ("annotations.1.image_id", None, "annotations[1].image_id is missing"),
        ("annotations.1.image_id", True, "annotations[1].image_id is True"),
        ("annotations.1.category_id", 6, "annotations[1] is of category 6"),
        ("annotations.1.category_id", "cat", "annotations[1].category_id is 'cat'; expected a whole number"),
        ("annotations.1", 3, "annotations[1].category_id is missing"),
        ("annotations.1.segmentation", None, "annotations[1] has no segmentation; a box is not a mask"),
        ("annotations.1.segmentation", [], "has no segmentation"),
        ("annotations.1.segmentation", "x", "expected polygons or run lengths"),
        (
            "annotations.1.segmentation",
            [BOX, [1, 2, 3, 4]],
            "segmentation[1] has 4 numbers; expected x and y",
        ),
        ("annotations.1.segmentation", [[*BOX, 4]], "segmentation[0] has 9 numbers"),
        ("annotations.1.segmentation", [1, 2, 3, 4, 5, 6], "segmentation[0] is no list"),
        ("annotations.1.segmentation", [[*BOX, 4, "a"]], "holds 'a'; expected positions in pixels"),
        ("annotations.1.segmentation", [[*BOX, 4, float("nan")]], "holds nan"),
        ("annotations.1.segmentation", [[*BOX, 4, 1e20]], "holds 1e+20"),
        (
            "annotations.1.segmentation",
            [box(20, 2, 30, 5)],
            "segmentation[0] lies at x 20 to 30 and y 2 to 5, wholly outside its picture of 16x12",
        ),
        ("annotations.1.segmentation", [box(1, -9, 3, -2)], "wholly outside"),
        (
            "annotations.1.segmentation",
            [[*BOX, 4, 1601]],
            "reaches as far as 1601 pixels; expected pixels of its picture of 16x12",
        ),
        ("annotations.4.segmentation.size", [16, 12], "has the size [16, 12]"),
        (
            "annotations.4.segmentation.counts",
            [1, 2],
            "annotations[4].segmentation: the run lengths add up to 3",
        ),
        (
            "annotations.4.segmentation.counts",
            None,
            "the run lengths add up to 0 pixels",
        ),
        ("annotations.5.segmentation.counts", "é", "annotations[5].segmentation: the run lengths hold"),
        ("images.0.file_name", "lost.jpg", "annotated pictures missing: 1 (lost.jpg)"),
        ("images.0.file_name", "a.jpg", "'a' of"),
        ("images.0.file_name", "../b.jpg", "missing: 1 (../b.jpg)"),
        ("images.0.file_name", "", "images[0].file_name is ''"),
        ("images.0.height", 16, "b.jpg is 16x16 pixels but it is 16x12"),
        ("images.0.id", 3, "images[1] has the id 3"),
        ("categories.0.name", "dog", "'dog' of"),
        ("categories.0.name", "Dog", "upper and lower case only"),
        ("categories.0.name", 3, "categories[0].name is 3; expected a text"),
        ("categories.0.id", 2, "categories[1] has the id 2 of 'cat'"),
        ("annotations", [], "no annotated picture"),
    ],
)
def test_files_that_are_wrong(tmp_path, path, value, words):
    refused(made(tmp_path, change(path, value)), words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps(document()).encode()[:-40], "not valid JSON at line 1, column"),
        (json.dumps(document()).encode().replace(b"cat", b"c\xe4t", 1), "not text in UTF-8"),
        (b'["images", "annotations"]', "not a file of COCO"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_files_that_are_damaged(tmp_path, text, words):
    root = made(tmp_path, text)
    refused(root / "annotations.json", words)


def test_several_files(tmp_path):
    root = made(tmp_path, document())
    made(root, document(), "annotations/instances_val.json")
    refused(root, "expected one JSON file of COCO")
    assert open_folder(root / "annotations" / "instances_val.json").classes == ("dog", "cat")
    refused(made(tmp_path / "none", b"{}"), "has none; expected one JSON file of COCO", layout="coco")


def test_several_layouts(tmp_path):
    root = made(tmp_path, document())
    PIL.Image.new("L", SIZE[::-1]).save(root / "a.png")
    refused(
        root,
        "fits several layouts: JSON files of COCO, 1 (annotations.json) (coco); masks, 1 (a.png) (pairs)",
    )
    assert open_folder(root, layout="coco", classes=["dog"]).classes == ("dog",)
