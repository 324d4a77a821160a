"""Outlines and run lengths as masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmatch_jax._checks import InputError
from softmatch_jax.data.outlines import decode_rle, encode_rle, polygon_mask

SIZE = (13, 17)

STAR = "32.2 26.66 20.61 9.43 2.16 12.65 16.34 1.49 1.95 32.97 26.09 7.74 17.4 32.15 35.91 27.86 15.7 16.27"

# Polygons, and what pycocotools 2.0 makes of them, packed: at corners and at half pixels, slanted, beyond the
# edges, crossing itself, with repeated corners, outside, tiny, all of the picture, and at random.
PYCOCOTOOLS = [
    ((20, 30), [5, 4, 15, 4, 15, 12, 5, 12], "X38<00000000000000000X9"),
    ((20, 30), [5.5, 4.5, 15.5, 4.5, 15.5, 12.5, 5.5, 12.5], "m38<00000000000000000c8"),
    ((20, 30), [2.3, 1.7, 27.9, 6.2, 14.1, 18.8], "n11c02N1O2O0O1O2N1O2O0O2N0000O1O2N1O1O1O1O1O2N1O1O10R1"),
    ((20, 30), [-6, 3.5, 12.25, -4, 36, 10, 11, 25], "1;91N2O1O2N1O1Oa70^H2O0O2N101N101N2N10J"),
    ((20, 30), [3, 3, 25, 16, 25, 3, 3, 16], "o1=8N1O2O1N101N101N2N100000O2N2O0O2O0O2N101N2P3"),
    ((20, 30), [4, 4, 4, 4, 24, 4, 24, 15, 4, 15, 4, 4], "d2;90000000000000000000000000000000000000d3"),
    ((20, 30), [40, 4, 50, 4, 50, 12], "hb0"),
    ((20, 30), [3, 3, 3.2, 3.1, 3.1, 3.3], "hb0"),
    ((20, 30), [0, 0, 30, 0, 30, 20, 0, 20], "0hb0"),
    (
        (33, 40),
        [float(word) for word in STAR.split()],
        "^21o00C0K022NO020ON22OL25MJ46MG59LE5;LC5=KC5>ID6<HF8:GH8a0O1O1OCMN201ON043IJ;6EI<6GE<:CH3N2:IM<=G\\O3f"
        "0LZO3g0LYO4h0LXO2k012N000O2O00Y3",
    ),
    (
        (44, 25),
        [18.68, -5.05, 14.45, 7.92, 25.79, -4.84, 18.77, 44.8, 2.96, 46.36, 25.53, -7.66, 19.76, -8.73],
        "k61X13N2N2M3N2M3N2N2M3N2BYO5i0HYO6n001N2OLOPO0k09L5K7I7H8",
    ),
]


def compressed(lengths):
    """COCO's text form, after its published description."""
    text = ""
    for index, length in enumerate(lengths):
        number = length - (lengths[index - 2] if index > 2 else 0)
        while True:
            bits, number = number % 32, number // 32
            done = number == (-1 if bits & 16 else 0)
            text += chr(48 + bits + (0 if done else 32))
            if done:
                break
    return text


def runs(mask):
    lengths, value = [0], False
    for pixel in np.asfortranarray(mask).ravel(order="F"):
        if pixel != value:
            lengths.append(0)
            value = pixel
        lengths[-1] += 1
    return lengths


VERTEX = st.tuples(*[st.integers(-40, 160).map(lambda n: n / 7 + 0.01)] * 2)
POLYGON = st.lists(VERTEX, min_size=3, max_size=9)


def filled(polygon, size=SIZE):
    """The mask of a polygon that is given as points."""
    return polygon_mask(np.ravel(polygon).tolist(), size)


@pytest.mark.parametrize(("size", "polygon", "packed"), PYCOCOTOOLS)
def test_polygons_are_those_of_pycocotools(size, polygon, packed):
    np.testing.assert_array_equal(polygon_mask(polygon, size), decode_rle(packed, size))


def test_a_rectangle_covers_its_pixels():
    expected = np.zeros((20, 30), bool)
    expected[4:12, 5:15] = True
    np.testing.assert_array_equal(polygon_mask([5, 4, 15, 4, 15, 12, 5, 12], (20, 30)), expected)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.integers(-80, 480)] * 2), min_size=3, max_size=8))
