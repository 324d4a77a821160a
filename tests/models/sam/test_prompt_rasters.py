from __future__ import annotations

import math
from functools import partial

import jax
import numpy as np
import pytest

from softmatch_jax.models.sam.config import RASTER_CHANNELS
from softmatch_jax.models.sam.prompt_rasters import (
    DEPTH,
    HALO_NEGATIVE,
    HALO_POSITIVE,
    INSIDE,
    MASK,
    NEGATIVE_SPOT,
    SPOT,
    draw_prompt,
)

SIDE, STRIDE = 16, 4
NOWHERE = (math.nan, math.inf)

_draw = jax.jit(draw_prompt, static_argnames=("side", "stride"))


def draw(*marks, logits=None, stride=STRIDE):
    """The raster of up to four marks ``(x, y, label)``."""
    marks = [*marks, *[(*NOWHERE, -1)] * (4 - len(marks))]
    xy = np.array([mark[:2] for mark in marks], np.float32)
    labels = np.array([mark[2] for mark in marks], np.int32)
    logits = np.zeros((SIDE, SIDE), np.float32) if logits is None else logits.astype(np.float32)
    return np.asarray(_draw(xy, labels, logits, side=SIDE, stride=stride))


def box(x0, y0, x1, y1):
    return (x0, y0, 2), (x1, y1, 3)


def test_nothing_given_is_zero():
    raster = draw()
    assert raster.shape == (SIDE, SIDE, RASTER_CHANNELS) and not raster.any()
    without = jax.jit(partial(draw_prompt, logits=None, side=SIDE, stride=STRIDE))
    assert not np.any(without(np.zeros((0, 2), np.float32), np.zeros(0, np.int32)))


@pytest.mark.parametrize(
    ("label", "spot", "halo"), [(1, SPOT, HALO_POSITIVE), (0, NEGATIVE_SPOT, HALO_NEGATIVE)]
)
def test_points_are_a_spot_and_a_halo(label, spot, halo):
    points = [(22.0, 34.0), (47.5, 9.0)]  # the first is the centre of the cell in row 8, column 5
    raster = draw(*[(*point, label) for point in points])
    for row, column in np.ndindex(SIDE, SIDE):
        x, y = STRIDE * (column + 0.5), STRIDE * (row + 0.5)
        distance = min(math.hypot(x - px, y - py) for px, py in points)
        assert raster[row, column, spot] == pytest.approx(math.exp(-(distance**2) / 18), abs=1e-6)
        assert raster[row, column, halo] == pytest.approx(math.exp(-distance / 8), abs=2e-4)
    assert raster[8, 5, spot] == 1 and raster[..., spot].argmax() == 8 * SIDE + 5
    others = [channel for channel in range(RASTER_CHANNELS) if channel not in (spot, halo)]
    assert not raster[..., others].any()


def test_a_box_is_its_inside_and_its_depth():
    raster = draw(*box(8, 16, 40, 28))
    expected = np.full((SIDE, SIDE), -1.0)
    expected[4:7, 2:10] = 1
    np.testing.assert_array_equal(raster[..., INSIDE], expected)
    assert not raster[..., [SPOT, HALO_POSITIVE, NEGATIVE_SPOT, HALO_NEGATIVE, MASK]].any()
    for row, column in np.ndindex(SIDE, SIDE):
        across = 1 - abs(STRIDE * (column + 0.5) - 24) / 16
        down = 1 - abs(STRIDE * (row + 0.5) - 22) / 6
        assert raster[row, column, DEPTH] == pytest.approx(max(min(across, down), -1), abs=1e-6)
    # By hand: half a cell within the left edge, and the same beyond it.
    assert raster[5, 2, DEPTH] == pytest.approx(1 / 8) and raster[5, 1, DEPTH] == pytest.approx(-1 / 8)
    assert raster[0, 0, DEPTH] == raster[15, 15, DEPTH] == -1
    middle = draw(*box(10, 18, 26, 26))
    assert middle[5, 4, DEPTH] == 1  # the centre of a cell


def test_a_cell_whose_centre_is_on_the_outline_is_inside():
    raster = draw(*box(10, 10, 26, 26))  # of which half is a power of two, so that nothing is rounded
    assert raster[2, 2, DEPTH] == 0 and raster[2, 2, INSIDE] == 1


def test_depth_changes_little_when_the_box_does():
    before = draw(*box(8, 16, 40, 28))[..., DEPTH]
    for edge in range(4):
        corners = np.array([8, 16, 40, 28], np.float32)
        corners[edge] += 0.01
        after = draw(*box(*corners))[..., DEPTH]
        assert 0 < np.abs(after - before).max() < 0.01
    # A box that shrinks to nothing stays a dot of a pixel.
    dots = [draw(*box(22 - half, 22 - half, 22 + half, 22 + half))[..., DEPTH] for half in (1.0, 0.5, 0.0)]
    for dot in dots:
        np.testing.assert_array_equal(dot, dots[0])
        assert dot[5, 5] == 1 and (np.delete(dot.ravel(), 5 * SIDE + 5) == -1).all()


def test_a_mask_is_squashed():
    logits = np.random.default_rng(0).normal(0, 6, (SIDE, SIDE))
    logits[0, :3] = 0, 1e6, -1e6
    raster = draw(logits=logits)
    np.testing.assert_allclose(raster[..., MASK], np.tanh(logits / 4), atol=1e-6)
    assert raster[0, :3, MASK].tolist() == [0, 1, -1] and not raster[..., :MASK].any()


def test_slots_without_a_mark_and_their_order_do_not_matter():
    marks = [(13.0, 50.5, 1), (3.0, 3.0, 0), (40.0, 41.0, 1)]
    raster = draw(*marks)
    np.testing.assert_array_equal(draw(marks[2], (5.0, 5.0, -1), marks[0], marks[1]), raster)
    assert np.isfinite(raster).all()
    boxed = draw(*box(8, 16, 40, 28), (22.0, 22.0, 1))
    np.testing.assert_array_equal(boxed[..., INSIDE:], draw(*box(8, 16, 40, 28))[..., INSIDE:])
    np.testing.assert_array_equal(boxed[..., :INSIDE], draw((22.0, 22.0, 1))[..., :INSIDE])


def test_a_picture_of_twice_the_size_looks_alike_but_for_its_spots():
    marks = [(21.0, 34.0, 1), *box(8, 16, 40, 28)]
    small, large = draw(*marks), draw(*[(2 * x, 2 * y, label) for x, y, label in marks], stride=2 * STRIDE)
    np.testing.assert_allclose(large[..., [HALO_POSITIVE, INSIDE, DEPTH]], small[..., [1, 4, 5]], atol=2e-4)
    np.testing.assert_allclose(large[..., SPOT], small[..., SPOT] ** 4, atol=1e-6)  # of as many pixels
