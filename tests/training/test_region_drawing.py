from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.training.region_config import Drawing
from softmatch_jax.training.region_drawing import deepest_point, draw_objects, sample_size

EXACT = Drawing(min_area=0, max_area=1, merge=0, jitter=0)


def test_points_are_spread_over_the_region():
    mask = np.zeros((128, 128), np.uint16)
    mask[20:100, 40:60] = 1
    points = np.array(
        [draw_objects(np.random.default_rng(s), mask, 64, 1, EXACT)[0].point for s in range(500)]
    )
    assert points.min(0).tolist() == [20.5, 10.5] and points.max(0).tolist() == [29.5, 49.5]
    assert points.mean(0) == pytest.approx([25, 30], abs=1.5)
    assert set(np.unique(points[:, 0])) == {20.5 + k for k in range(10)}


def test_small_regions_are_drawn_more_often():
    labels = np.zeros((128, 128), np.uint16)
    labels[:64], labels[64:, :32] = 1, 2  # four to one
    first = []
    for seed in range(2000):
        (drawn,) = draw_objects(np.random.default_rng(seed), labels, 64, 1, replace(EXACT, flatness=0.5))
        first.append(drawn.mask.mean() < 0.25)
    assert np.mean(first) == pytest.approx(2 / 3, abs=0.03)  # rates 1 and 1 / sqrt(4)


def test_merged_objects_are_two_that_touch():
    labels = np.zeros((128, 128), np.uint16)
    labels[:, :32], labels[:, 32:64], labels[:, 64:96] = 1, 2, 3
    labels[:, 100:] = 4  # with nothing beside it
    seen = set()
    for seed in range(100):
        drawn = draw_objects(np.random.default_rng(seed), labels, 64, 4, replace(EXACT, merge=1))
        for one_of_them in drawn:
            seen.add(tuple(np.unique(labels[::4, ::4][one_of_them.mask]).tolist()))
    assert seen == {(1, 2), (2, 3), (4,)}
    small = replace(EXACT, merge=1, max_area=0.4)
    for seed in range(20):  # two would be too large, so they stay alone
        assert {d.mask.mean() for d in draw_objects(np.random.default_rng(seed), labels, 64, 4, small)} == {
            0.25,
            28 / 128,
        }
    some = [
        len(
            np.unique(
                labels[::4, ::4][draw_objects(np.random.default_rng(s), labels, 64, 1, Drawing())[0].mask]
            )
        )
        for s in range(600)
    ]
    assert 0.08 < np.mean(np.array(some) == 2) < 0.16  # 0.15 of three of the four


def test_regions_are_asked_for_again_in_turn():
    labels = np.zeros((128, 128), np.uint16)
    labels[:64], labels[64:, :32] = 1, 2
    drawing = replace(EXACT, jitter=0.1)
    once = draw_objects(np.random.default_rng(0), labels, 64, 5, replace(drawing, again=False))
    again = draw_objects(np.random.default_rng(0), labels, 64, 5, drawing)
    assert len(once) == 2 and len(again) == 5
    for first, second in zip(once, again, strict=False):
        assert first.point.tolist() == second.point.tolist() and first.box.tolist() == second.box.tolist()
    for index, drawn in enumerate(again):
        np.testing.assert_array_equal(drawn.mask, again[index % 2].mask)
        np.testing.assert_array_equal(drawn.centre, again[index % 2].centre)
        assert drawn.mask[tuple((drawn.point[::-1] / 2).astype(int))]
    assert len({tuple(drawn.box) for drawn in again}) == len({tuple(drawn.point) for drawn in again}) == 5
    nothing = np.zeros((128, 128), np.uint16)
    assert draw_objects(np.random.default_rng(0), nothing, 64, 5, drawing) == []


def test_merged_regions_are_asked_for_again_as_they_were():
    labels = np.ones((128, 128), np.uint16)
    labels[:64] = 2
    drawn = draw_objects(np.random.default_rng(0), labels, 64, 3, replace(EXACT, merge=1))
    assert [one.mask.mean() for one in drawn] == [1, 1, 1]
    assert [one.box.tolist() for one in drawn] == [[0, 0, 64, 64]] * 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_area": 0.5, "max_area": 0.5}, "min_area is 0.5 and max_area 0.5; expected the smaller first"),
        ({"merge": 2}, "merge is 2; expected a share"),
        ({"flatness": -1}, "flatness is -1; expected a number from 0"),
        ({"jitter": float("nan")}, "jitter is nan"),
    ],
)
def test_drawing_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        Drawing(**settings)


def test_the_deepest_point_counts_the_border_as_outside():
    assert deepest_point(np.ones((9, 9), bool)).tolist() == [9, 9]
    assert sample_size((40, 64)) == (80, 128)
