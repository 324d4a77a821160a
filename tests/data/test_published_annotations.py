from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from softmatch_jax._checks import InputError
from softmatch_jax.data import published_annotations
from softmatch_jax.data.published_annotations import published_annotation, resize_nearest, to_feature_grid
from softmatch_jax.data.strokes import RAND_CURVE, RAND_CURVE_SMALL

SIZES = [
    ((512, 512), (64, 64)),
    ((375, 500), (64, 64)),
    ((7, 5), (3, 4)),
    ((5, 9), (8, 16)),
    ((1, 1), (4, 4)),
]


def picture(*boxes, size=(512, 512)):
    """A mask of boxes ``(rows, columns)``."""
    mask = np.zeros(size, bool)
    for rows, columns in boxes:
        mask[slice(*rows), slice(*columns)] = True
    return mask


def speckle(size, seed=0, share=0.3):
    return np.random.default_rng(seed).random(size) < share


def rng(seed=0):
    return np.random.default_rng(seed)


def within(observed, probability, trials):
    """Whether a count is within four deviations of a binomial one."""
    return abs(observed - trials * probability) < 4 * math.sqrt(trials * probability * (1 - probability))


def test_mask_and_box():
    mask = picture(((3, 9), (20, 21)), ((100, 101), (0, 7)))
    assert np.array_equal(published_annotation(mask, "mask", rng=rng()), mask)
    assert np.array_equal(published_annotation(mask, "box", rng=rng()), picture(((3, 101), (0, 21))))


@pytest.mark.parametrize(("area", "count"), [(1, 1), (3, 3), (20, 20), (4000, 20)])
def test_points_of_the_test(area, count):
    mask = np.zeros((80, 90), bool)
    mask.flat[rng(3).permutation(mask.size)[:area]] = True
    points = [published_annotation(mask, "point", rng=rng(seed)) for seed in range(30)]
    assert all(p.sum() == count and not (p & ~mask).any() for p in points)
    if area == 4000:
        hits = np.sum(points, axis=0)
        assert hits[mask].max() <= 4 and not np.array_equal(points[0], points[1])


def test_training_has_any_number_of_points():
    mask = speckle((30, 30))
    counts = [published_annotation(mask, "point", rng=rng(seed), training=True).sum() for seed in range(800)]
    times = np.bincount(counts, minlength=21)[1:]
    assert times.sum() == 800 and len(times) == 20 and all(within(n, 1 / 20, 800) for n in times)


@pytest.fixture
def strokes_drawn(monkeypatch):
    """Number and brush of the strokes that are asked for."""
    asked = []

    def record(mask, count, brush, rng):
        asked.append((count, brush))
        return mask

    monkeypatch.setattr(published_annotations, "draw_strokes", record)
    return asked


def test_strokes_of_the_test(strokes_drawn):
    # What random.Random(321).randint(1, min(20, area)) gives.
    expected = {1: 1, 2: 2, 5: 3, 10: 5, 20: 9, 1000: 9}
    for area in expected:
        published_annotation(picture(((0, 1), (0, area)), size=(1, 1000)), "scribble", rng=rng(area))
    assert strokes_drawn == [(count, RAND_CURVE) for count in expected.values()]


def test_strokes_of_training(strokes_drawn):
    mask = speckle((30, 30))
    for seed in range(800):
        published_annotation(mask, "scribble", rng=np.random.RandomState(seed), training=True)
    counts, brushes = zip(*strokes_drawn, strict=True)
    assert set(brushes) == {RAND_CURVE, RAND_CURVE_SMALL}
    assert within(brushes.count(RAND_CURVE), 0.5, 800)
    assert all(within(counts.count(n), 1 / 20, 800) for n in range(1, 21)) and max(counts) == 20


def test_scribbles_are_on_the_object():
    mask = picture(((100, 300), (50, 400)))
    drawn = [published_annotation(mask, "scribble", rng=rng(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    assert all(d.any() and not (d & ~mask).any() and d.sum() < 0.4 * mask.sum() for d in drawn)


@pytest.mark.parametrize("kind", ["mask", "box", "point", "scribble"])
def test_any_object_can_be_annotated(kind):
    for mask in (picture(((7, 8), (500, 501))), picture(((0, 512), (9, 10))), np.ones((512, 512), bool)):
        made = published_annotation(mask, kind, rng=rng())
        assert made.dtype == np.bool_ and made.shape == mask.shape
        assert made.any() or kind == "scribble"
        assert made is not mask


@pytest.mark.parametrize(("size", "grid"), SIZES)
def test_grids_are_those_of_torch(size, grid):
    mask = speckle(size, share=0.1)
    batch = torch.from_numpy(mask)[None, None].float()
    nearest = functional.interpolate(batch, grid, mode="nearest")[0, 0].numpy()
    assert np.array_equal(to_feature_grid(mask, grid, mode="nearest"), nearest)
    largest = functional.adaptive_max_pool2d(batch, grid)[0, 0].numpy()
    assert np.array_equal(to_feature_grid(mask, grid, mode="any"), largest)
    area = to_feature_grid(mask, grid, mode="area")
    assert area.dtype == np.float32 and area.shape == grid
    assert np.array_equal(area > 0, largest > 0)
    assert area.mean(dtype=np.float64) == pytest.approx(mask.mean(), rel=1e-5)
    if all(old % new == 0 for old, new in zip(size, grid, strict=True)):
        mean = functional.interpolate(batch, grid, mode="area")[0, 0].numpy()
        np.testing.assert_allclose(area, mean, rtol=1e-6)


def test_area_of_cells_that_cut_pixels():
    mask = np.array([[True, False, False]])
    np.testing.assert_allclose(to_feature_grid(mask, (1, 2), mode="area"), [[2 / 3, 0]], rtol=1e-6)
    np.testing.assert_allclose(to_feature_grid(~mask, (1, 2), mode="area"), [[1 / 3, 1]], rtol=1e-6)


def test_nearest_looks_at_the_first_pixel():
    mask = picture(((0, 1), (0, 1)), ((8, 16), (9, 16)))
    expected = picture(((0, 1), (0, 1)), size=(64, 64))
    assert np.array_equal(resize_nearest(mask, (64, 64)), expected)


def test_published_points_are_lost():
    """A point survives with probability 1/64, and all of 20 are lost in 73% of cases."""
    mask, trials = picture(((128, 256), (64, 320))), 600
    points = [published_annotation(mask, "point", rng=rng(seed)) for seed in range(trials)]
    left = np.array([to_feature_grid(p, mode="nearest").sum() for p in points])
    assert within(left.sum(), 1 / 64, 20 * trials)
    assert within(np.count_nonzero(left == 0), (63 / 64) ** 20, trials)
    for p in points[:50]:
        assert to_feature_grid(p, mode="any").sum() >= 10 and to_feature_grid(p, mode="area").any()


def test_errors():
    full = np.ones((4, 5), bool)
    with pytest.raises(InputError, match="mask is empty"):
        published_annotation(~full, "box", rng=rng())
    with pytest.raises(InputError, match="'lasso'; expected one of 'mask', 'scribble', 'box', 'point'"):
        published_annotation(full, "lasso", rng=rng())
    with pytest.raises(InputError, match="bool"):
        published_annotation(full.astype(int), "mask", rng=rng())
    with pytest.raises(InputError, match="mode is 'bilinear'"):
        to_feature_grid(full, mode="bilinear")
    with pytest.raises(InputError, match="size"):
        to_feature_grid(full, (0, 3), mode="any")
    with pytest.raises(InputError, match="size"):
        to_feature_grid(np.zeros((0, 3), bool), mode="area")
