import numpy as np
import pytest
from scenes import disc

from softmatch_jax.models import Proposals
from softmatch_jax.pipelines.config import DecisionConfig
from softmatch_jax.pipelines.merging import (
    measure_instances,
    merge,
    resolve_classes,
    split_groups,
    split_instances,
)
from softmatch_jax.prompting import Prompt

PLAIN = DecisionConfig(min_score=0.5)


def made(masks, scores, *, image_size=None, height=8.0, prompts=None):
    masks = np.array(masks, bool)
    return Proposals(
        logits=np.where(masks, height, -height).astype(np.float32),
        scores=np.array(scores, np.float32),
        stability=np.ones(len(masks), np.float32),
        prompts=np.arange(len(masks), dtype=np.int32) if prompts is None else np.array(prompts, np.int32),
        image_size=masks.shape[1:] if image_size is None else image_size,
        content=masks.shape[1:],
    )


def at(*xy):
    return [Prompt(np.array([one], np.float32), np.ones(1, bool)) for one in xy]


def test_merge_is_the_union_of_what_scores_enough():
    masks = np.zeros((3, 4, 4), bool)
    masks[0, 0], masks[1, 1], masks[2, 2] = True, True, True
    proposals, seen = made(masks, [0.9, 0.5, 0.49]), np.ones((4, 4), np.float32)
    prompts = at((0, 0), (1, 1), (2, 2))
    merged = merge(proposals, prompts, seen, PLAIN)
    assert np.array_equal(merged.mask, masks[0] | masks[1])
    assert merged.kept.tolist() == [0, 1] and merged.reason is None
    nothing = merge(proposals, prompts, seen, DecisionConfig(min_score=0.95))
    assert not nothing.mask.any() and nothing.mask.shape == (4, 4) and not nothing.confidence.any()
    assert nothing.reason == "3 of 3 proposals are below decision.min_score" and not nothing.pieces.any()


def test_nothing_decoded_is_nothing():
    merged = merge(Proposals.empty((5, 6)), [], np.ones((5, 6), np.float32), PLAIN)
    assert merged.mask.shape == merged.pieces.shape == merged.confidence.shape == (5, 6)
    assert not merged.mask.any() and not len(merged.kept) and merged.reason == "no proposal was decoded"


def test_empty_proposals_are_nothing():
    proposals = made(np.zeros((2, 4, 4)), [0.9, 0.9])
    merged = merge(proposals, at((0, 0), (1, 1)), np.ones((4, 4), np.float32), PLAIN)
    assert merged.reason == "all 2 proposals are empty" and not merged.mask.any()


def test_objects_are_ordered_by_their_best_proposal():
    size = (12, 24)
    left, right = disc(size, (6, 6), 5), disc(size, (18, 6), 5)
    part = left & (np.arange(24) < 6)
    seen = np.where(left, 0.8, np.where(right, 0.9, 0.1)).astype(np.float32)
    proposals = made([left, right, part, right], [0.9, 0.6, 0.7, 0.95])
    merged = merge(proposals, at((6, 6), (18, 6), (3, 6), (17, 6)), seen, PLAIN)
    assert merged.kept.tolist() == [3, 1, 0, 2]
    assert np.array_equal(merged.pieces, np.where(right, 1, np.where(left, 2, 0)))
    assert np.array_equal(merged.mask, left | right)
    # Confidence is the score times the evidence in the map, where the outline is certain.
    assert merged.confidence[6, 18] == pytest.approx(0.95 * 0.9, rel=1e-3)
    assert merged.confidence[6, 6] == pytest.approx(0.9 * 0.8, rel=1e-3)
    assert merged.confidence[0, 12] < 0.01


def test_masks_are_made_at_the_size_of_the_picture():
    small = disc((30, 40), (20, 15), 9)
    merged = merge(
        made([small], [0.9], image_size=(90, 120)), at((60, 45)), np.ones((90, 120), np.float32), PLAIN
    )
    truth = disc((90, 120), (60, 45), 27)
    assert (merged.mask != truth).mean() < 0.02 and np.array_equal(merged.pieces > 0, merged.mask)


