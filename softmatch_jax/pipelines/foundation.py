"""Putting the foundation models together: DINOv2, SAM, CLIP and the cache."""

from __future__ import annotations

from typing import NamedTuple

from softmatch_jax.models import FeatureExtractor, MaskGenerator
from softmatch_jax.models.optional import require
from softmatch_jax.pipelines.config import ModelsConfig
from softmatch_jax.pipelines.feature_cache import CacheConfig, FeatureCache
from softmatch_jax.pipelines.texts import TextModel


class FoundationModels(NamedTuple):
    """What :func:`load_models` loads.

    Attributes:
        features: DINOv2.
        masks: SAM.
        text: CLIP, or None.
        cache: Remembers what they made of pictures.
    """

    features: FeatureExtractor
    masks: MaskGenerator
    text: TextModel | None
    cache: FeatureCache


def load_models(config: ModelsConfig) -> FoundationModels:
    """Loads the models that the settings name.

    Raises:
        InputError: A package of the extra ``foundation`` is missing, or a model is not to be had,
            damaged, or of another kind.
    """
    for package in ("torch", "transformers", "safetensors", "flax"):
        require(package)
    # These modules are made of flax and torch, which only those who load a model need.
    from softmatch_jax.models.checkpoints import locate
    from softmatch_jax.models.clip import Clip, ClipConfig
    from softmatch_jax.models.dinov2 import Dinov2, Dinov2Config
    from softmatch_jax.models.sam.generator import SamGeneratorConfig, SamMaskGenerator

    # None leaves it to the environment whether the hub may be asked.
    offline = True if config.offline else None
    device, dtype = config.device, config.dtype
    # All of them are looked for first: it is quicker to see that one is missing than to read another.
    for name, revision in (
        (config.features, config.features_revision),
        (config.masks, config.masks_revision),
        (config.text_model, config.text_model_revision),
    ):
        if name is not None:
            locate(name, revision=revision, offline=offline)
    features = Dinov2.load(
        config.features,
        revision=config.features_revision,
        offline=offline,
        config=Dinov2Config(
            size=config.size, fit=config.fit, layer=config.layer, norm=config.norm, device=device, dtype=dtype
        ),
    )
    masks = SamMaskGenerator.load(
        config.masks,
        revision=config.masks_revision,
        offline=offline,
        config=SamGeneratorConfig(device=device, dtype=dtype),
    )
    text = None
    if config.text_model is not None:
        text = Clip.load(
            config.text_model,
            revision=config.text_model_revision,
            offline=offline,
            config=ClipConfig(device=device, dtype=dtype),
        )
    cache = FeatureCache(CacheConfig(folder=config.cache, half=config.cache_half))
    return FoundationModels(features, masks, text, cache)
