import numpy as np
import pytest
from scenes import disc

from softmatch_jax.models import Proposals
from softmatch_jax.pipelines.merging import merge, resolve_classes, split_instances


def test_merge_is_the_union_of_what_scores_enough():
    masks = np.zeros((3, 4, 4), bool)
    masks[0, 0], masks[1, 1], masks[2, 2] = True, True, True
    proposals = Proposals(masks, np.array([0.9, 0.5, 0.49], np.float32), np.arange(3, dtype=np.int32))
    assert np.array_equal(merge(proposals, min_score=0.5, size=(4, 4)), masks[0] | masks[1])
    assert not merge(proposals, min_score=0.95, size=(4, 4)).any()


def test_a_contested_pixel_goes_to_the_likelier_class():
    one, two = np.zeros((1, 4), bool), np.zeros((1, 4), bool)
    one[0, :3], two[0, 1:] = True, True
    maps = np.array([[[0.6, 0.6, 0.9, 0.9]], [[0.9, 0.8, 0.7, 0.6]]], np.float32)
    assert resolve_classes([one, two], maps).tolist() == [[1, 2, 1, 2]]
    assert resolve_classes([two, one], maps[::-1]).tolist() == [[2, 1, 2, 1]]


def test_a_tie_goes_to_the_earlier_class():
    mask, even = np.ones((2, 2), bool), np.full((2, 2), 0.7, np.float32)
    assert (resolve_classes([mask, mask], [even, even]) == 1).all()


def test_instances_against_what_was_drawn():
    size = (60, 80)
    small, large = disc(size, (15, 20), 6), disc(size, (55, 30), 14)
    probability = np.where(small, 0.9, 0.7).astype(np.float32)
    labels, (first, second) = split_instances(small | large, probability, min_area=0)
    assert np.array_equal(labels, np.where(small, 1, np.where(large, 2, 0)))
    assert (first.area, second.area) == (small.sum(), large.sum())
    assert first.score == pytest.approx(0.9) and second.score == pytest.approx(0.7)
    # The discs are symmetric about their centres, so the mean of the pixel centres is exact.
    assert first.centroid == pytest.approx((15, 20)) and second.centroid == pytest.approx((55, 30))
    assert second.box == (41, 16, 69, 44)


def test_instances_touching_at_a_corner_are_one():
    labels, instances = split_instances(np.eye(3, dtype=bool), np.ones((3, 3), np.float32), min_area=0)
    assert len(instances) == 1 and instances[0].area == 3 and np.array_equal(labels > 0, np.eye(3) > 0)


def test_small_instances_are_dropped():
    mask = np.zeros((10, 10), bool)
    mask[0, :2], mask[5:8, 5:8] = True, True
    labels, instances = split_instances(mask, np.ones((10, 10), np.float32), min_area=0.03)
    assert [one.area for one in instances] == [9] and not labels[0].any()
