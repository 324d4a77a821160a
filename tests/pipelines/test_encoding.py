from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flood_generator import FloodGenerator
from scenes import RED, scene
from small_models import Colours

from softmatch_jax import InputError, Softmatcher, SoftmatcherConfig
from softmatch_jax.models import DenseDescriptor, DescriptorConfig, GrabCut, PatchFeatures, Storable
from softmatch_jax.pipelines import CacheConfig, FeatureCache
from softmatch_jax.pipelines.encoding import cached_embedding, cached_features
from softmatch_jax.prompting import Polyline, Scribbles

SIZE, KEY = (90, 121), jax.random.key(0)


class Counting:
    """A descriptor that counts the pictures it is shown."""

    def __init__(self, gradient_scale=1.5):
        self.own = DenseDescriptor(
            DescriptorConfig(longest=64, stride=4, pooling=(2.0,), gradient_scale=gradient_scale)
        )
        self.name, self.dim, self.grid, self.calls = self.own.name, self.own.dim, self.own.grid, 0

    def __call__(self, images):
        self.calls += len(images)
        return self.own(images)


@pytest.fixture(scope="module")
def picture():
    return scene(SIZE, [((60, 45), 25, RED)], 0)


def made(cache=None, text=None, **flood):
    return Softmatcher(
        Counting(), FloodGenerator(**flood), SoftmatcherConfig.foundation(), text, FeatureCache(cache)
    )


def test_no_picture_is_encoded_twice(picture):
    image, (mask,) = picture
    matcher = made(text=Colours())
    first = matcher.reference(image, mask)
    strokes = Scribbles((Polyline(((50, 40), (70, 50)), 4),))
    matcher.reference(image.copy(), strokes)
    matcher.segment(np.ascontiguousarray(image), first, key=KEY)
    assert matcher.features.calls == matcher.masks.encodings == matcher.text.calls == 1
    other = image.copy()
    other[0, 0, 0] ^= 1
    matcher.segment(other, first, key=KEY)
    assert matcher.features.calls == matcher.masks.encodings == matcher.text.calls == 2


def test_what_comes_from_the_cache_is_what_was_computed(picture):
    image, (mask,) = picture
    matcher, plain = made(), replace(made(), cache=None)
    target, _ = scene(SIZE, [((80, 40), 24, RED)], 3)
    reference = plain.reference(image, mask)
    wanted = plain.segment(target, reference, key=KEY)
    for _ in range(2):
        found = matcher.segment(target, matcher.reference(image, mask), key=KEY)
        assert found.labels.tobytes() == wanted.labels.tobytes()
        assert found.classes[0].match_map.tobytes() == wanted.classes[0].match_map.tobytes()
    computed, cached = (one.encode(target).features for one in (plain, matcher))
    assert cached.grid == computed.grid and cached.values.dtype == computed.values.dtype
    np.testing.assert_array_equal(cached.values, computed.values)
    np.testing.assert_array_equal(cached.valid, computed.valid)


def test_two_processes_share_a_folder(picture, tmp_path):
    image, (mask,) = picture
    first, second = (made(CacheConfig(folder=tmp_path)) for _ in range(2))
    wanted = first.segment(image, first.reference(image, mask), key=KEY)
    found = second.segment(image, second.reference(image, mask), key=KEY)
    assert (first.features.calls, second.features.calls) == (1, 0)
    assert (first.masks.encodings, second.masks.encodings) == (1, 0)
    assert found.labels.tobytes() == wanted.labels.tobytes()


def test_half_precision_is_close(picture, tmp_path):
    matcher = made(CacheConfig(folder=tmp_path, half=True))
    exact, half = (one.encode(picture[0]).features for one in (replace(matcher, cache=None), matcher))
    assert half.values.dtype == exact.values.dtype
    np.testing.assert_allclose(half.values, exact.values, rtol=1e-3, atol=1e-3)


def test_another_model_has_entries_of_its_own(picture):
    cache = FeatureCache()
    one, other = Counting(), Counting(3.0)
    first, second = (cached_features(extractor, picture[0], cache) for extractor in (one, other))
    assert one.calls == other.calls == 1 and np.abs(first.values - second.values).max() > 0


def test_decoding_has_no_part_in_an_embedding(picture):
    cache = FeatureCache()
    one, other = FloodGenerator(tolerance=10), FloodGenerator(tolerance=90)
    first, second = (cached_embedding(generator, picture[0], cache) for generator in (one, other))
    assert (one.encodings, other.encodings) == (1, 0)
    np.testing.assert_array_equal(first.image, second.image)
    assert first.image_size == second.image_size == SIZE


def test_what_is_cheap_is_not_kept(picture):
    cache = FeatureCache()
    assert not isinstance(GrabCut(), Storable) and isinstance(FloodGenerator(), Storable)
    assert cached_embedding(GrabCut(), picture[0], cache).image_size == SIZE
    assert cache.stats.misses == 0


def test_features_that_are_not_finite_are_not_kept(picture):
    class Broken(Counting):
        def __call__(self, images):
            features = super().__call__(images)
            values = jnp.where(self.calls == 1, jnp.nan, features.values)
            return PatchFeatures(values, features.valid, features.grid)

    cache, broken = FeatureCache(), Broken()
    with pytest.raises(InputError, match="expected finite features"):
        cached_features(broken, picture[0], cache)
    assert np.isfinite(cached_features(broken, picture[0], cache).values).all()


def test_what_is_handed_out_cannot_spoil_the_cache(picture):
    cache, extractor = FeatureCache(), Counting()
    first = cached_features(extractor, picture[0], cache)
    first.valid[:] = False
    assert cached_features(extractor, picture[0], cache).valid.any()
