"""The pseudo mask against a loop over all pairs of cells, and annotations on the grid of features."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from softmatch_jax import InputError
from softmatch_jax.data.published_annotations import to_feature_grid
from softmatch_jax.models.prosam.predictor import mask_to_grid
from softmatch_jax.models.prosam.pseudo_mask import pseudo_mask
from softmatch_jax.prompting import PatchGrid

compiled = jax.jit(pseudo_mask, static_argnames="likeness")


def pair(seed=0, dim=6, *, positive=False):
    """Features and a mask; the target's grid has another size."""
    rng = np.random.default_rng(seed)
    near, far = rng.normal(size=(4, 5, dim)), rng.normal(size=(3, 7, dim))
    if positive:
        near, far = np.abs(near), np.abs(far)
    mask = np.where(rng.random((4, 5)) > 0.7, rng.random((4, 5)), 0)
    return near.astype(np.float32), mask.astype(np.float32), far.astype(np.float32)


def loop(near, mask, far):
    """Cell by cell, in float64."""
    result = np.empty(far.shape[:2])
    for place in np.ndindex(result.shape):
        target = far[place].astype(np.float64)
        cosines = []
        for other in np.ndindex(mask.shape):
            reference = float(mask[other]) * near[other].astype(np.float64)
            lengths = np.sqrt((reference**2).sum()) * np.sqrt((target**2).sum())
            cosines.append((reference * target).sum() / (lengths + 1e-7))
        result[place] = max(cosines)
    return result


@pytest.mark.parametrize("positive", [False, True])
def test_as_the_loop(positive):
    near, mask, far = pair(positive=positive)
    got = compiled(near, mask, far)
    np.testing.assert_allclose(got, loop(near, mask, far), atol=1e-6)
    assert np.all(got >= 0) and np.all(got <= 1) and np.ptp(got) > 0.1


def test_without_cells_off_the_mask_likeness_may_be_negative():
    near, mask, far = pair(dim=2)
    near, far = np.abs(near), -np.abs(far)
    got = compiled(near, np.ones_like(mask), far)
    np.testing.assert_allclose(got, loop(near, np.ones_like(mask), far), atol=1e-6)
    assert np.all(got < 0)
    np.testing.assert_array_equal(compiled(near, mask, far), 0)


def test_itself_under_the_mask():
    near, mask, _ = pair()
    got = compiled(near, (mask > 0).astype(np.float32), near)
    np.testing.assert_allclose(got[mask > 0], 1, atol=1e-6)
    assert np.all(got[mask == 0] < 1 - 1e-3)


@pytest.mark.parametrize("likeness", ["raw", "minmax"])
def test_an_empty_mask_says_nothing(likeness):
    near, mask, far = pair()
    np.testing.assert_array_equal(compiled(near, np.zeros_like(mask), far, likeness=likeness), 0)


def test_from_least_to_greatest():
    near, mask, far = pair()
    raw = loop(near, mask, far)
    got = compiled(near, mask, far, likeness="minmax")
    np.testing.assert_allclose(got, (raw - raw.min()) / (raw.max() - raw.min() + 1e-7), atol=1e-5)
    assert got.min() == 0 and got.max() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("likeness", ["raw", "minmax"])
def test_padding_of_the_target(likeness):
    """Zero there, and the rest is that of the picture alone, whatever the padding holds."""
    near, mask, far = pair()
    valid = np.ones(far.shape[:2], bool)
    valid[:, 4:] = False
    expected = compiled(near, mask, far[:, :4], likeness=likeness)
    for filler in (0, 100 * near[mask > 0][0], np.nan):
        filled = np.where(valid[..., None], far, filler).astype(np.float32)
        got = compiled(near, mask, filled, likeness=likeness, target_valid=valid)
        np.testing.assert_allclose(got[:, :4], expected, atol=1e-6)
        np.testing.assert_array_equal(got[:, 4:], 0)


def test_bad_input():
    near, mask, far = pair()
    for call in (lambda: pseudo_mask(near, mask[:3], far), lambda: pseudo_mask(near, mask, far[..., :5])):
        with pytest.raises(InputError, match=r"has shape .*; expected \["):
            call()
    with pytest.raises(InputError, match="likeness is 'relu'; expected 'raw' or 'minmax'"):
        pseudo_mask(near, mask, far, likeness="relu")


def grid(image_size, input_size, shape, stride=8):
    return PatchGrid(
        image_size=image_size, input_size=input_size, stride=stride, offset=stride / 2, shape=shape
    )


@pytest.mark.parametrize("mode", ["nearest", "area", "any"])
@pytest.mark.parametrize("size", [(512, 512), (375, 500), (333, 211), (1200, 801)])
def test_annotations_as_published(mode, size):
    """On a picture of 512x512, and on others that are squashed to that."""
    squashed = grid(size, (512, 512), (64, 64))
    mask = np.random.default_rng(1).random(size) > 0.97
    expected = to_feature_grid(mask, (64, 64), mode=mode)
    got = mask_to_grid(mask, squashed, mode)
    assert got.dtype == np.float32 and got.shape == (64, 64)
    np.testing.assert_allclose(got, expected, atol=0 if mode == "nearest" else 1e-6)
    assert 0 < got.mean() < 1


def test_nearest_is_the_first_pixel_of_a_cell():
    mask = np.zeros((512, 512), bool)
    mask[8 * 3, 8 * 5] = mask[8 * 7 + 1, 8 * 9] = True
    got = mask_to_grid(mask, grid((512, 512), (512, 512), (64, 64)), "nearest")
    assert got[3, 5] == 1 and got.sum() == 1
    assert mask_to_grid(mask, grid((512, 512), (512, 512), (64, 64)), "any").sum() == 2


@pytest.mark.parametrize("mode", ["nearest", "area", "any"])
def test_annotations_in_the_padding(mode):
    padded = grid((40, 64), (40, 64), (8, 8))
    got = mask_to_grid(np.ones((40, 64), bool), padded, mode)
    np.testing.assert_array_equal(got[:5], 1)
    np.testing.assert_array_equal(got[5:], 0)


def test_annotations_that_do_not_fit():
    square = grid((64, 64), (64, 64), (8, 8))
    with pytest.raises(InputError, match="mode is 'bilinear'; expected 'nearest'"):
        mask_to_grid(np.ones((64, 64), bool), square, "bilinear")
    with pytest.raises(InputError, match="but its image is"):
        mask_to_grid(np.ones((64, 32), bool), square, "nearest")
    with pytest.raises(InputError, match="expected a bool"):
        mask_to_grid(np.ones((64, 64)), square, "nearest")
