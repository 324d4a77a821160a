from __future__ import annotations

import cv2
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softmatch_jax._checks import InputError
from softmatch_jax.data.simulators import simulate_box, simulate_points, simulate_scribbles
from softmatch_jax.prompting import Box, draw_polyline, seeds


def blob():
    mask = np.zeros((300, 400), np.uint8)
    cv2.ellipse(mask, (150, 150), (120, 60), 30, 0, 360, 1, -1)
    cv2.circle(mask, (330, 60), 30, 1, -1)  # a second piece
    return mask.astype(bool)


def crack():
    """A line one pixel wide, connected only diagonally in places."""
    mask = np.zeros((60, 400), bool)
    rows = 30 + np.cumsum(np.random.default_rng(0).integers(-1, 2, 400)).clip(-25, 25)
    mask[rows, np.arange(400)] = True
    return mask


def speckle():
    return np.random.default_rng(0).random((40, 50)) < 0.3


def pixel():
    return np.pad(np.ones((1, 1), bool), ((7, 3), (4, 9)))


MASKS = {"blob": blob(), "crack": crack(), "speckle": speckle(), "pixel": pixel()}


def inside(scribbles, mask, width=1.0):
    return [not (draw_polyline(s.points, width, mask.shape) & ~mask).any() for s in scribbles.strokes]


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_thin_strokes_are_inside(name, seed):
    mask = MASKS[name]
    drawn = simulate_scribbles(mask, count=4, negative=2, key=jax.random.key(seed))
    assert [s.positive for s in drawn.strokes] == [True] * 4 + [False] * 2
    assert all(inside(drawn, mask)[:4])
    assert not any(inside(drawn, mask)[4:])
    seeds(drawn, mask.shape)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), sigma=st.floats(0.3, 6), share=st.floats(0.02, 0.98))
def test_any_mask_works(seed, sigma, share):
    field = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((48, 260)), (0, 0), sigma)
    mask = field > np.quantile(field, share)
    drawn = simulate_scribbles(mask, key=jax.random.key(seed))
    assert len(drawn.strokes) == 3 and all(inside(drawn, mask))


def test_strokes_look_human_on_a_compact_object():
    mask = blob()
    for seed in range(5):
        drawn = simulate_scribbles(mask, key=jax.random.key(seed))
        lengths = [np.hypot(*np.subtract(s.points[0], s.points[-1])) for s in drawn.strokes]
        assert max(lengths) > 40  # the object is 240 pixels long
        assert max(len(s.points) for s in drawn.strokes) < 60  # smoothed, not a staircase of pixels
        covered = seeds(drawn, mask.shape).foreground
        assert (covered & ~mask).sum() < 0.02 * covered.sum()  # at the default width
        pieces = cv2.connectedComponents(mask.astype(np.uint8))[1]
        assert set(pieces[covered & mask]) == {1, 2}  # spread over both pieces


def test_negative_marks_keep_a_distance():
    mask = blob()
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    drawn = simulate_scribbles(mask, negative=3, key=jax.random.key(0))
    for stroke in drawn.strokes[3:]:
        assert distance[draw_polyline(stroke.points, 1, mask.shape)].min() > 10
    clicks = simulate_points(mask, count=2, negative=3, key=jax.random.key(0))
    assert clicks.positive == (True, True, False, False, False)
    assert all(distance[int(y), int(x)] > 10 for x, y in clicks.xy[2:])


def test_width_may_be_given():
    drawn = simulate_scribbles(blob(), count=2, negative=1, width=5, key=jax.random.key(0))
    assert {s.width for s in drawn.strokes} == {5.0}


@pytest.mark.parametrize("name", MASKS)
def test_clicks_are_inside(name):
    mask = MASKS[name]
    clicks = simulate_points(mask, count=5, key=jax.random.key(1))
    assert len(clicks.xy) == 5 and all(mask[int(y), int(x)] for x, y in clicks.xy)


def test_clicks_are_deep_and_spread():
    mask = blob()
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    clicks = [simulate_points(mask, count=3, key=jax.random.key(seed)).xy for seed in range(20)]
    assert np.median([depth[int(y), int(x)] for xy in clicks for x, y in xy]) > 10
    nearest = [min(np.hypot(*np.subtract(a, b)) for a in xy for b in xy if a != b) for xy in clicks]
    assert np.median(nearest) > 50


def test_tight_box():
    assert simulate_box(pixel(), key=jax.random.key(0)) == Box(4, 7, 5, 8)
    mask = blob()
    tight = simulate_box(mask, key=jax.random.key(0))
    region = seeds(tight, mask.shape).region
    assert (region >= mask).all()
    rows, columns = np.nonzero(mask)
    assert region.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    for seed in range(20):
        loose = simulate_box(mask, jitter=0.1, key=jax.random.key(seed))
        moved = np.subtract(
            [loose.x0, loose.y0, loose.x1, loose.y1], [tight.x0, tight.y0, tight.x1, tight.y1]
        )
        scale = np.array([tight.x1 - tight.x0, tight.y1 - tight.y0] * 2)
        assert (np.abs(moved) <= 0.1 * scale + 1e-9).all() and np.abs(moved).max() > 0
        assert loose.x0 >= 0 and loose.y0 >= 0 and loose.x1 <= 400 and loose.y1 <= 300


@pytest.mark.parametrize(
    "simulate",
    [
        lambda key: simulate_scribbles(blob(), negative=1, key=key),
        lambda key: simulate_points(blob(), count=3, key=key),
        lambda key: simulate_box(blob(), jitter=0.2, key=key),
    ],
)
def test_the_key_decides(simulate):
    assert simulate(jax.random.key(4)) == simulate(jax.random.key(4))
    assert simulate(jax.random.key(4)) != simulate(jax.random.key(5))


def test_errors():
    key, empty, full = jax.random.key(0), np.zeros((4, 5), bool), np.ones((4, 5), bool)
    with pytest.raises(InputError, match="empty"):
        simulate_scribbles(empty, key=key)
    with pytest.raises(InputError, match="empty"):
        simulate_box(empty, key=key)
    with pytest.raises(InputError, match="bool"):
        simulate_points(full.astype(np.uint8), count=1, key=key)
    with pytest.raises(InputError, match="some background"):
        simulate_scribbles(full, negative=1, key=key)
    with pytest.raises(InputError, match="count is 0"):
        simulate_points(full, count=0, key=key)
    with pytest.raises(InputError, match="jitter"):
        simulate_box(full, jitter=0.5, key=key)
    assert simulate_scribbles(full, key=key)
