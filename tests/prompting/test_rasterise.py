from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmatch_jax._checks import InputError
from softmatch_jax.prompting import bounding_box, draw_disc, draw_polyline, fill_box, window_about

SIZE = (40, 150)
# Quarters of a pixel are exact in binary, so oracle and implementation agree on the boundary too.
quarter = st.integers(-80, 640).map(lambda n: n / 4)
vertices = st.lists(st.tuples(quarter, quarter), min_size=1, max_size=5)
widths = st.sampled_from([0.1, 1.0, 1.5, 3.0, 8.0, 41.0])


def brute_force(points, width, size):
    """The definition: every pixel centre against every segment, and the cells of the vertices."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    covered = np.zeros(size, bool)
    for (ax, ay), (bx, by) in zip(points, points[1:] or points, strict=False):
        dx, dy = bx - ax, by - ay
        t = np.clip(((x - ax) * dx + (y - ay) * dy) / ((dx * dx + dy * dy) or 1), 0, 1)
        covered |= (x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2 <= (max(width, 1) / 2) ** 2
    for vx, vy in points:
        covered |= (np.floor(vx) == x - 0.5) & (np.floor(vy) == y - 0.5)
    return covered


@settings(max_examples=60, deadline=None)
@given(points=vertices, width=widths)
def test_polyline_equals_its_definition(points, width):
    np.testing.assert_array_equal(draw_polyline(points, width, SIZE), brute_force(points, width, SIZE))


@settings(max_examples=40, deadline=None)
@given(
    points=st.lists(st.tuples(st.floats(0, 149.99), st.floats(0, 39.99)), min_size=1, max_size=6),
    width=st.floats(0.01, 2),
)
def test_thin_strokes_inside_are_connected_and_never_vanish(points, width):
    mask = draw_polyline(points, width, SIZE)
    assert cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] == 2  # background and stroke


def test_horizontal_stroke_covers_its_width_exactly():
    mask = draw_polyline([(10, 20), (100, 20)], 4, SIZE)
    assert mask[18:22, 10:100].all() and not mask[:18].any() and not mask[22:].any()


def test_disc_area():
    assert draw_disc((75.3, 19.8), 15, SIZE).sum() == pytest.approx(np.pi * 15**2, rel=0.01)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((3, 5, 4, 6), slice(5, 6), slice(3, 4)),
        ((2.5, 4.4, 6.5, 8.6), slice(4, 9), slice(2, 6)),
        ((-10, -10, 1000, 1000), slice(0, 40), slice(0, 150)),
        ((7.6, 0, 8.2, 40), slice(0, 40), slice(7, 8)),  # holds no pixel centre
        ((-9, 0, -5, 40), slice(0, 0), slice(0, 0)),
    ],
)
def test_box_covers_the_centres_inside(box, rows, columns):
    expected = np.zeros(SIZE, bool)
    expected[rows, columns] = True
    np.testing.assert_array_equal(fill_box(box, SIZE), expected)


def test_large_pictures_and_absurd_coordinates_are_fast():
    start = time.perf_counter()
    for index in range(50):
        draw_polyline([(0, 80 * index), (4000, 3000 - 60 * index)], 12, (3000, 4000))
    draw_polyline([(-1e6, -1e6), (1e6, 1e6)], 5, (3000, 4000))
    assert time.perf_counter() - start < 5  # measured 0.3 s; each pixel of each stroke would take minutes


def test_bad_input():
    for points, width, size in [([], 1, SIZE), ([(0, 0)], 0, SIZE), ([(0, 0)], 1, (0, 5))]:
        with pytest.raises(InputError):
            draw_polyline(points, width, size)
    with pytest.raises(InputError, match="NaN"):
        draw_polyline([(np.nan, 0)], 1, SIZE)
    with pytest.raises(InputError, match="NaN"):
        fill_box((0, 0, np.nan, 1), SIZE)


@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.0, 0.01, 0.3]))
def test_a_window_holds_all_that_is_not_zero_and_touches_it_on_each_side(seed, share):
    rng = np.random.default_rng(seed)
    pixels = np.where(rng.random((9, 14)) < share, rng.integers(1, 5, (9, 14)), 0)
    rows, columns = window = window_about(pixels)
    assert np.count_nonzero(pixels[window]) == np.count_nonzero(pixels)
    if not pixels.any():
        assert pixels[window].size == 0
        return
    for rim in (pixels[window][0], pixels[window][-1], pixels[window][:, 0], pixels[window][:, -1]):
        assert rim.any()
    assert bounding_box(pixels > 0) == (columns.start, rows.start, columns.stop, rows.stop)
