"""Features of the tiny model's encoder, and of two extractors side by side."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import random_tiny
from slow_params import mostly_slow

from softmatch_jax import InputError
from softmatch_jax.models import DenseDescriptor, DescriptorConfig, FeatureExtractor, PatchFeatures
from softmatch_jax.models.sam.tiny_features import JoinedFeatures, TinyFeaturesExtractor
from softmatch_jax.models.sam.tiny_network import TinyNetwork
from softmatch_jax.prompting import PatchGrid

SIDE = 32


def picture(height, width, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def network():
    return TinyNetwork(random_tiny.random_weights(), size=SIDE, source="test")


class Positions:
    """Says where each patch is in the picture: (x / W, y / H, 1), up to its length."""

    dim = 3

    def __init__(self, longest, stride):
        self.longest, self.stride, self.name = longest, stride, f"positions-{stride}"

    def grid(self, image_size):
        scale = self.longest / max(image_size)
        return PatchGrid(
            image_size=image_size,
            input_size=tuple(max(self.stride, round(length * scale)) for length in image_size),
            stride=self.stride,
            offset=self.stride / 2,
            shape=(self.longest // self.stride,) * 2,
        )

    def __call__(self, images):
        grid = self.grid(images.shape[1:3])
        unit = grid.patch_centres() / np.array(grid.image_size[::-1])
        values = np.concatenate([unit, np.ones((*grid.shape, 1))], axis=-1).astype(np.float32)
        return PatchFeatures(np.stack([values] * len(images)), grid.valid(), grid)


LEVELS = [("embedding", 16, 128), ("fine", 8, 192)]


@pytest.mark.parametrize("level, stride, dim", mostly_slow(LEVELS, LEVELS[1]))
def test_levels(network, level, stride, dim):
    extractor: FeatureExtractor = TinyFeaturesExtractor(network, level)
    images = np.stack([picture(45, 64), picture(45, 64, 1)])
    made = extractor(images)
    cells = SIDE // stride
    assert made.values.shape == (2, cells, cells, dim) and extractor.dim == dim
    assert made.grid == extractor.grid((45, 64)) and made.grid.stride == stride
    np.testing.assert_array_equal(made.valid, made.grid.valid())
    norms = np.linalg.norm(np.asarray(made.values), axis=-1)
    np.testing.assert_allclose(norms, 1 if level == "embedding" else np.sqrt(2), rtol=1e-4)
    np.testing.assert_allclose(extractor(images[1:]).values[0], made.values[1], atol=1e-5)
    assert level in extractor.name and "test" in extractor.name


@pytest.mark.parametrize("size", [(3, 1000), (1000, 31), (1, 1), (45, 64)])
def test_every_picture_has_a_patch(network, size):
    for level in ("embedding", "fine"):
        made = TinyFeaturesExtractor(network, level)(picture(*size)[None])
        assert made.valid.any() and np.isfinite(made.values).all()


def test_a_level_that_is_none(network):
    with pytest.raises(InputError, match="level is 'coarse'; expected embedding or fine"):
        TinyFeaturesExtractor(network, "coarse")


@pytest.mark.parametrize("size", [(60, 80), (80, 61), (7, 80)])
@pytest.mark.parametrize("turned", [False, True])
def test_joined_features_lie_where_both_say(size, turned):
    """Directions that are linear in the position survive being interpolated, away from the rim."""
    parts = [Positions(80, 4), Positions(64, 16)]
    first, second = parts[::-1] if turned else parts
    joined = JoinedFeatures(first, second)
    made = joined(np.zeros((1, *size, 3), np.uint8))
    assert made.grid == parts[0].grid(size) == joined.grid(size)
    assert made.values.shape == (1, 20, 20, 6) and joined.dim == 6
    values = np.asarray(made.values[0])
    fine, coarse = (values[..., 3:], values[..., :3]) if turned else (values[..., :3], values[..., 3:])
    margin = 16 / 64 / 2 * max(size)
    centres = made.grid.patch_centres()
    within = ((centres > margin) & (centres < np.array(size[::-1]) - margin)).all(axis=-1)
    assert within.any() or min(size) < 20
    # Bilinear between unit vectors, not along the sphere: they differ by little over a patch.
    np.testing.assert_allclose(coarse[within], fine[within], atol=0.02)


def test_the_cosine_is_the_weighted_mean_of_both(network):
    descriptor = DenseDescriptor(DescriptorConfig(longest=64, stride=4, pooling=(2.0,)))
    image = picture(45, 64)[None]

    def cosines(extractor):
        flat = np.asarray(extractor(image).flat(), np.float64)
        flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        return flat @ flat.T

    learned = TinyFeaturesExtractor(network)
    alone = JoinedFeatures(descriptor, learned, 0.0), JoinedFeatures(descriptor, learned, 1.0)
    first, second = (cosines(extractor) for extractor in alone)
    np.testing.assert_allclose(first, cosines(descriptor), atol=1e-5)
    joined = JoinedFeatures(descriptor, learned, 0.3)
    np.testing.assert_allclose(cosines(joined), 0.7 * first + 0.3 * second, atol=1e-5)
    assert descriptor.name in joined.name and learned.name in joined.name and "0.3" in joined.name


def test_a_weight_that_is_no_share():
    with pytest.raises(InputError, match=r"JoinedFeatures\.weight is 2"):
        JoinedFeatures(Positions(80, 4), Positions(64, 16), 2)
