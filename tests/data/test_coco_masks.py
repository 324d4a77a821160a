"""The objects of COCO's files, and class masks painted from them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.data.coco_instances import CocoPicture, Instance, read_instances
from softmatch_jax.data.coco_masks import Tally, paint_classes


def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def painted(instances, overlap="last"):
    tally = Tally()
    return paint_classes(CocoPicture("p", (20, 20), instances), overlap, tally), tally


def test_overlaps():
    small, large = Instance(1, 3, False, square(5, 5, 4)), Instance(2, 7, False, square(2, 2, 10))
    crowd = Instance(9, 1, True, {"counts": [0, 400], "size": [20, 20]})
    for overlap, order, hidden in (
        ("last", [small, large, crowd], True),
        ("last", [crowd, large, small], False),
        ("smallest", [small, large, crowd], False),
        ("smallest", [large, small, crowd], False),
    ):
        labels, _ = painted(order, overlap)
        expected = np.full((20, 20), 1)
        expected[2:12, 2:12] = 7
        if not hidden:
            expected[5:9, 5:9] = 3
        np.testing.assert_array_equal(labels, expected)


def test_an_instance_in_two_pieces():
    labels, _ = painted([Instance(1, 4, False, square(1, 1, 3) + square(3, 3, 5))])
    assert (labels == 4).sum() == 9 + 25 - 1


def test_polygons_that_are_not_inside_are_counted():
    polygons = square(15, 15, 10) + square(30, 30, 5) + square(0, 0, 20.5) + [[1, 2, 3, 4]] + square(1, 1, 2)
    labels, tally = painted([Instance(1, 2, False, polygons)])
    assert (tally.clipped, tally.outside, tally.degenerate) == (1, 1, 1)
    assert (labels == 2).all()


def test_a_bad_segmentation_is_named():
    for segmentation, message in (
        ({"counts": [400], "size": [10, 40]}, r"run lengths are for the size \[10, 40\]"),
        ({"counts": [401]}, "add up to 401 pixels; expected 20x20 = 400"),
        ({"counts": None}, "the run lengths are None; expected a list"),
        (None, "neither polygons nor run lengths"),
        ([["a"] * 6], "flat list"),
    ):
        with pytest.raises(
            InputError, match=f"Annotation 12 of p, 20x20 pixels, cannot be used .*: .*{message}"
        ):
            painted([Instance(12, 1, False, segmentation)])


def document():
    """Categories have gaps in their ids and are not in order, as an export may have them."""
    return {
        "categories": [{"id": 2 * k, "name": f"class {k}"} for k in range(80, 0, -1)],
        "images": [{"id": 5, "file_name": "b.jpg", "height": 20, "width": 30}],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 6, "segmentation": square(0, 0, 4)}],
    }


def test_reading_instances(tmp_path):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document()))
    names, (picture,) = read_instances(path)
    assert names == tuple(f"class {k}" for k in range(1, 81))
    assert (picture.name, picture.size) == ("b", (20, 30))
    assert picture.instances == [Instance(1, 3, False, square(0, 0, 4))]


def change(key, **entry):
    def apply(content):
        content[key].append({**content[key][0], **entry})

    return apply


def drop(key, name):
    return lambda content: content[key][0].pop(name)


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (change("images", id=6), r"lists the file name 'b' 2 times"),
        (change("images", file_name="c.jpg"), "image 5 has its id twice"),
        (change("images", id=6, file_name="c.jpg", height=0), "is 30x0 pixels"),
        (change("annotations", id=2, category_id=7), "annotation 2 is of image 5 and category 7"),
        (change("annotations", id=2, image_id=7), "annotation 2 is of image 7"),
        (change("annotations"), "has the annotation 1 twice"),
        (lambda content: content["categories"].pop(), "has 79 categories; expected the 80"),
        (lambda content: content.pop("images"), "lacks an entry 'images'"),
        (drop("annotations", "segmentation"), "lacks an entry 'segmentation'"),
        (lambda content: content.update(images=3), "not as COCO writes"),
        (lambda content: content.update(images=["b.jpg"]), "not as COCO writes"),
    ],
)
def test_bad_annotations(tmp_path, alter, message):
    content, path = document(), tmp_path / "instances.json"
    alter(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"instances.json.*{message}"):
        read_instances(path)


def test_annotations_that_are_cut_short(tmp_path):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document())[:-20])
    with pytest.raises(InputError, match=r"not valid JSON at line 1, .*cut short"):
        read_instances(path)
    path.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(InputError, match="not text in UTF-8; expected COCO's annotations"):
        read_instances(path)
    with pytest.raises(InputError, match=r"cannot be read .*expected COCO's annotations"):
        read_instances(tmp_path / "absent.json")
