from __future__ import annotations

import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.prompting import Box, MaskAnnotation, Painted, Points, Polyline, Scribbles


@pytest.mark.parametrize("points", [[(1, 2), (3, 4)], ((1, 2), (3, 4)), np.array([[1, 2], [3, 4]])])
def test_any_sequence_of_points_is_kept_as_tuples_of_floats(points):
    line = Polyline(points, width=3)
    assert line.points == ((1.0, 2.0), (3.0, 4.0))
    assert line == Polyline(((1.0, 2.0), (3.0, 4.0)), 3.0) and hash(line) == hash(Polyline(points, 3))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ((), "one or more"),
        ((1, 2), r"single point as \[\(x, y\)\]"),
        (((1, 2, 3),), r"\[N, 2\]"),
        (((1, 2), (3,)), "not numeric"),
        ((("a", "b"),), "not numeric"),
        (((10**400, 0),), "not numeric"),
        (((0, 0), (float("nan"), 1)), r"points\[1\] is \(nan, 1\)"),
        (((0, float("inf")),), r"points\[0\]"),
        (((0, 2e6),), r"between -1e\+06 and 1e\+06"),
    ],
)
def test_bad_points_are_named(points, message):
    with pytest.raises(InputError, match=message):
        Polyline(points)


@pytest.mark.parametrize("width", [0, -1, float("nan"), float("inf")])
def test_width_is_positive(width):
    with pytest.raises(InputError, match="width"):
        Polyline(((0, 0),), width)


def test_boxes_have_area():
    assert Box(0, 1, np.float32(2), 3) == Box(0.0, 1.0, 2.0, 3.0)
    for corners in [(5, 0, 5, 4), (5, 0, 4, 4), (0, 4, 4, 0)]:
        with pytest.raises(InputError, match="x1 > x0 and y1 > y0"):
            Box(*corners)
    with pytest.raises(InputError, match="finite"):
        Box(0, 0, float("inf"), 1)


def test_containers_check_their_parts():
    with pytest.raises(InputError, match=r"strokes\[1\] is a list"):
        Scribbles([Polyline(((0, 0),)), [(0, 0)]])
    with pytest.raises(InputError, match="2 entries for 1 points"):
        Points(((0, 0),), (True, False))
    with pytest.raises(InputError, match="bool"):
        MaskAnnotation(np.zeros((2, 2)))
    with pytest.raises(InputError, match="share 4 pixels"):
        Painted(np.ones((2, 2), bool), np.ones((2, 2), bool))
    with pytest.raises(InputError, match="same picture"):
        Painted(np.ones((2, 2), bool), np.ones((2, 3), bool))
