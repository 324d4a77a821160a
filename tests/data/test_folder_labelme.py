from __future__ import annotations

import base64
import io
import json
import pickle

import numpy as np
import PIL.Image
import pytest
from folder_tree import refused

from softmatch_jax.data.folder import open_folder

SIZE = (24, 30)


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", SIZE[::-1], "grey").save(path)


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def png(mask):
    buffer = io.BytesIO()
    PIL.Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def document(shapes, image="a.jpg", **more):
    return {
        **{"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": image, "imageData": None},
        **{"imageHeight": SIZE[0], "imageWidth": SIZE[1]},
        **more,
    }


def made(root, shapes, name="a", **more):
    picture(root / f"{name}.jpg")
    (root / f"{name}.json").write_text(json.dumps(document(shapes, f"{name}.jpg", **more)))
    return root


def truth(root, label, **options):
    (sample,) = open_folder(root, **options).samples[label]
    return sample.read().truth


TRIANGLE = [[2, 2], [12.5, 3], [6, 11]]


def test_shapes_of_a_label_are_united(tmp_path):
    root = made(tmp_path / "r", [shape("cat", [[20, 9], [15, 4]], "rectangle"), shape(" cat", TRIANGLE)])
    mask = truth(root, "cat").mask
    assert mask[4:9, 15:20].all() and not mask[9, 15] and mask[4, 6] and not mask[12].any()
    assert mask.sum() - 25 == pytest.approx(0.5 * abs(10.5 * 9 - 4 * 1), abs=4)


def test_circles_and_masks(tmp_path):
    stamp = np.random.default_rng(0).random((5, 7)) < 0.5
    root = made(
        tmp_path,
        [
            shape("sun", [[8.5, 9.5], [8.5, 15.5]], "circle"),
            shape("spots", [[20, 3], [26, 7]], "mask", mask=png(stamp)),
        ],
    )
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    assert np.array_equal(truth(root, "sun").mask, (columns - 8.5) ** 2 + (rows - 9.5) ** 2 <= 36)
    expected = np.zeros(SIZE, bool)
    expected[3:8, 20:27] = stamp
    lists = open_folder(root)
    assert np.array_equal(lists.samples["spots"][0].read().truth.mask, expected)
    assert pickle.loads(pickle.dumps(lists)) == lists and lists.classes == ("spots", "sun")


def test_what_is_labelled_ignore_does_not_count(tmp_path):
    ignored = shape("__ignore__", [[0, 0], [10, 10]], "rectangle")
    root = made(tmp_path, [shape("cat", [[5, 5], [15, 15]], "rectangle"), ignored])
    found = truth(root, "cat")
    assert found.mask.sum() == 100 and found.void.sum() == 75 and not (found.mask & found.void).any()
    made(tmp_path / "only", [ignored])
    refused(tmp_path / "only", "no annotated picture")


def test_pictures_of_several_folders(tmp_path):
    made(tmp_path, [shape("cat", TRIANGLE)], "a")
    made(tmp_path / "sub", [shape("cat", TRIANGLE), shape("dog", TRIANGLE)], "a")
    made(tmp_path, [], "empty")
    picture(tmp_path / "unlabelled.jpg")
    picture(tmp_path / "photos" / "z.png")
    (tmp_path / "json").mkdir()
    content = document([shape("dog", TRIANGLE)], "..\\photos\\z.png")
    (tmp_path / "json" / "z.json").write_text(json.dumps(content))
    lists = open_folder(tmp_path)
    names = {name: [sample.name for sample in samples] for name, samples in lists.samples.items()}
    assert names == {"cat": ["a", "sub/a"], "dog": ["photos/z", "sub/a"]}


def test_a_renamed_picture_is_found_beside_its_file(tmp_path):
    root = made(tmp_path, [shape("cat", TRIANGLE)])
    (root / "a.json").write_text(json.dumps(document([shape("cat", TRIANGLE)], "C:\\old\\IMG_1.jpg")))
    assert truth(root, "cat").mask.any()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (shape("cat", [[1, 2]], "point"), "shapes[1] (cat) is a point, which has no area; expected polygon"),
        (shape("cat", TRIANGLE, "linestrip"), "is a linestrip"),
        (shape("cat", TRIANGLE[:2]), "shapes[1] (cat) has 4 numbers; expected x and y of at least three"),
        (shape("cat", [[x + 40, y] for x, y in TRIANGLE]), "wholly outside its picture of 30x24"),
        (shape("cat", [[1, 2, 3]]), "has no points"),
        (shape("cat", None), "has no points"),
        (shape("cat", [[1, "2"]] * 3), "holds '2'"),
        (shape("", TRIANGLE), "shapes[1] has no label"),
        (3, "shapes[1] has no label"),
        (shape("Dog", TRIANGLE), "differs from 'Dog' in upper and lower case only"),
        (shape("cat", [[1, 2]], "rectangle"), "has 1 points; expected two corners"),
        (shape("cat", TRIANGLE, "circle"), "has 3 points; expected the centre"),
        (shape("cat", [[90, 90], [91, 91]], "circle"), "wholly outside"),
        (shape("cat", [[1, 1], [4, 4]], "mask"), "has no readable mask"),
        (shape("cat", [[1, 1], [4, 4]], "mask", mask="AAAA"), "has no readable mask"),
        (
            shape("cat", [[1, 1], [4, 4]], "mask", mask=png(np.ones((3, 4), bool))),
            "has a mask of 4x3 pixels; expected the 4x4",
        ),
        (
            shape("cat", [[28, 1], [30, 2]], "mask", mask=png(np.ones((2, 3), bool))),
            "inside its picture of 30x24",
        ),
    ],
)
def test_shapes_that_are_wrong(tmp_path, wrong, words):
    refused(made(tmp_path, [shape("dog", TRIANGLE), wrong]), words)


def test_files_that_are_wrong(tmp_path):
    good = [shape("cat", TRIANGLE)]
    refused(made(tmp_path / "a", good, imageHeight=25), "a.jpg is 30x25 pixels but it is 30x24")
    root = made(tmp_path / "b", good)
    made(root, good, "b")
    (root / "a.jpg").unlink()
    refused(root, "labelme files whose picture is missing: 1 (a.json)")
    root = made(tmp_path / "c", good)
    (root / "b.json").write_text(json.dumps(document(good)))
    refused(root, "a.jpg of")
    root = made(tmp_path / "d", good)
    (root / "other.json").write_text('{"a": 1}')
    refused(root, "other.json is not a file of labelme")
    root = made(tmp_path / "e", good)
    (root / "a.json").write_text((root / "a.json").read_text()[:-30])
    refused(root, "a.json is not valid JSON at line 1")
    (root / "a.json").write_bytes(b'{"shapes": "\xff"}')
    refused(root, "not text in UTF-8")
    (root / "a.json").unlink()
    refused(root, "has no JSON file", layout="labelme")
    root = made(tmp_path / "f", [shape("cat", [[1.6, 1], [2.4, 1], [2.4, 9]])])
    refused(root, "'cat' of")
    refused(made(tmp_path / "g", good), "threshold was given", threshold=4, layout="labelme")
