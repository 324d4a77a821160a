from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.data import strokes
from softmatch_jax.data.strokes import RAND_CURVE, RAND_CURVE_SMALL, draw_strokes, strokes_from

BRUSHES = {"curve": RAND_CURVE, "small": RAND_CURVE_SMALL}
STREAMS = {"generator": np.random.default_rng, "random state": np.random.RandomState}

# Made once with VRP-SAM's own functions: NumPy's global generator seeded with 8, a stroke from each of two
# starts. For each stroke its width, the number of its vertices and the last three; then the next draw.
STARTS = np.array([[10, 20.5], [40.25, 30]])
PUBLISHED = {
    "curve": (
        (6, 28, [[172.89, 105.42], [177.72, 115.23], [184.71, 119.44]]),
        (9, 16, [[-36.40, -25.96], [-36.58, -27.08], [-36.58, -27.08]]),
        0.5370701169459408,
    ),
    "small": (
        (2, 8, [[63.31, 11.63], [73.19, 17.69], [82.86, 21.92]]),
        (3, 21, [[84.65, 28.73], [97.24, 26.62], [108.01, 29.09]]),
        0.9840406473734805,
    ),
}


@pytest.fixture
def painted(monkeypatch):
    """The strokes that are painted, as vertices and width."""
    seen, paint = [], strokes._paint

    def record(canvas, vertices, width):
        seen.append((vertices, width))
        paint(canvas, vertices, width)

    monkeypatch.setattr(strokes, "_paint", record)
    return seen


def disc(size=256, radius=80):
    rows, columns = np.mgrid[:size, :size]
    return np.hypot(rows - size / 2, columns - size / 2) < radius


def distance_to_stroke(vertices, size):
    """Distance of each pixel to a polyline, by sampling it finely."""
    along = np.concatenate([np.linspace(a, b, 200) for a, b in pairwise(vertices)])
    rows, columns = np.mgrid[: size[0], : size[1]]
    nearest = np.full(size, np.inf)
    for x, y in along:
        nearest = np.minimum(nearest, np.hypot(columns - x, rows - y))
    return nearest


@pytest.mark.parametrize("name", BRUSHES)
def test_the_published_stream_gives_the_published_strokes(name, painted):
    rng = np.random.RandomState(8)
    strokes_from(STARTS, (48, 64), BRUSHES[name], rng)
    *expected, draw = PUBLISHED[name]
    for (vertices, width), (pen, number, last) in zip(painted, expected, strict=True):
        assert (width, len(vertices)) == (pen, number)
        np.testing.assert_allclose(vertices[-3:], last, atol=0.006)
    assert rng.rand() == draw


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("name", BRUSHES)
def test_strokes_keep_the_bounds_of_their_brush(name, stream, painted):
    brush, starts = BRUSHES[name], np.full((300, 2), 100.0)
    strokes_from(starts, (8, 8), brush, STREAMS[stream](0))
    low, high = brush.jitter
    assert {width for _, width in painted} == set(range(*brush.widths))
    assert {len(vertices) - 1 for vertices, _ in painted} == set(range(*brush.turns))
    for vertices, _ in painted:
        steps = np.hypot(*np.diff(vertices, axis=0).T)
        assert steps.max() <= brush.top_speed + np.hypot(high - 1 - low, high - 1 - low) + 1e-9
    # The first vertex is the start, the whole stroke's shift and, in half of the strokes, the jitter.
    moves = np.array([vertices[0] - 100 for vertices, _ in painted])
    assert np.array_equal(moves, moves.round())
    reach = np.abs(np.random.default_rng(1).normal(0, brush.drift / 2, 10_000))
    assert 0.2 * reach.mean() < np.abs(moves).mean() < reach.mean() + abs(low)


@pytest.mark.parametrize("name", BRUSHES)
def test_pixels_follow_the_vertices(name, painted):
    for seed in range(3):
        painted.clear()
        covered = strokes_from(np.array([[40.0, 35.5]]), (70, 80), BRUSHES[name], np.random.default_rng(seed))
        ((vertices, width),) = painted
        distance = distance_to_stroke(vertices, (70, 80))
        assert covered.any() and not covered.all()
        assert distance[covered].max() <= width / 2 + 1.5
        assert covered[distance <= width / 2 - 1.5].all()


def test_strokes_may_leave_the_picture(painted):
    strokes_from(np.zeros((20, 2)), (30, 30), RAND_CURVE, np.random.default_rng(0))
    assert min(vertices.min() for vertices, _ in painted) < -50


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("name", BRUSHES)
def test_strokes_are_on_the_object(name, stream):
    mask = disc()
    drawn = [draw_strokes(mask, 5, BRUSHES[name], STREAMS[stream](seed)) for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    for strokes_ in drawn:
        assert strokes_.dtype == np.bool_ and strokes_.any() and not (strokes_ & ~mask).any()


def test_starts_are_different_pixels_of_the_object(monkeypatch):
    mask = np.zeros((30, 50), bool)
    mask[[2, 2, 17, 29], [0, 49, 31, 49]] = True
    starts = []
    monkeypatch.setattr(
        strokes, "strokes_from", lambda xy, size, *_: starts.append(xy) or np.ones(size, bool)
    )
    for seed in range(40):
        draw_strokes(mask, 20, RAND_CURVE, np.random.default_rng(seed))
        draw_strokes(mask, 2, RAND_CURVE, np.random.default_rng(seed))
    assert all(len(xy) == (4, 2)[k % 2] for k, xy in enumerate(starts))
    for xy in starts:
        pixels = {(int(y), int(x)) for x, y in xy}
        assert len(pixels) == len(xy) and all(mask[pixel] for pixel in pixels)
    assert {y for xy in starts for _, y in xy} == {2.0, 2 + 49 / 50, 17 + 31 / 50, 29 + 49 / 50}


def test_a_stroke_can_miss_a_tiny_object():
    mask = np.zeros((64, 64), bool)
    mask[30, 30] = True
    hits = [draw_strokes(mask, 1, RAND_CURVE, np.random.default_rng(seed)).sum() for seed in range(100)]
    assert set(hits) == {0, 1}


def test_errors():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="mask is empty"):
        draw_strokes(np.zeros((4, 4), bool), 1, RAND_CURVE, rng)
    with pytest.raises(InputError, match="bool"):
        draw_strokes(np.ones((4, 4)), 1, RAND_CURVE, rng)
    with pytest.raises(InputError, match="count is 0"):
        draw_strokes(np.ones((4, 4), bool), 0, RAND_CURVE, rng)
    with pytest.raises(InputError, match="starts"):
        strokes_from(np.ones(2), (4, 4), RAND_CURVE, rng)
    with pytest.raises(InputError, match="size"):
        strokes_from(np.ones((1, 2)), (0, 4), RAND_CURVE, rng)
