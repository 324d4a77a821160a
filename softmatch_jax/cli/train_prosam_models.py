"""The frozen models that ``softmatch train prosam`` trains a prompt encoder for."""

from __future__ import annotations

from typing import Any, NamedTuple

from softmatch_jax._checks import InputError
from softmatch_jax.cli.train_prosam_config import TrainProsamConfig
from softmatch_jax.models import FeatureExtractor
from softmatch_jax.models.prosam.frozen_sam import FrozenSam
from softmatch_jax.models.prosam.weights import StoredEncoder
from softmatch_jax.models.sam.tiny_features import TinyFeaturesExtractor
from softmatch_jax.models.sam.tiny_generator import TinySam, TinySamConfig
from softmatch_jax.models.sam.tiny_network import TinyNetwork
from softmatch_jax.pipelines.config import ModelsConfig
from softmatch_jax.training.prompt_store import FrozenStore

SIZE = 128
"""Side at which the small SAM sees pictures, where it is not given."""


class PromptModels(NamedTuple):
    """The frozen models.

    Attributes:
        store: Both, and what they made of pictures.
        about: What a file of weights says of them, see
            :func:`softmatch_jax.models.prosam.weights.save_encoder`.
    """

    store: FrozenStore
    about: dict[str, Any]


def open_models(config: TrainProsamConfig) -> PromptModels:
    """Loads the models that the settings name.

    Raises:
        InputError: One is missing, damaged or of another kind, or a size does not suit it.
    """
    features, sam, about = _embedded(config) if config.backend == "embedded" else _foundation(config)
    store = FrozenStore(features, sam, folder=config.cache)
    return PromptModels(store, {"features": features.name, "sam": sam.name, **about})


def _embedded(config: TrainProsamConfig) -> tuple[FeatureExtractor, FrozenSam, dict[str, Any]]:
    size = SIZE if config.size is None else config.size
    network = TinyNetwork.load(config.embedded_weights, size=size)
    features = TinyFeaturesExtractor(network)
    about = {"size": size, "level": features.level}
    return features, FrozenSam(TinySam(network, TinySamConfig(size=size))), about


def _foundation(config: TrainProsamConfig) -> tuple[FeatureExtractor, FrozenSam, dict[str, Any]]:
    from softmatch_jax.pipelines.foundation import load_masks, prepare
    from softmatch_jax.pipelines.prosam_models import parse_backbone

    if config.prosam_backbone is None:
        raise InputError(
            "--backend foundation needs an image encoder for the prompt encoder; expected --prosam-backbone "
            "KIND=NAME, such as dinov2=facebook/dinov2-base."
        )
    kind, name = parse_backbone(config.prosam_backbone)
    models = ModelsConfig(
        masks=config.masks,
        masks_revision=config.masks_revision,
        runtime=config.runtime,
        device=config.device,
        dtype=config.dtype,
        offline=config.offline,
    )
    prepare(models)
    from softmatch_jax.models.prosam.backbones import load_backbone

    features = load_backbone(kind, name, offline=True if config.offline else None, size=config.size)
    fit = config.sam_fit or ("published" if config.recipe == "published" else "aspect")
    about: dict[str, Any] = {"backbone": config.prosam_backbone, "masks": config.masks, "fit": fit}
    about |= {} if config.size is None else {"size": config.size}
    return features, FrozenSam(load_masks(models, fit)), about


def check_origin(stored: StoredEncoder, about: dict[str, Any], file: str) -> None:
    """Raises ``InputError`` unless an encoder to start from was trained with these models."""
    for name in ("features", "sam"):
        if stored.metadata[name] != about[name]:
            raise InputError(
                f"The prompt encoder in {file} was trained with {stored.metadata[name]}, and this is "
                f"{about[name]}; expected an encoder of the same models (or leave --init out)."
            )
