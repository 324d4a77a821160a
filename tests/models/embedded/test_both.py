"""GrabCut and a learned generator together: every prompt has the answers of both, in one place."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from softmatch_jax import InputError
from softmatch_jax.models import GrabCut, GrabCutConfig, MaskGenerator, Proposals
from softmatch_jax.models.embedded.both import EitherGenerator
from softmatch_jax.prompting import Prompt

SIZE = (60, 90)
SQUARE, RASTER = 64, 16


class Learned:
    """Answers each prompt by a disc about its first point, on a raster of 16 cells for a square of 64."""

    name, promptable = "learned", True

    def __init__(self):
        self.asked = []

    def encode(self, image):
        return (image.shape[0], image.shape[1])

    def raster(self, size):
        content = tuple(max(1, round(length * SQUARE / max(size))) for length in size)
        blank = Proposals.empty((RASTER, RASTER))
        return replace(blank, image_size=size, content=content, scale=4)

    def decode(self, size, prompts, *, prior=None):
        self.asked.append((list(prompts), prior))
        raster = self.raster(size)
        ratio = np.divide(raster.content, size)[::-1]
        y, x = (np.mgrid[:RASTER, :RASTER] + 0.5) * 4
        logits = [10 - np.hypot(*(np.stack([x, y]).T - prompt.points[0] * ratio).T).T for prompt in prompts]
        count = len(prompts)
        return replace(
            raster,
            logits=np.array(logits, np.float32),
            scores=np.full(count, 0.7, np.float32),
            stability=np.full(count, 0.9, np.float32),
            prompts=np.arange(count, dtype=np.int32),
        )


def point(*xy):
    return Prompt(np.array(xy, np.float32).reshape(-1, 2), np.ones(len(xy), bool))


@pytest.fixture
def image():
    """Two red discs on green."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    discs = (np.hypot(x - 25, y - 30) < 14) | (np.hypot(x - 70, y - 30) < 10)
    noise = np.random.default_rng(0).normal(0, 6, (*SIZE, 3))
    return np.clip(np.where(discs[..., None], (200, 40, 40), (50, 140, 60)) + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def prior(image):
    return cv2.GaussianBlur((image[..., 0] > 120).astype(np.float32), (0, 0), 2) * 0.9 + 0.03


@pytest.fixture
def either():
    made: MaskGenerator = EitherGenerator(GrabCut(GrabCutConfig(longest=90)), Learned())
    return made


PROMPTS = [point((25, 30)), point((30, 26)), point((70, 30))]


def test_every_prompt_is_answered_by_both(either, image, prior):
    """GrabCut's disc of the first prompt answers the second, which lies on it, too."""
    made = either.decode(either.encode(image), PROMPTS, prior=prior)
    assert made.prompts.tolist() == [0, 0, 1, 1, 2, 2]
    assert made.logits.shape == (6, *SIZE) and (made.content, made.scale) == (SIZE, 1)
    cut = either.cut.decode(either.cut.encode(image), PROMPTS, prior=prior)
    assert cut.prompts.tolist() == [0, 2]
    for place, of in ((0, 0), (2, 0), (4, 1)):
        np.testing.assert_array_equal(made.masks[place], cut.masks[of])
    learned = either.learned.decode(SIZE, PROMPTS)
    for place, of in ((1, 0), (3, 1), (5, 2)):
        np.testing.assert_array_equal(made.masks[place], learned.masks[of])


def test_scores_with_a_prior_are_its_mean(either, image, prior):
    made = either.decode(either.encode(image), PROMPTS, prior=prior)
    expected = [prior[mask].mean() for mask in made.masks]
    np.testing.assert_allclose(made.scores, expected, atol=1e-4)
    assert made.stability.tolist() == pytest.approx([1, 0.9] * 3)
    assert either.learned.asked[-1][1] is prior


def test_scores_without_a_prior_are_their_own(either, image):
    made = either.decode(either.encode(image), PROMPTS[:1])
    assert made.scores.tolist() == pytest.approx([0.5, 0.7])


@pytest.mark.parametrize("size", [(600, 900), (40, 30), (3, 200), (20, 20)])
def test_the_finer_raster_is_everybodys(either, size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    embedding = either.encode(image)
    made = either.decode(embedding, [point((size[1] / 2, size[0] / 2))])
    cut, raster = embedding.cut.small.shape[:2], either.learned.raster(size)
    cells = tuple(-(-length // 4) for length in raster.content)
    assert embedding.size == max(cut, cells, key=np.prod) == made.logits.shape[1:] == made.content
    assert made.masks.shape[1:] == size


def test_earlier_logits_go_to_the_learned_one_on_its_raster(either, image):
    embedding = either.encode(image)
    first = either.decode(embedding, PROMPTS[:1])
    either.decode(embedding, [replace(PROMPTS[0], logits=first.logits[1])])
    given = either.learned.asked[-1][0][0].logits
    original = either.learned.decode(SIZE, PROMPTS[:1])
    assert given.shape == (RASTER, RASTER)
    # There and back again, a bilinear enlargement and a mean blunt the tip of the cone.
    np.testing.assert_allclose(given[original.inside], original.logits[0][original.inside], atol=2)


def test_a_prompt_that_grabcut_does_not_find(either, image, prior):
    """A point on what is background for sure is still answered by the other."""
    sure = np.where(prior > 0.5, prior, 0).astype(np.float32)
    negative = Prompt(np.array([[5, 5]], np.float32), np.zeros(1, bool), box=(0, 0, 9, 9))
    made = either.decode(either.encode(image), [negative], prior=sure)
    assert made.prompts.tolist() == [0]


def test_what_cannot_be(either, image, prior):
    embedding = either.encode(image)
    with pytest.raises(InputError, match="no prompts"):
        either.decode(embedding, [])
    with pytest.raises(InputError, match="prior is"):
        either.decode(embedding, PROMPTS, prior=prior[1:])


def test_it_is_named_after_both(either):
    assert either.promptable and either.cut.name in either.name and "learned" in either.name