def test_where_objects_meet_every_pixel_has_one_owner():
    """Also where an interpolated outline runs between the cells of the raster."""
    left, right = np.zeros((2, 10, 20), bool)
    left[2:8, 2:10], right[2:8, 10:18] = True, True
    merged = merge(
        made([left, right], [0.9, 0.8], image_size=(70, 140)),
        at((42, 35), (98, 35)),
        np.ones((70, 140), np.float32),
        PLAIN,
    )
    assert np.array_equal(merged.pieces > 0, merged.mask) and set(np.unique(merged.pieces)) == {0, 1, 2}
    assert (merged.pieces[35, :70] != 2).all() and (merged.pieces[35, 70:] != 1).all()
    assert merged.mask[35, 14:126].all()


def test_the_graph_judges_groups_not_their_members():
    """A part that holds little of the object stays where its group holds enough of it."""
    size = (10, 20)
    left, right, stray = np.zeros((3, *size), bool)
    left[:, 0:6], right[:, 5:10], stray[:, 17:20] = True, True, True
    seen = np.where(np.arange(20) < 10, 0.9, 0.1) * np.ones((10, 1))
    prompts = at((5.5, 5), (8, 5), (18, 5))
    proposals, bars = made([left, right, stray], [0.9, 0.9, 0.9]), {"min_coverage": 0.8, "min_purity": 0.5}
    merged = merge(proposals, prompts, seen.astype(np.float32), DecisionConfig(grouping="graph", **bars))
    assert sorted(merged.kept) == [0, 1] and np.array_equal(merged.mask, left | right)
    assert len(merged.groups) == 1
    alone = merge(proposals, prompts, seen.astype(np.float32), DecisionConfig(**bars))
    assert not alone.mask.any() and alone.reason == "3 of 3 proposals are below decision.min_coverage"


def test_the_reason_names_the_bar_that_no_group_passes():
    left = np.zeros((10, 20), bool)
    left[:, :6] = True
    seen = np.ones((10, 20), np.float32)
    config = DecisionConfig(grouping="graph", min_coverage=0.9, min_purity=0.1)
    merged = merge(made([left, left], [0.9, 0.8]), at((2, 5), (3, 5)), seen, config)
    assert merged.reason == "1 of 1 groups of proposals are below decision.min_coverage"


def test_pieces_are_measured_as_given():
    """Two that touch stay two, one that is in two places stays one, and what is too small goes."""
    pieces = np.zeros((10, 20), np.int32)
    pieces[2:5, 2:6], pieces[2:5, 6:9], pieces[8, 19], pieces[7:9, 3:5] = 7, 3, 4, 3
    probability = np.where(pieces == 3, 0.9, 0.6).astype(np.float32)
    labels, (first, second) = measure_instances(pieces, probability, min_area=0.01)
    assert np.array_equal(labels, np.select([pieces == 3, pieces == 7], [1, 2], 0))
    assert (first.area, second.area) == (13, 12) and first.box == (3, 2, 9, 9)
    y, x = np.nonzero(pieces == 3)
    assert first.centroid == pytest.approx((x.mean() + 0.5, y.mean() + 0.5))


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


def test_nothing_has_no_instances():
    labels, instances = split_instances(np.zeros((9, 7), bool), np.ones((9, 7), np.float32), min_area=0)
    assert labels.shape == (9, 7) and labels.dtype == np.int32 and not labels.any() and instances == ()


def test_parts_of_a_group_that_lie_apart_are_objects():
    pieces = np.zeros((20, 40), np.int32)
    pieces[2:8, 2:10] = 1
    pieces[2:8, 10:18] = 2  # touches the first
    pieces[12:18, 20:30] = 2  # far from the rest of its group, and as large
    pieces[2:4, 30:32] = 2  # a speck
    parted = split_groups(pieces)
    assert (parted[2:8, 2:10] == 1).all()
    near, far = parted[4, 12], parted[14, 25]
    assert len({1, near, far}) == 3 and 0 not in (near, far)
    assert (parted[2:8, 10:18] == near).all() and (parted[12:18, 20:30] == far).all()
    assert (parted[2:4, 30:32] == 2).all() and 2 in (near, far)
    np.testing.assert_array_equal(parted > 0, pieces > 0)
    assert not split_groups(np.zeros((3, 4), np.int32)).any()
