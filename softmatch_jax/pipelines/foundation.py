"""Putting the foundation models together: DINOv2, SAM, CLIP and the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypedDict

from softmatch_jax.models import FeatureExtractor, MaskGenerator
from softmatch_jax.models.optional import require
from softmatch_jax.pipelines.config import ModelsConfig
from softmatch_jax.pipelines.feature_cache import CacheConfig, FeatureCache
from softmatch_jax.pipelines.texts import TextModel

if TYPE_CHECKING:
    from softmatch_jax.models.sam.fitting import SamFit
    from softmatch_jax.models.sam.generator import SamMaskGenerator

_MEGABYTE = 10**6


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
    """Loads the models that the settings name, after a look at whether all is there.

    Raises:
        InputError: A package of the extra ``foundation`` is missing, the device, the precision or the
            folder of the cache cannot be used, or a model cannot be found, is damaged, or is of another kind.
    """
    cache = prepare(config)
    _find_checkpoints(config)
    return FoundationModels(_load_features(config), load_masks(config), _load_text(config), cache)


def prepare(config: ModelsConfig) -> FeatureCache:
    """Looks whether models can run as the settings say, and makes their cache.

    Raises:
        InputError: As :func:`load_models`, the models themselves aside.
    """
    for package in ("torch", "transformers"):
        require(package)
    # Modules of models are imported where they are needed: they are made of torch and flax.
    from softmatch_jax.models.preprocessing import pick_device, pick_dtype

    pick_dtype(config.dtype, pick_device(config.device))
    if config.runtime == "jax":
        from softmatch_jax.models.sam.jax_devices import pick_jax_device, pick_jax_dtype

        pick_jax_dtype(config.dtype, pick_jax_device(config.device))
    limit = None if config.cache_limit_mb is None else config.cache_limit_mb * _MEGABYTE
    return FeatureCache(CacheConfig(folder=config.cache, half=config.cache_half, disk_bytes=limit))


class _Source(TypedDict):
    """Where a model may come from."""

    revision: str | None
    offline: bool | None


def _source(config: ModelsConfig, revision: str | None) -> _Source:
    # None leaves it to the environment whether the hub may be asked.
    return {"revision": revision, "offline": True if config.offline else None}


def _find_checkpoints(config: ModelsConfig) -> None:
    """Finds all of them: it is quicker to see that one is missing than to read another."""
    from softmatch_jax.models.checkpoints import locate

    for name, revision in (
        (config.features, config.features_revision),
        (config.masks, config.masks_revision),
        (config.text_model, config.text_model_revision),
    ):
        if name is not None:
            locate(name, **_source(config, revision))


def _load_features(config: ModelsConfig) -> FeatureExtractor:
    from softmatch_jax.models.dinov2 import Dinov2, Dinov2Config

    settings = Dinov2Config(
        size=config.size,
        fit=config.fit,
        layer=config.layer,
        norm=config.norm,
        device=config.device,
        dtype=config.dtype,
    )
    return Dinov2.load(config.features, config=settings, **_source(config, config.features_revision))


def load_masks(config: ModelsConfig, fit: SamFit = "aspect") -> SamMaskGenerator:
    """Loads the SAM that the settings name, which is given pictures in the way that ``fit`` says.

    Raises:
        InputError: It cannot be found, is damaged, or of another kind.
    """
    from softmatch_jax.models.sam.generator import SamGeneratorConfig, SamMaskGenerator

    settings = SamGeneratorConfig(
        runtime=config.runtime, device=config.device, dtype=config.dtype, chunk=config.chunk, fit=fit
    )
    return SamMaskGenerator.load(config.masks, config=settings, **_source(config, config.masks_revision))


def _load_text(config: ModelsConfig) -> TextModel | None:
    if config.text_model is None:
        return None
    from softmatch_jax.models.clip import Clip, ClipConfig

    settings = ClipConfig(device=config.device, dtype=config.dtype)
    return Clip.load(config.text_model, config=settings, **_source(config, config.text_model_revision))
