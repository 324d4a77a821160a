import numpy as np
import pytest

from softmatch_jax.models import Proposals
from softmatch_jax.pipelines.grouping import group_by_graph, group_by_overlap
from softmatch_jax.prompting import Prompt

SIZE = (10, 20)


def box(x0, x1, y0=0, y1=10):
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_a_part_goes_to_its_whole_and_others_stay_apart():
    masks = np.array([box(0, 8), box(2, 4), box(10, 18), box(11, 12), box(7, 12)])
    groups = group_by_overlap(masks, np.array([0.5, 0.9, 0.8, 0.1, 0.2]), max_overlap=0.5)
    # The best mask is a part; its whole joins it. The last overlaps by two fifths with what it touches.
    assert groups.tolist() == [0, 0, 1, 1, 2]


def test_overlap_goes_by_the_best_not_by_the_neighbour():
    """What overlaps with what overlaps with the best mask is not thereby its kind."""
    masks = np.array([box(0, 8), box(3, 11), box(6, 14)])
    masks[1, :, 9:] = False
    assert group_by_overlap(masks, np.array([0.9, 0.5, 0.4]), max_overlap=0.5).tolist() == [0, 0, 1]


def test_a_mask_over_two_objects_is_of_neither():
    masks = np.array([box(0, 6), box(8, 14), box(0, 14), box(1, 3)])
    groups = group_by_overlap(masks, np.array([0.9, 0.8, 0.5, 0.4]), max_overlap=0.5)
    assert groups.tolist() == [0, 1, -1, 0]
    # The best mask is an object, whatever it holds.
    groups = group_by_overlap(masks, np.array([0.8, 0.7, 0.9, 0.4]), max_overlap=0.5)
    assert groups.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("most", "groups"), [(1.0, [0, 1, 2]), (0.0, [0, 0, 1])])
def test_ends_of_the_range(most, groups):
    masks = np.array([box(0, 8), box(0, 8), box(8, 12)])
    assert group_by_overlap(masks, np.array([0.9, 0.5, 0.4]), max_overlap=most).tolist() == groups


def test_an_empty_mask_is_alone():
    masks = np.array([box(0, 8), box(0, 0)])
    assert group_by_overlap(masks, np.array([0.1, 0.9]), max_overlap=0.5).tolist() == [1, 0]


def answered(masks, prompts, *, scale=1, image_size=SIZE, content=SIZE):
    return Proposals(
        logits=np.where(masks, 5.0, -5.0).astype(np.float32),
        scores=np.ones(len(masks), np.float32),
        stability=np.ones(len(masks), np.float32),
        prompts=np.array(prompts, np.int32),
        image_size=image_size,
        content=content,
        scale=scale,
    )


def at(*xy, negative=()):
    points = np.reshape(np.array([*xy, *negative], np.float32), (-1, 2))
    return Prompt(points, np.arange(len(points)) < len(xy))


def test_masks_that_hold_each_others_points_are_one_object():
    prompts = [at((2, 5)), at((15, 5)), at((6, 5)), at((17, 5)), at((19.5, 9.5))]
    masks = np.array([box(0, 8), box(14, 16), box(5, 8), box(14, 19), box(19, 20)])
    groups = group_by_graph(answered(masks, range(5)), masks, prompts)
    # The first holds the third's point; the fourth the second's. Whichever way the edge goes.
    assert groups.tolist() == [0, 1, 0, 1, 2]


def test_groups_are_chained():
    prompts = [at((1, 5)), at((6, 5)), at((11, 5))]
    masks = np.array([box(0, 7), box(5, 12), box(10, 13)])
    assert group_by_graph(answered(masks, range(3)), masks, prompts).tolist() == [0, 0, 0]


def test_only_answered_prompts_and_positive_points_count():
    prompts = [at((2, 5)), at((9, 5)), at((15, 5), negative=[(2, 5)])]
    masks = np.array([box(0, 8), box(14, 16)])
    assert group_by_graph(answered(masks, [0, 2]), masks, prompts).tolist() == [0, 1]


def test_points_are_looked_up_on_the_raster():
    """The picture is 5 times as large as its content, of which 4 make a cell of the raster."""
    prompts = [at((40, 100)), at((300, 100)), at((160, 100)), at((400, 200))]
    masks = np.array([box(0, 9), box(14, 16), box(7, 9), box(19, 20)])
    made = answered(masks, range(4), scale=4, image_size=(200, 400), content=(40, 80))
    assert group_by_graph(made, masks, prompts).tolist() == [0, 1, 0, 2]


def test_a_box_has_no_points():
    prompts = [Prompt(np.zeros((0, 2)), np.zeros(0, bool), (0, 0, 8, 10)), at((2, 5))]
    masks = np.array([box(10, 12), box(0, 8)])
    assert group_by_graph(answered(masks, [0, 1]), masks, prompts).tolist() == [0, 1]