def test_a_polygon_covers_what_is_well_inside(eighths):
    """Against the crossing rule at pixel centres, away from the outline."""
    x, y = np.meshgrid(np.arange(50) + 0.5, np.arange(40) + 0.5)
    inside, near = np.zeros((40, 50), bool), np.full((40, 50), np.inf)
    corners = np.array(eighths) / 8
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) / (by - ay) * (bx - ax))
        square = (bx - ax) ** 2 + (by - ay) ** 2
        t = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / (square or 1), 0, 1)
        near = np.minimum(near, np.hypot(x - ax - t * (bx - ax), y - ay - t * (by - ay)))
    clear = near > 0.8
    np.testing.assert_array_equal(filled(corners, (40, 50))[clear], inside[clear])


@settings(max_examples=100, deadline=None)
@given(polygon=POLYGON, cut=st.integers(2, 7), grid=st.sampled_from([1, 0.5, 0.31]))
def test_a_cut_loses_no_pixel_and_counts_none_twice(polygon, cut, grid):
    polygon = [(round(x / grid) * grid, round(y / grid) * grid) for x, y in polygon]
    first, second = polygon[: cut + 1], [*polygon[cut:], polygon[0]]
    parts = [filled(part) for part in (first, second) if len(part) > 2]
    assert np.array_equal(np.logical_xor.reduce(parts), filled(polygon))


def test_polygons_side_by_side_share_no_pixel():
    left = filled([(0.5, 0.5), (4.5, 0.5), (4.5, 6.5), (0.5, 6.5)])
    right = filled([(4.5, 0.5), (9.5, 0.5), (9.5, 6.5), (4.5, 6.5)])
    # A centre on an edge counts on the right and lower sides.
    assert np.argwhere(left)[[0, -1]].tolist() == [[1, 1], [6, 4]] and left.sum() == 24
    assert np.argwhere(right)[[0, -1]].tolist() == [[1, 5], [6, 9]] and right.sum() == 30


def test_an_outline_may_hold_a_hole():
    box, inner = [(1, 1), (9, 1), (9, 9), (1, 9)], [(3, 3), (6, 3), (6, 6), (3, 6)]
    assert filled([*box, box[0], *inner, inner[0]]).sum() == 64 - 9


def test_what_lies_outside_is_cut_off():
    assert filled([(-5, -5), (100, -5), (100, 100), (-5, 100)]).all()
    assert not filled([(20, 1), (30, 1), (30, 9)]).any()
    assert not filled([(-20, 1), (-30, 1), (-30, 9)]).any()
    assert not filled([(1.6, 1), (2.4, 1), (2.4, 9)]).any()  # too thin to hold a pixel centre


@pytest.mark.parametrize(
    ("polygon", "words"),
    [
        ([1, 2, 3, 4], "flat list of finite numbers"),
        ([1, 2, 3, 4, 5, 6, 7], "flat list of finite numbers"),
        ([1, 2, 3, 4, 5, float("nan")], "flat list of finite numbers"),
        ("abcdef", "flat list of finite numbers"),
        ([[1, 2]] * 3, "flat list of finite numbers"),
        ([0, 0, 1e9, 0, 0, 1], "far outside 17x13 pixels"),
    ],
)
def test_wrong_polygons(polygon, words):
    with pytest.raises(InputError, match=words):
        polygon_mask(polygon, SIZE)


@settings(max_examples=80, deadline=None)
@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 90)), share=st.floats(0, 1), seed=st.integers(0, 999)
)
def test_runs_both_ways(size, share, seed):
    mask = np.random.default_rng(seed).random(size) < share
    mask[: size[0] // 2] = seed % 2  # long runs too
    lengths = runs(mask)
    assert list(encode_rle(mask)) == lengths
    for counts in (lengths, tuple(lengths), compressed(lengths)):
        assert np.array_equal(decode_rle(counts, size), mask)


def test_runs_go_down_the_columns():
    mask = decode_rle([2, 3, 7], (3, 4))
    assert np.argwhere(mask).tolist() == [[0, 1], [1, 1], [2, 0]]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([2, 3], "add up to 5 pixels; expected 4x3 = 12"),
        ([13, -1], "whole numbers"),
        ([2.0, 10], "whole numbers"),
        ([True, 11], "whole numbers"),
        ("2\x7f", "lengths hold"),
        ("2é", "lengths hold 'é'"),
        (" ", "lengths hold ' '"),
        (None, "are None; expected a list"),
        ({}, "expected a list"),
        (compressed([100, 30])[:1], "cut short"),
    ],
)
def test_wrong_runs(counts, words):
    with pytest.raises(InputError, match=words):
        decode_rle(counts, (3, 4))
