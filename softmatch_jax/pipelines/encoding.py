"""Running models on a picture, or remembering what they made of it."""

from __future__ import annotations

from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from softmatch_jax._checks import check_finite
from softmatch_jax._types import Image, Size
from softmatch_jax.models import MaskGenerator, PatchFeatures, Storable
from softmatch_jax.pipelines.feature_cache import FeatureCache, content_key
from softmatch_jax.prompting import PatchGrid


class _Extractor(Protocol):
    """What features are cached of: a feature extractor or a text model."""

    @property
    def name(self) -> str: ...

    def grid(self, image_size: Size) -> PatchGrid: ...

    def __call__(self, images: UInt8[np.ndarray, "B H W 3"]) -> PatchFeatures: ...


def cached_features(extractor: _Extractor, image: Image, cache: FeatureCache | None) -> PatchFeatures:
    """Features of a picture, a batch of one, from the cache where they are in it.

    Raises:
        InputError: The model makes features that are not finite.
    """

    def compute() -> PatchFeatures:
        made = extractor(image[None])
        check_finite(
            f"features from {extractor.name}",
            made.values,
            "expected finite features (the model or its weights are broken for this picture).",
        )
        return made

    if cache is None:
        return compute()
    key = content_key(image, extractor.name)
    arrays = cache.get_or_compute(key, lambda: {"values": np.asarray(compute().values)})
    grid = extractor.grid((image.shape[0], image.shape[1]))
    return PatchFeatures(jnp.asarray(arrays["values"], jnp.float32), grid.valid(), grid)


def cached_embedding(generator: MaskGenerator, image: Image, cache: FeatureCache | None) -> Any:
    """A generator's embedding of a picture, from the cache where it is worth keeping there."""
    if cache is None or not isinstance(generator, Storable):
        return generator.encode(image)
    key = content_key(image, generator.embedding_name)
    arrays = cache.get_or_compute(key, lambda: generator.pack(generator.encode(image)))
    return generator.unpack(arrays, (image.shape[0], image.shape[1]))
