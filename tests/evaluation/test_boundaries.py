import itertools
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from softmatch_jax._checks import InputError
from softmatch_jax.evaluation.boundaries import BoundaryCounts, count_boundaries


def blobs(seed, size=(40, 50), smooth=3.0, number=2):
    """Masks that agree in part, cut by the picture's border."""
    rng = np.random.default_rng(seed)
    noise = [cv2.GaussianBlur(rng.standard_normal(size), (0, 0), smooth) for _ in range(number)]
    fields = [noise[0] + 0.4 * other for other in noise]
    return [field > np.quantile(field, rng.uniform(0.2, 0.95)) for field in fields]


def oracle(found, truth, void, band, tolerance):
    """Pixel by pixel: distances to all pixels outside, and to all pixels of the other outline."""
    diagonal = math.hypot(*truth.shape)
    width, reach = max(1, round(band * diagonal)), math.ceil(tolerance * diagonal)
    masks = [mask & ~void for mask in (found, truth)]
    bands, outlines = [], []
    for mask in masks:
        outside = np.argwhere(~np.pad(mask, 1)) - 1
        bands.append({
            tuple(p.tolist())
            for p in np.argwhere(mask)
            if np.abs(outside - p).max(axis=1).min() <= width
        })  # fmt: skip
        rows, columns = mask.shape
        outlines.append({
            (y, x)
            for y, x in np.ndindex(mask.shape)
            if len({
                bool(mask[v, u])
                for v, u in itertools.product((y, y + 1), (x, x + 1))
                if v < rows and u < columns
            }) == 2
        })  # fmt: skip
    near = [
        sum(any(math.dist(p, q) <= reach for q in other) for p in outline)
        for outline, other in (outlines, outlines[::-1])
    ]
    return BoundaryCounts(
        len(bands[0] & bands[1]), len(bands[0] | bands[1]),
        len(outlines[0]), near[0], len(outlines[1]), near[1],
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    smooth=st.floats(0.4, 3),
    band=st.floats(0.01, 0.4),
    tolerance=st.floats(0.01, 0.4),
    with_void=st.booleans(),
)
def test_agrees_with_distances(seed, size, smooth, band, tolerance, with_void):
    found, truth, void = blobs(seed, size, smooth, number=3)
    void = void & ~truth & with_void
    counts = count_boundaries(found, truth, void if with_void else None, band=band, tolerance=tolerance)
    assert counts == oracle(found, truth, void, band, tolerance)


def test_counted_by_hand():
    truth = np.zeros((8, 8), bool)
    truth[2:6, 2:6] = True  # a square of 16 pixels, one ring of 12 around 4
    found = np.roll(truth, 1, axis=1)
    counts = count_boundaries(found, truth, band=0.01, tolerance=0.01)  # both are one pixel
    # The rings share three pixels of their upper and three of their lower sides.
    assert (counts.intersection, counts.union) == (6, 18)
    # The outlines have 16 windows across the edge; each is within a pixel of one of the other.
    assert counts[2:] == (16, 16, 16, 16)
    assert counts.iou == 1 / 3 and counts.f == 1


def test_the_picture_erodes_but_is_no_outline():
    full = np.ones((20, 20), bool)
    counts = count_boundaries(full, full, band=0.1, tolerance=0.1)
    assert counts == BoundaryCounts(intersection=400 - 14 * 14, union=400 - 14 * 14)
    assert counts.iou == 1 and counts.f == 1


def test_published_series_of_erosions():
    for seed in range(5):
        found, truth = blobs(seed, (120, 90), 6)
        bands = []
        for mask in (found, truth):
            padded = np.pad(mask.astype(np.uint8), 1)
            inside = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=round(0.02 * 150))
            bands.append(mask & (inside[1:-1, 1:-1] == 0))
        counts = count_boundaries(found, truth)
        assert counts.intersection == (bands[0] & bands[1]).sum()
        assert counts.union == (bands[0] | bands[1]).sum()


def test_large_reach_against_an_exact_distance():
    found, truth = blobs(3, (300, 400), 12)
    outlines = [count_boundaries(m, m, tolerance=0.001)[2] for m in (found, truth)]
    counts = count_boundaries(found, truth, tolerance=0.05)

    def outline(mask):
        padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge").astype(int)
        return np.isin(padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:] + padded[1:, 1:], (1, 2, 3))

    lines = outline(found), outline(truth)
    assert [line.sum() for line in lines] == outlines
    for line, other, near in ((*lines, counts.found_near), (*lines[::-1], counts.truth_near)):
        assert (line & (distance_transform_edt(~other) <= 25)).sum() == near < line.sum()


@given(seed=st.integers(0, 1000))
def test_void_does_not_matter(seed):
    found, truth, void = blobs(seed, (30, 30), 2, number=3)
    void &= ~truth
    counts = count_boundaries(found, truth, void)
    assert (
        counts == count_boundaries(found | void, truth, void) == count_boundaries(found & ~void, truth, void)
    )


def test_values():
    assert BoundaryCounts(1, 4, 10, 5, 20, 5).iou == 0.25
    assert BoundaryCounts(1, 4, 10, 5, 20, 5).f == pytest.approx(2 * 0.5 * 0.25 / 0.75)
    assert BoundaryCounts().iou == BoundaryCounts().f == 1
    assert BoundaryCounts(found=3).f == BoundaryCounts(truth=3).f == 0
    assert BoundaryCounts(found=3, truth=3).f == 0
    parts = [BoundaryCounts(1, 2, 3, 4, 5, 6), BoundaryCounts(10, 20, 30, 40, 50, 60)]
    assert sum(parts, BoundaryCounts()) == (11, 22, 33, 44, 55, 66)


def test_an_empty_mask():
    truth = blobs(1)[0]
    counts = count_boundaries(np.zeros_like(truth), truth)
    assert counts.iou == counts.f == 0 and counts.recall == 0 and counts.precision == 1
    assert count_boundaries(truth & False, truth & False) == BoundaryCounts()


def test_bad_input_is_refused():
    truth = blobs(1)[0]
    with pytest.raises(InputError, match=r"band is 0; expected a finite number greater than 0\."):
        count_boundaries(truth, truth, band=0)
    with pytest.raises(InputError, match="tolerance is nan"):
        count_boundaries(truth, truth, tolerance=math.nan)
    with pytest.raises(InputError, match="truth and void share"):
        count_boundaries(truth, truth, truth)
