"""GF-SAM over other models: its maps and gates against plain loops, and the whole on obvious pictures."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flood_generator import FloodGenerator
from scenes import GREEN, RED, scene
from small_models import Colours

from softmatch_jax import InputError, Softmatcher, SoftmatcherConfig
from softmatch_jax.evaluation import intersection_over_union
from softmatch_jax.models import DenseDescriptor, DescriptorConfig, GrabCut, Proposals
from softmatch_jax.pipelines.baselines import GfSam, GfSamConfig
from softmatch_jax.pipelines.baselines.contrast import contrast, hottest
from softmatch_jax.pipelines.baselines.gating import consistent, grow
from softmatch_jax.pipelines.baselines.scenes import Scene
from softmatch_jax.pipelines.grouping import group_by_graph
from softmatch_jax.prompting import MaskAnnotation, PatchGrid, prompts_from_points

KEY = jax.random.key(0)
SIZE = (96, 128)
GRID = PatchGrid(image_size=(8, 12), input_size=(8, 12), stride=4, offset=2.0, shape=(2, 3))


def random_scene(seed, shots=2, positive=True):
    rng = np.random.default_rng(seed)
    rows, columns = rng.normal(size=(7 * shots, 5)), rng.normal(size=(6, 5))
    if positive:
        rows, columns = abs(rows), abs(columns)
    rows, columns = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (rows, columns))
    coverage = np.where(rng.random(7 * shots) < 0.4, rng.random(7 * shots), 0)
    coverage[::7] = 1
    return Scene(GRID, columns, rows @ columns.T, coverage, np.repeat(np.arange(shots), 7), 0.3)


@pytest.mark.parametrize("seed", range(5))
def test_the_maps_patch_by_patch(seed):
    looked = random_scene(seed)
    mean, high, rest = (np.zeros(6) for _ in range(3))
    for target in range(6):
        for shot in range(2):
            own = [n for n in range(14) if looked.shots[n] == shot]
            weighted = [looked.coverage[n] * looked.similarity[n, target] for n in own]
            mean[target] += sum(weighted) / sum(looked.coverage[n] for n in own) / 2
            high[target] += max(weighted) / 2
            outside = sum((1 - looked.coverage[n]) * looked.similarity[n, target] for n in own)
            rest[target] += outside / sum(1 - looked.coverage[n] for n in own) / 2
    both = mean * high
    both = (both - min(both)) / (max(both) - min(both))
    scaled = (rest - min(rest)) / (max(rest) - min(rest))
    found = contrast(looked)
    np.testing.assert_allclose(
        found.hot, [0 if s > b else b for s, b in zip(scaled, both, strict=True)], atol=1e-6
    )
    halfway = (max(mean) + min(mean)) / 2
    np.testing.assert_allclose(found.gain, mean**2 - rest * halfway, atol=1e-6)


def test_what_is_unlike_the_object_wins_nothing():
    for seed in range(5):
        looked = random_scene(seed, positive=False)
        unlike = contrast(looked).gain[
            np.mean(
                [
                    np.average(
                        looked.similarity[looked.shots == shot],
                        axis=0,
                        weights=looked.coverage[looked.shots == shot],
                    )
                    for shot in (0, 1)
                ],
                axis=0,
            )
            <= 0
        ]
        assert (unlike <= 0).all()


def test_a_reference_without_surroundings_is_no_trouble():
    looked = random_scene(0)
    whole = Scene(GRID, looked.features, looked.similarity, np.ones(14), looked.shots, 1.0)
    assert np.isfinite(contrast(whole).hot).all() and np.isfinite(contrast(whole).gain).all()


@pytest.mark.parametrize(
    ("hot", "most", "places"),
    [
        ([0.1, 0.9, 0.0, 0.8, 0.7], 128, [1, 3]),  # 2.5 in all
        ([0.1, 0.9, 0.0, 0.8, 0.7], 1, [1]),
        ([0.1, 0.2, 0.0], 128, [1]),
        ([0.0, 0.0], 128, []),
    ],
)
def test_as_many_points_as_the_map_adds_up_to(hot, most, places):
    assert hottest(np.array(hot), most).tolist() == places


def test_growth_by_hand():
    gain = np.array([1.0, 0.5, 0.5, -1.0, -1.0, -1.0])
    shares = np.array(
        [
            [1, 1, 0, 0, 0, 0],  # best: stays
            [1, 1, 1, 1, 0, 0],  # adds one patch that is object and one that is not: no gain
            [1, 0, 1, 0, 0, 0],  # second best: adds one
            [0, 0, 1, 1, 1, 0],  # in a group of its own, mostly not object
            [0, 0, 0.5, 0.25, 0, 0],  # likewise, by share
        ]
    )  # fmt: skip
    stays, added = grow(shares, gain, np.array([0, 0, 0, 1, 2]))
    assert stays.tolist() == [True, False, True, False, True]
    np.testing.assert_allclose(added, [2, -1, 1, -1, 0.25])


def test_points_that_look_like_another_group_go():
    features = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1.0]])
    cells = np.array([[0, 0], [0, 1], [0, 2], [0, 3], [0, 4]])
    # Points 0, 1 and 2 make one group that covers the first two patches; 3 and 4 the other.
    shares = np.array([[1, 1, 0, 0, 0]] * 3 + [[0, 0, 1, 1, 1]] * 2)
    own = consistent(shares, np.arange(5), np.array([0, 0, 0, 1, 1]), features, cells)
    assert own.tolist() == [True, True, False, True, True]
    # Where most of a group look like another, none of it stays.
    shares = np.array([[1, 1, 0, 0, 0]] + [[1, 0, 0, 0, 0]] * 2 + [[0, 0, 1, 1, 1]] * 2)
    own = consistent(shares, np.array([0, 2, 2, 3, 4]), np.array([0, 0, 0, 1, 1]), features, cells)
    assert own.tolist() == [False, False, False, True, True]


@pytest.mark.parametrize("seed", range(5))
def test_consistency_as_a_loop_does_it(seed):
    rng = np.random.default_rng(seed)
    cells = np.array([[row, column] for row in range(4) for column in range(5)])
    features = rng.normal(size=(20, 3))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    places, groups = rng.choice(20, 9, replace=False), np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    shares = rng.random((9, 20)) * (rng.random((9, 20)) < 0.4)
    wins = []
    for point in range(9):
        values = []
        for group in range(3):
            members = np.flatnonzero(groups == group)
            union = [max(shares[member, patch] for member in members) for patch in range(20)]
            alike = sum(u * features[places[point]] @ f for u, f in zip(union, features, strict=True)) / sum(
                union
            )
            steps = min(np.hypot(*(cells[places[point]] - cells[places[member]])) for member in members)
            values.append(alike / (steps or 1))
        wins.append(values.index(max(values)) == groups[point])
    expected = [
        win and 2 * sum(w for w, g in zip(wins, groups, strict=True) if g == group) >= (groups == group).sum()
        for win, group in zip(wins, groups, strict=True)
    ]
    assert consistent(shares, places, groups, features, cells).tolist() == expected


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_the_weak_components(seed):
    rng = np.random.default_rng(seed)
    xy = rng.integers(0, 16, (10, 2)) + 0.5
    masks = np.zeros((10, 16, 16), bool)
    for mask, (x, y) in zip(masks, xy.astype(int), strict=True):
        mask[max(y - 2, 0) : y + 3, max(x - 1, 0) : x + 4] = True
    made = Proposals(
        logits=np.where(masks, 1, -1).astype(np.float32),
        scores=np.ones(10, np.float32),
        stability=np.ones(10, np.float32),
        prompts=np.arange(10, dtype=np.int32),
        image_size=(16, 16),
        content=(16, 16),
    )
    # Labels spread along edges, in either direction, until nothing changes.
    labels = list(range(10))
    for _ in range(10):
        for one in range(10):
            for two in range(10):
                x, y = xy[two].astype(int)
                if masks[one, y, x]:
                    labels = [
                        min(labels[one], labels[two]) if n in (one, two) else v for n, v in enumerate(labels)
                    ]
    found = group_by_graph(made, made.small_masks, prompts_from_points(xy))
    pairs = [(found[a] == found[b], labels[a] == labels[b]) for a in range(10) for b in range(10)]
    assert all(one == other for one, other in pairs)
    assert 1 < len(set(found)) < 10


def made(flood=True):
    if flood:
        return Softmatcher(Colours(16), FloodGenerator(), SoftmatcherConfig.foundation())
    return Softmatcher(
        DenseDescriptor(DescriptorConfig(longest=96, stride=4)), GrabCut(), SoftmatcherConfig()
    )


def shown(centre, seed, others=()):
    image, masks = scene(SIZE, [*others, (centre, 26, RED)], seed)
    return image, masks[-1]


@pytest.mark.parametrize(
    ("flood", "shots"),
    [(True, 1), (True, 3), pytest.param(False, 3, marks=pytest.mark.slow)],
    ids=["flood 1", "flood 3", "embedded 3"],
)
def test_finds_the_object_beside_another(flood, shots):
    given = [
        (image, MaskAnnotation(mask))
        for image, mask in (shown((50 + 5 * number, 45), number) for number in range(shots))
    ]
    target, truth = shown((90, 50), 9, [((30, 40), 20, GREEN)])
    found = GfSam(made(flood))(target, given, key=KEY)
    assert not found.absent and intersection_over_union(found.mask, truth) > 0.85
    again = GfSam(made(flood))(target, given, key=jax.random.key(5))  # nothing is drawn
    np.testing.assert_array_equal(found.mask, again.mask)


def test_finds_several_objects():
    image, mask = shown((50, 45), 0)
    target, truths = scene(SIZE, [((32, 50), 20, RED), ((90, 50), 24, RED)], 9)
    found = GfSam(made())(target, [(image, MaskAnnotation(mask))], key=KEY)
    assert intersection_over_union(found.mask, truths[0] | truths[1]) > 0.85


def test_every_point_is_a_prompt():
    matcher = made()
    image, mask = shown((50, 45), 0)
    target, truth = shown((90, 50), 9)
    GfSam(matcher, GfSamConfig(points=7))(target, [(image, MaskAnnotation(mask))], key=KEY)
    (prompts,) = matcher.masks.asked
    assert [len(prompt.points) for prompt in prompts] == [1] * 7
    rows, columns = np.concatenate([prompt.points for prompt in prompts]).astype(int).T[::-1]
    assert truth[rows, columns].all()
    with pytest.raises(InputError, match="points is 0"):
        GfSamConfig(points=0)
