"""Matcher over other models: its parts against plain loops, and the whole on pictures that are obvious."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flood_generator import FloodGenerator
from scenes import GREEN, RED, scene
from scipy.optimize import linprog
from small_models import Colours

from softmatch_jax import InputError, Softmatcher, SoftmatcherConfig
from softmatch_jax.evaluation import intersection_over_union
from softmatch_jax.matching import assign, unit_norm
from softmatch_jax.models import DenseDescriptor, DescriptorConfig, PatchFeatures, Proposals
from softmatch_jax.pipelines.baselines import Matcher, MatcherConfig
from softmatch_jax.pipelines.baselines.correspondence import Matches, centres_of, match_patches, subsets, trim
from softmatch_jax.pipelines.baselines.matcher import best_masks, score_masks, transport_cost
from softmatch_jax.pipelines.baselines.rasters import holds, patch_shares, union
from softmatch_jax.pipelines.baselines.scenes import coarsen, look
from softmatch_jax.prompting import MaskAnnotation, PatchGrid, pool_mask

KEY = jax.random.key(0)
SIZE = (96, 128)


def cosines(seed, rows, columns):
    values = np.random.default_rng(seed).normal(size=(rows + columns, 4)).astype(np.float32)
    unit = np.asarray(unit_norm(jnp.asarray(values)))
    return unit[:rows] @ unit[rows:].T


def best_assignment(values):
    """Tries all ways to give each row a column of its own: the one of the highest sum."""
    ways = itertools.permutations(range(values.shape[1]), len(values))
    return max(ways, key=lambda way: sum(values[row, column] for row, column in enumerate(way)))


@pytest.mark.parametrize("seed", range(12))
def test_forth_and_back_as_a_loop_does_it(seed):
    similarity = cosines(seed, 6, 5)
    on_object = np.array([True, False, True, False, True, False])
    inside = [0, 2, 4]
    forth = best_assignment(similarity[inside])
    back = best_assignment(similarity[:, list(forth)].T)
    kept = [number for number in range(3) if on_object[back[number]]] or [0, 1, 2]
    found = match_patches(similarity, on_object)
    assert found.places.tolist() == [forth[number] for number in kept]
    np.testing.assert_array_equal(
        found.similarity, [similarity[inside[number], forth[number]] for number in kept]
    )


def test_the_loop_above_sees_matches_kept_dropped_and_all_kept():
    on_object = np.array([True, False, True, False, True, False])
    left = {len(match_patches(cosines(seed, 6, 5), on_object).places) for seed in range(12)}
    assert {1, 2, 3} <= left
    strangers = np.array([[0.5, 0.2], [0.4, 0.1], [0.9, 0.8], [0.8, 0.9]])  # all are assigned elsewhere
    assert match_patches(strangers, np.array([True, True, False, False])).places.tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(3))
def test_matches_are_those_of_the_matching_method(seed):
    similarity, on_object = cosines(seed, 60, 40), np.arange(60) < 25
    chosen = assign(similarity, on_object, np.ones(40, bool))
    np.testing.assert_array_equal(
        np.sort(match_patches(similarity, on_object).places), np.flatnonzero(chosen)
    )


@pytest.mark.parametrize(("count", "left"), [(1, 1), (40, 40), (41, 20), (100, 50)])
def test_the_better_half_of_more_than_forty_is_kept(count, left):
    similarity = np.random.default_rng(0).permutation(count) / count
    kept = trim(Matches(np.arange(count), similarity), 40)
    assert len(kept.places) == left
    assert set(kept.similarity) == set(np.sort(similarity)[count - left :])
    np.testing.assert_array_equal(similarity[kept.places], kept.similarity)


@pytest.mark.parametrize(("count", "total"), [(8, 154), (7, 63), (6, 22), (5, 6), (4, 1), (3, 1), (1, 1)])
def test_number_of_prompts(count, total):
    made = subsets(count, (4, 6))
    assert len(made) == len(set(made)) == total
    sizes = {min(size, count) for size in (4, 5, 6)}
    assert total == sum(math.comb(count, size) for size in sizes)
    assert {len(subset) for subset in made} == sizes
    assert all(len(set(subset)) == len(subset) and max(subset) < count for subset in made)


def test_centres_of_groups_that_lie_apart():
    middles = np.array([[x, y] for x in (0, 100, 200, 300) for y in (0, 100)], np.float32)
    points = np.concatenate([middles + offset for offset in ((-3, 0), (3, 0), (0, 3), (0, -3))])
    centres = centres_of(points, 8, key=KEY)
    assert sorted(map(tuple, np.round(centres, 3))) == sorted(map(tuple, middles))
    few = points[:8]
    np.testing.assert_array_equal(centres_of(few, 8, key=KEY), few)


def earth_movers_distance(cost):
    """The transport of two uniform sets as a linear programme: the rows and the columns of a plan add up."""
    n, m = cost.shape
    sums = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    return linprog(cost.ravel(), A_eq=sums, b_eq=[1 / n] * n + [1 / m] * m).fun


@pytest.mark.parametrize(("n", "m"), [(4, 4), (3, 5), (8, 12), (1, 7)])
def test_transport_is_exact_for_few_patches(n, m):
    cost = np.random.default_rng(n).random((n, m))
    assert transport_cost(cost, 256) == pytest.approx(earth_movers_distance(cost), abs=1e-9)


@pytest.mark.parametrize(("n", "m"), [(46, 62), (31, 64)])
def test_transport_of_many_patches_is_near(n, m):
    cost = (1 - cosines(0, n, m)) / 2
    # Between a mask and another the distance differs by tenths.
    assert transport_cost(cost, 51) == pytest.approx(earth_movers_distance(cost), abs=0.03)


def test_scores_by_hand():
    cost = np.array([[0.0, 0.5, 1.0, 1.0], [0.5, 0.0, 1.0, 1.0]])
    inside = np.array([[True, True, False, False], [True, True, True, True], [False, False, True, True]])
    held = np.array([[True, True, False], [True, True, True], [False, False, True]])
    scores = score_masks(cost, inside, held, 256)
    np.testing.assert_allclose(scores.purity, [1, 3 / 4, 1 / 2])
    np.testing.assert_allclose(scores.coverage, [2 / 3, 1, 1 / 3])
    np.testing.assert_allclose(scores.transport, [1, 1 / 2, 0])  # half of the second mask is far off
    np.testing.assert_allclose(scores.total(MatcherConfig()), [0.8 + 0.2 * 2 / 3, 0.4 + 0.2 * 3 / 4, 0.2 / 6])
    other = MatcherConfig(alpha=0.5, beta=0.5, exponent=0)
    np.testing.assert_allclose(scores.total(other), [1, 0.25 + 0.375, 0.25])


def test_the_best_masks_and_those_near_them():
    scores = np.array([0.3, 1.0, 0.71, 0.7, 0.9])
    assert best_masks(scores, 10, 0.7).tolist() == [1, 4, 2]
    assert best_masks(scores, 2, 0.7).tolist() == [1, 4]
    assert best_masks(np.array([0.2]), 10, 0.7).tolist() == [0]


def proposals(masks, scale=1, size=None):
    height, width = masks.shape[1:]
    size = size or (height * scale, width * scale)
    return Proposals(
        logits=np.where(masks, 1, -1).astype(np.float32),
        scores=np.ones(len(masks), np.float32),
        stability=np.ones(len(masks), np.float32),
        prompts=np.arange(len(masks), dtype=np.int32),
        image_size=size,
        content=size,
        scale=scale,
    )


def test_rasters_by_hand():
    masks = np.zeros((2, 8, 8), bool)
    masks[0, :2, :3] = masks[1, 4:, 4:] = True
    made = proposals(masks, scale=2)
    grid = PatchGrid(image_size=(16, 16), input_size=(32, 32), stride=16, offset=8.0, shape=(2, 3))
    np.testing.assert_allclose(patch_shares(made, grid), [[6 / 16, 0, 0, 0], [0, 0, 0, 1]])
    at = np.array([[0.5, 0.5], [5.9, 3.9], [6.1, 3.9], [15.9, 8.1], [16.0, 16.0]])
    np.testing.assert_array_equal(holds(made, at), [[1, 1, 0, 0, 0], [0, 0, 0, 1, 1]])
    assert union(made, np.array([], int)).sum() == 0
    both = union(made, np.array([0, 1]))
    np.testing.assert_array_equal(both, made.masks.any(axis=0))


def test_shares_are_those_at_the_size_of_the_picture():
    rng = np.random.default_rng(3)
    masks = np.repeat(np.repeat(rng.random((3, 6, 9)) > 0.5, 4, axis=1), 4, axis=2)
    made = proposals(masks)
    grid = PatchGrid(image_size=(24, 36), input_size=(40, 60), stride=10, offset=5.0, shape=(6, 6))
    expected = [pool_mask(mask, grid)[grid.valid()] for mask in masks]
    np.testing.assert_allclose(patch_shares(made, grid), expected, atol=1e-6)


@pytest.mark.parametrize("input_size", [(80, 80), (80, 37), (9, 80), (80, 3)])
def test_coarse_features_are_means_of_blocks(input_size):
    grid = PatchGrid(image_size=(160, 160), input_size=input_size, stride=4, offset=2.0, shape=(20, 20))
    values = np.random.default_rng(0).normal(size=(1, 20, 20, 3)).astype(np.float32)
    fine = PatchFeatures(jnp.asarray(values), grid.valid(), grid)
    coarse = coarsen(fine, most=7)
    factor = coarse.grid.stride // 4
    assert coarse.valid.any() and coarse.valid.shape == coarse.grid.shape == coarse.values.shape[1:3]
    assert factor == (1 if min(input_size) == 3 else 3)
    for row, column in np.argwhere(coarse.valid):
        block = slice(row * factor, (row + 1) * factor), slice(column * factor, (column + 1) * factor)
        np.testing.assert_allclose(
            coarse.values[0, row, column], values[0][block][grid.valid()[block]].mean(axis=0), atol=1e-5
        )
        centres = (
            grid.patch_centres()[row * factor, column * factor],
            coarse.grid.patch_centres()[row, column],
        )
        reach = (factor - 1) * 2 * np.divide(160, input_size)[::-1]
        np.testing.assert_allclose(centres[1] - centres[0], reach, rtol=1e-4)
    assert coarsen(fine, most=20) is fine


def made(flood=True, **changes):
    if flood:
        return Softmatcher(Colours(16), FloodGenerator(), SoftmatcherConfig.foundation())
    from softmatch_jax.models import GrabCut

    return Softmatcher(
        DenseDescriptor(DescriptorConfig(longest=96, stride=4)), GrabCut(), SoftmatcherConfig()
    )


def shown(centre, seed, radius=26, colour=RED, others=()):
    image, masks = scene(SIZE, [*others, (centre, radius, colour)], seed)
    return image, masks[-1]


@pytest.mark.parametrize(
    ("flood", "shots"),
    [(True, 1), (True, 3), pytest.param(False, 3, marks=pytest.mark.slow)],
    ids=["flood 1", "flood 3", "embedded 3"],
)
def test_finds_the_object_beside_another(flood, shots):
    references = [shown((50 + 5 * number, 45), number) for number in range(shots)]
    target, truth = shown((90, 50), 9, others=[((30, 40), 20, GREEN)])
    given = [(image, MaskAnnotation(mask)) for image, mask in references]
    found = Matcher(made(flood))(target, given, key=KEY)
    assert not found.absent and intersection_over_union(found.mask, truth) > 0.85
    again = Matcher(made(flood))(target, given, key=KEY)
    np.testing.assert_array_equal(found.mask, again.mask)


def test_asks_for_all_subsets_of_eight_centres():
    matcher = made()
    image, mask = shown((50, 45), 0)
    target, _ = shown((90, 50), 9)
    Matcher(matcher)(target, [(image, MaskAnnotation(mask))], key=KEY)
    (prompts,) = matcher.masks.asked
    assert len(prompts) == 154
    points = np.unique(np.concatenate([prompt.points for prompt in prompts]), axis=0)
    assert len(points) == 8 and all(prompt.positive.all() for prompt in prompts)
    # Patches with a mere corner of the object on them count as object, and may be matched with the ground.
    assert np.count_nonzero(np.linalg.norm(points - [90, 50], axis=1) < 26) >= 7


def test_a_scene_holds_cosines_of_what_is_in_the_pictures():
    matcher = made()
    references = [matcher.reference(image, mask) for image, mask in (shown((50, 45), 0), shown((60, 50), 1))]
    target = matcher.encode(shown((90, 50), 9)[0])
    found = look(matcher, references, target)
    rows = [np.asarray(unit_norm(one.encoded.features.flat())) for one in references]
    columns = np.asarray(unit_norm(target.features.flat()))
    np.testing.assert_allclose(found.similarity, np.concatenate(rows) @ columns.T, atol=1e-6)
    assert found.shots.tolist() == [0] * 256 + [1] * 256
    covered = np.concatenate([pool_mask(one.mask, one.encoded.features.grid).ravel() for one in references])
    np.testing.assert_allclose(found.coverage, covered)
    assert found.touched.sum() > found.filled.sum() > 0
    assert found.area == pytest.approx(np.mean([one.mask.mean() for one in references]))


def test_settings_out_of_range_are_told():
    with pytest.raises(InputError, match="1 to 8 centres"):
        MatcherConfig(centres=9)
    with pytest.raises(InputError, match="ascending"):
        MatcherConfig(sizes=(6, 4))
    with pytest.raises(InputError, match="out of range"):
        MatcherConfig(merged=0)
