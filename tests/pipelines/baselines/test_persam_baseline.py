"""PerSAM over other models: its likeness, its cascade, and the whole on pictures that are obvious."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import numpy as np
import pytest
from flood_generator import FloodGenerator
from scenes import GREEN, RED, scene
from slow_params import mostly_slow
from small_models import Colours

from softmatch_jax import InputError, Softmatcher, SoftmatcherConfig
from softmatch_jax.evaluation import intersection_over_union
from softmatch_jax.models import DenseDescriptor, DescriptorConfig, GrabCut, Proposals
from softmatch_jax.pipelines.baselines import PerSam, PerSamConfig
from softmatch_jax.pipelines.baselines.persam import cascade
from softmatch_jax.pipelines.baselines.scenes import Scene
from softmatch_jax.prompting import MaskAnnotation, PatchGrid, Prompt

KEY = jax.random.key(0)
SIZE = (96, 128)


@dataclass
class Scripted:
    """Answers each call with the masks written down for it: boxes ``(x0, y0, x1, y1)`` and scores."""

    answers: list
    asked: list = field(default_factory=list)
    name, promptable = "scripted", True

    def encode(self, image):
        return image.shape[:2]

    def decode(self, embedding, prompts, *, prior=None):
        self.asked.append(prompts[0])
        answer = self.answers[len(self.asked) - 1]
        logits = np.full((len(answer), *embedding), -1.0, np.float32)
        for row, ((x0, y0, x1, y1), _) in zip(logits, answer, strict=True):
            row[y0:y1, x0:x1] = len(self.asked)
        return Proposals(
            logits=logits,
            scores=np.array([score for _, score in answer], np.float32),
            stability=np.ones(len(answer), np.float32),
            prompts=np.zeros(len(answer), np.int32),
            image_size=embedding,
            content=embedding,
        )


FIRST = Prompt(np.array([[5.0, 5.0], [18.0, 3.0]]), np.array([True, False]))


def run(answers, rounds=2):
    generator = Scripted(answers)
    encoded = Softmatcher(Colours(4), generator).encode(np.zeros((16, 20, 3), np.uint8))
    return cascade(generator, encoded, FIRST, rounds=rounds, prior=None), generator.asked


def test_the_cascade_goes_on_with_the_best_mask_then_with_its_box():
    answers = [
        [((4, 4, 8, 8), 0.2), ((4, 4, 9, 9), 0.9)],
        [((4, 4, 10, 10), 0.8), ((0, 0, 3, 3), 0.7)],
        [((1, 1, 2, 2), 0.1), ((4, 4, 11, 11), 0.3)],
    ]
    mask, asked = run(answers)
    assert np.argwhere(mask).min() == 4 and np.argwhere(mask).max() == 10 and mask.sum() == 49
    assert [prompt.box for prompt in asked] == [None, None, (4, 4, 10, 10)]
    assert asked[0].logits is None
    assert [(prompt.logits > 0).sum() for prompt in asked[1:]] == [25, 36]
    assert [prompt.logits.max() for prompt in asked[1:]] == [1, 2]
    for prompt in asked:
        np.testing.assert_array_equal(prompt.points, FIRST.points)
        np.testing.assert_array_equal(prompt.positive, [True, False])


def test_a_round_without_an_answer_ends_the_cascade():
    mask, asked = run([[((4, 4, 8, 8), 0.2)], []])
    assert mask.sum() == 16 and len(asked) == 2
    mask, asked = run([[((4, 4, 8, 8), 0.2)], [((4, 4, 4, 4), 0.9)]])
    assert mask.sum() == 16 and len(asked) == 2
    mask, asked = run([[]])
    assert not mask.any() and len(asked) == 1


def test_rounds_may_be_left_out():
    mask, asked = run([[((4, 4, 8, 8), 0.2)]], rounds=0)
    assert mask.sum() == 16 and len(asked) == 1
    with pytest.raises(InputError, match="rounds is -1"):
        PerSamConfig(rounds=-1)


def test_the_likeness_ranks_as_the_cosine_to_the_mean():
    rng = np.random.default_rng(0)
    rows, columns = rng.normal(size=(9, 5)), rng.normal(size=(6, 5))
    rows, columns = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (rows, columns))
    coverage = np.array([0, 0.2, 0.5, 0.7, 1, 1, 0.49, 0, 0])
    grid = PatchGrid(image_size=(8, 12), input_size=(8, 12), stride=4, offset=2.0, shape=(2, 3))
    looked = Scene(grid, columns, rows @ columns.T, coverage, np.zeros(9, int), 0.3)
    mean = rows[2:6].mean(axis=0)
    cosine = columns @ mean / np.linalg.norm(mean)
    np.testing.assert_allclose(looked.likeness, cosine * np.linalg.norm(mean), atol=1e-6)


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
    mostly_slow([(True, 1), (True, 3), (False, 3)], (True, 3)),
    ids=["flood 1", "flood 3", "embedded 3"],
)
def test_finds_the_object_beside_another(flood, shots):
    given = [
        (image, MaskAnnotation(mask))
        for image, mask in (shown((50 + 5 * number, 45), number) for number in range(shots))
    ]
    target, truth = shown((90, 50), 9, [((30, 40), 20, GREEN)])
    found = PerSam(made(flood))(target, given, key=KEY)
    assert not found.absent and intersection_over_union(found.mask, truth) > 0.85
    again = PerSam(made(flood))(target, given, key=jax.random.key(5))  # nothing is drawn
    np.testing.assert_array_equal(found.mask, again.mask)


def test_one_point_is_on_the_object_and_one_is_not():
    matcher = made()
    image, mask = shown((50, 45), 0)
    target, truth = shown((90, 50), 9)
    PerSam(matcher)(target, [(image, MaskAnnotation(mask))], key=KEY)
    assert len(matcher.masks.asked) == 3
    (prompt,) = matcher.masks.asked[0]
    (x, y), (other_x, other_y) = prompt.points.astype(int)
    assert prompt.positive.tolist() == [True, False]
    assert truth[y, x] and not truth[other_y, other_x]
