from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmatch_jax._checks import InputError
from softmatch_jax.prompting import PatchGrid, pool_mask, unpool_map


@st.composite
def cases(draw):
    """A grid whose valid patches tile the picture, padded, and a random mask."""
    stride = draw(st.integers(1, 7))
    cells = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    grid = PatchGrid(
        image_size=draw(st.tuples(st.integers(1, 23), st.integers(1, 23))),
        input_size=(cells[0] * stride, cells[1] * stride),
        stride=stride,
        offset=stride / 2,
        shape=(cells[0] + draw(st.integers(0, 2)), cells[1] + draw(st.integers(0, 2))),
    )
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return grid, rng.random(grid.image_size) < draw(st.sampled_from([0.1, 0.5, 1.0]))


@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_area_is_conserved(case):
    grid, mask = case
    rows, columns = grid.valid_slices()
    area = mask.size / (rows.stop * columns.stop)  # footprints that tile a picture are of one size
    pooled = pool_mask(mask, grid)
    assert pooled.sum() * area == pytest.approx(mask.sum(), rel=1e-5, abs=1e-5)
    assert not pooled[~grid.valid()].any()
    if mask.all():
        np.testing.assert_allclose(pooled[grid.valid()], 1, rtol=1e-6)


def supersampled(mask, grid, fine):
    """Averages the mask over a fine lattice, each position of the picture given to its nearest patch."""
    lattice = [(np.arange(fine * n) + 0.5) / fine for n in mask.shape]
    y, x = np.meshgrid(*lattice, indexing="ij")
    rows, columns = grid.patch_of(np.stack([x, y], -1))
    values = mask[y.astype(int), x.astype(int)]
    total, count = np.zeros(grid.shape), np.zeros(grid.shape)
    np.add.at(total, (rows, columns), values)
    np.add.at(count, (rows, columns), 1)
    return total / np.maximum(count, 1)


@pytest.mark.parametrize("image_size", [(9, 14), (31, 5), (1, 1)])
@pytest.mark.parametrize("offset", [2.0, 0.0, 0.5])
def test_coverage_against_supersampling(image_size, offset):
    grid = PatchGrid(image_size=image_size, input_size=(13, 18), stride=4, offset=offset, shape=(5, 6))
    mask = np.random.default_rng(1).random(image_size) < 0.5
    # A lattice of 60 positions a pixel misplaces each edge of a footprint by up to 1/120 of a pixel.
    np.testing.assert_allclose(pool_mask(mask, grid), supersampled(mask, grid, 60), atol=0.03)


def test_no_strip_at_the_edge_is_lost():
    grid = PatchGrid(image_size=(446, 448), input_size=(446, 448), stride=4, offset=2.0, shape=(112, 112))
    mask = np.zeros(grid.image_size, bool)
    mask[-2:] = True  # beyond the last footprint that starts within the picture
    assert pool_mask(mask, grid).any()


def test_fractional_edges_are_exact():
    grid = PatchGrid(image_size=(1, 3), input_size=(2, 4), stride=2, offset=1.0, shape=(1, 2))
    pooled = pool_mask(np.array([[True, False, True]]), grid)  # each footprint is 1.5 pixels wide
    np.testing.assert_allclose(pooled, [[1 / 1.5, 1 / 1.5]], rtol=1e-6)
    pooled = pool_mask(np.array([[False, True, False]]), grid)
    np.testing.assert_allclose(pooled, [[0.5 / 1.5, 0.5 / 1.5]], rtol=1e-6)


def test_interpolation_reproduces_linear_maps_between_centres():
    grid = PatchGrid(image_size=(60, 90), input_size=(40, 60), stride=10, offset=5.0, shape=(6, 6))
    centres = grid.patch_centres().astype(np.float64)
    values = 2 * centres[..., 0] - 3 * centres[..., 1] + 1
    values[~grid.valid()] = np.nan  # must not bleed in
    y, x = np.mgrid[:60, :90] + 0.5
    x, y = np.clip(x, 7.5, 82.5), np.clip(y, 7.5, 52.5)  # constant beyond the outermost centres
    np.testing.assert_allclose(unpool_map(values, grid), 2 * x - 3 * y + 1, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(case=cases())
def test_interpolation_stays_in_range(case):
    grid, _ = case
    values = np.random.default_rng(0).random(grid.shape)
    unpooled = unpool_map(values, grid)
    inside = values[grid.valid()]
    assert unpooled.shape == grid.image_size and unpooled.dtype == np.float32
    assert inside.min() - 1e-6 <= unpooled.min() and unpooled.max() <= inside.max() + 1e-6


def test_large_pictures_are_fast():
    grid = PatchGrid(image_size=(3000, 4000), input_size=(630, 840), stride=14, offset=7.0, shape=(60, 60))
    mask = np.zeros((3000, 4000), bool)
    mask[500:1000, 700:2000] = True
    start = time.perf_counter()
    unpool_map(pool_mask(mask, grid), grid)
    assert time.perf_counter() - start < 3  # measured 0.1 s; the margin is for a busy machine


def test_errors():
    grid = PatchGrid(image_size=(6, 9), input_size=(4, 6), stride=2, offset=1.0, shape=(2, 3))
    with pytest.raises(InputError, match="9x5 pixels but its image is 9x6"):
        pool_mask(np.zeros((5, 9), bool), grid)
    with pytest.raises(InputError, match="rows, columns"):
        unpool_map(np.zeros((3, 2)), grid)
