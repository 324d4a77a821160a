from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softmatch_jax._checks import InputError
from softmatch_jax.data import annotation_files
from softmatch_jax.data.annotation_files import read_annotations, write_annotations
from softmatch_jax.prompting import Box, MaskAnnotation, Points, Polyline, Scribbles

coordinate = st.floats(-1e6, 1e6, allow_nan=False)
xy = st.tuples(coordinate, coordinate)
polylines = st.builds(Polyline, st.lists(xy, min_size=1, max_size=4), st.floats(1e-3, 1e3), st.booleans())
scribbles = st.builds(Scribbles, st.lists(polylines, min_size=1, max_size=3))
clicks = st.tuples(st.lists(xy, min_size=1, max_size=4), st.lists(xy, max_size=3)).map(
    lambda p: Points(p[0] + p[1], (True,) * len(p[0]) + (False,) * len(p[1]))
)
boxes = st.tuples(xy, st.floats(1, 99), st.floats(1, 99)).map(
    lambda b: Box(b[0][0] / 2, b[0][1] / 2, b[0][0] / 2 + b[1], b[0][1] / 2 + b[2])
)
names = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)


def document(*entries, **fields):
    return {"softmatch": 1, "annotations": list(entries)} | fields


def entry(**fields):
    return {"class": "duck"} | fields


@pytest.fixture
def read(tmp_path):
    def read_text(content, **options):
        path = tmp_path / "a.json"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_annotations(path, **options)

    return read_text


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(annotations=st.dictionaries(names, scribbles | clicks | boxes, max_size=3))
def test_reading_gives_what_was_written(tmp_path, annotations):
    path = tmp_path / "a.json"
    write_annotations(path, annotations, (480, 640), image="a.jpg")
    assert read_annotations(path, size=(480, 640)) == annotations
    assert list(read_annotations(path)) == list(annotations)  # in order
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_file_written_by_hand(read):
    stroke = {"points": [[1, 2.5], [3, 4]]}
    got = read(
        document(
            entry(strokes=[stroke], points=[[5, 6]], negative_points=[[7, 8]]),
            {"class": "pond", "box": [0, 1, 20, 30]},
            {"class": "reed", "points": [[1, 1]], "negative_points": [[2, 2]]},
            size=[2000, 100],
        )
    )
    assert got == {
        "duck": Scribbles(
            (
                Polyline(((1, 2.5), (3, 4)), 8, True),
                Polyline(((5, 6),), 20, True),  # a click's disc in a picture of 2000 pixels
                Polyline(((7, 8),), 20, False),
            )
        ),
        "pond": Box(0, 1, 20, 30),
        "reed": Points(((1, 1), (2, 2)), (True, False)),
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "not text in UTF-8"),
        ('{"softmatch": 1,\n "annotations": [,]}', "line 2, column 18"),
        ("[" * 100_000, "nested too deeply|line 1"),
        ('{"softmatch": 1, "annotations": [' + "9" * 5000 + "]}", "endless number"),
        ('{"softmatch": 1, "softmatch": 1}', '"softmatch" occurs twice'),
        ("[]", r"The document is \[\]"),
        ({"annotations": []}, "softmatch is missing"),
        ({"softmatch": 2, "annotations": []}, "softmatch is 2"),
        ({"softmatch": True, "annotations": []}, "softmatch is true"),
        ({"softmatch": 1}, "annotations is missing; expected a list"),
        (document(picture="a"), 'unknown key "picture"'),
        (document(image=3), "image is 3"),
        (document(size=[640]), "whole pixels"),
        (document(size=[640, 0.5]), "whole pixels"),
        (document(7), r"annotations\[0\] is 7"),
        (document({"points": [[1, 2]]}), r"annotations\[0\].class is missing"),
        (document({"class": " ", "points": [[1, 2]]}), r"annotations\[0\].class"),
        (document(entry(points=[[1, 2]]), entry(points=[[1, 2]])), r'annotations\[1\].class is "duck"'),
        (document(entry(colour=1)), r'annotations\[0\] has the unknown key "colour"'),
        (document(entry()), r"annotations\[0\] marks nothing"),
        (document(entry(strokes=[{"width": 8}])), r"strokes\[0\].points is missing"),
        (document(entry(strokes=[{"points": []}])), r"strokes\[0\].points is empty"),
        (
            document(entry(strokes=[{"points": [[0, 0]], "pen": 1}])),
            r'strokes\[0\] has the unknown key "pen"',
        ),
        (document(entry(strokes=[{"points": [[0, 0]], "width": 0}])), r"strokes\[0\].width is 0"),
        (document(entry(strokes=[{"points": [[0, 0]], "width": "8"}])), r'strokes\[0\].width is "8"'),
        (document(entry(strokes=[{"points": [[0, 0]], "positive": 1}])), r"strokes\[0\].positive is 1"),
        (document(entry(strokes=[{"points": [[0, 9e9]]}])), r"annotations\[0\].strokes\[0\]: .*9e\+09"),
        (
            document(entry(strokes=[{"points": [[0, 0]]}] * 2 + [{"points": [[0, 0], [1]]}])),
            r"annotations\[0\].strokes\[2\].points\[1\] is \[1\]; expected a position",
        ),
        (document(entry(points=[[True, 0]])), r"annotations\[0\].points\[0\]\[0\] is true"),
        (document(entry(points=[[0, None]])), r"annotations\[0\].points\[0\]\[1\] is missing"),
        ('{"softmatch": 1, "annotations": [{"class": "a", "points": [[NaN, 0]]}]}', "NaN is not a number"),
        ('{"softmatch": 1, "annotations": [{"class": "a", "points": [[1e999, 0]]}]}', "finite number"),
        (document(entry(points=[[10**400, 0]])), r"points\[0\]\[0\] is 1000.*\.\.\.; expected a finite"),
        (document(entry(box=[0, 0, 5])), r"box has 3 numbers"),
        (document(entry(box=[0, 0, 5, "5"])), r"annotations\[0\].box\[3\]"),
        (document(entry(box=[5, 0, 5, 5])), r"annotations\[0\].box: .*x1 > x0"),
        (document(entry(box=[0, 0, 5, 5], points=[[1, 2]])), "box together with points"),
    ],
)
def test_errors_give_the_place(read, content, message):
    with pytest.raises(InputError, match=message):
        read(content)


def test_size_is_compared(read):
    content = document(entry(points=[[1, 2]]), size=[640, 480])
    assert read(content, size=(480, 640))
    with pytest.raises(InputError, match=r"size is \[640, 480\] but the picture is 480 wide and 640 high"):
        read(content, size=(640, 480))


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_annotations(path)


def test_limits(read, monkeypatch):
    monkeypatch.setattr(annotation_files, "_MOST_POINTS", 3)
    assert read(document(entry(points=[[0, 0]] * 3)))
    with pytest.raises(InputError, match=r"annotations\[1\].points takes the file over 3 points"):
        read(document(entry(points=[[0, 0]] * 2), {"class": "b", "points": [[0, 0]] * 2}))
    monkeypatch.setattr(annotation_files, "_LARGEST_FILE", 20)
    with pytest.raises(InputError, match="larger than"):
        read(document(entry(points=[[0, 0]])))


def test_pixels_are_not_written(tmp_path):
    mask = MaskAnnotation(np.eye(4, dtype=bool))
    with pytest.raises(InputError, match="class 'duck' is a MaskAnnotation"):
        write_annotations(tmp_path / "a.json", {"duck": mask}, (4, 4))
    assert not any(tmp_path.iterdir())
