"""Putting ProSAM together: a prompt encoder's weights with the frozen models that they were trained with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from softmatch_jax._checks import InputError
from softmatch_jax.models import FeatureExtractor
from softmatch_jax.models.prosam.frozen_sam import FrozenSam
from softmatch_jax.models.prosam.predictor import Predictor
from softmatch_jax.models.prosam.weights import StoredEncoder, read_encoder
from softmatch_jax.models.sam.tiny_features import Level, TinyFeaturesExtractor
from softmatch_jax.models.sam.tiny_generator import TinySam, TinySamConfig
from softmatch_jax.models.sam.tiny_network import TinyNetwork
from softmatch_jax.pipelines.config import ModelsConfig
from softmatch_jax.pipelines.feature_cache import FeatureCache
from softmatch_jax.pipelines.foundation import load_masks, prepare

if TYPE_CHECKING:
    from softmatch_jax.models.prosam.backbones import BackboneKind
    from softmatch_jax.models.sam.fitting import SamFit

_SIZE = 256  # at which the small SAM sees pictures where the weights do not say


def load_embedded(weights: Path | None, sam_weights: Path | None) -> tuple[Predictor, str]:
    """A predictor on the small SAM, and a name for its encoder.

    Args:
        weights: Of the encoder; those that come with the package when ``None``.
        sam_weights: Of the small SAM; likewise.

    Raises:
        InputError: A file cannot be used, or the encoder was trained with other models.
    """
    stored = read_encoder(weights)
    size, level = _size(stored) or _SIZE, stored.metadata.get("level", "fine")
    if not stored.metadata["sam"].startswith("tiny-sam("):
        raise InputError(
            f"The prompt encoder was trained with {stored.metadata['sam']}, which is not the small SAM; "
            "expected the foundation models with it (ProSAM.foundation, --backend foundation)."
        )
    if level not in get_args(Level):
        raise InputError(f"The prompt encoder says level {level!r}; expected {' or '.join(get_args(Level))}.")
    network = TinyNetwork.load(sam_weights, size=size)
    features = TinyFeaturesExtractor(network, cast(Level, level))
    sam = FrozenSam(TinySam(network, TinySamConfig(size=size)))
    for name, found in (("features", features.name), ("sam", sam.name)):
        if stored.metadata[name] != found:
            raise InputError(
                f"The prompt encoder was trained with {stored.metadata[name]}, and this is {found}; expected "
                "the same (the weights of the small SAM that belong to it)."
            )
    return _predictor(stored, features, sam)


def load_foundation(
    weights: Path, backbone: str | None, models: ModelsConfig
) -> tuple[Predictor, str, FeatureCache]:
    """A predictor on SAM and a backbone, a name for its encoder, and a cache.

    The kinds of the models must be those of the training, not their places: weights may lie elsewhere here.

    Args:
        weights: Of the encoder.
        backbone: ``KIND=NAME``, as :func:`parse_backbone` takes it; what the weights say when ``None``.
        models: Which SAM, how it runs, and the cache.

    Raises:
        InputError: A package or a model is missing, or the encoder was trained with models of another kind.
    """
    stored = read_encoder(weights)
    said = backbone or stored.metadata.get("backbone")
    if said is None:
        raise InputError(
            f"The prompt encoder does not name its backbone, but {stored.metadata['features']}; expected one "
            "with it (--prosam-backbone KIND=NAME)."
        )
    kind, name = parse_backbone(said)
    cache = prepare(models)
    from softmatch_jax.models.prosam.backbones import load_backbone

    features = load_backbone(kind, name, offline=True if models.offline else None, size=_size(stored))
    _check_masks(stored.metadata.get("masks"), models.masks)
    fit: SamFit = "published" if stored.metadata.get("fit") == "published" else "aspect"
    sam = FrozenSam(load_masks(models, fit))
    for trained, found in ((stored.metadata["features"], features.name), (stored.metadata["sam"], sam.name)):
        if trained.partition("(")[0] != found.partition("(")[0]:
            raise InputError(
                f"The prompt encoder was trained with {trained}, and this is {found}; expected a model of "
                "the same kind."
            )
    return (*_predictor(stored, features, sam), cache)


def _check_masks(trained: str | None, given: str) -> None:
    """Refuses another SAM; the same one may lie elsewhere here."""
    if trained is not None and Path(trained).name != Path(given).name:
        raise InputError(
            f"The prompt encoder was trained with {trained}, but the SAM is {given}; expected the SAM it was "
            f"trained with (--masks {trained})."
        )


def parse_backbone(text: str) -> tuple[BackboneKind, str]:
    """``resnet50=timm/resnet50s.gluon_in1k`` as the kind of a network and the name of its weights.

    Raises:
        InputError: It is of another form, or there is no such kind.
    """
    from softmatch_jax.models.prosam.backbones import BackboneKind

    kind, equals, name = text.partition("=")
    if kind not in get_args(BackboneKind) or not equals or not name:
        raise InputError(
            f"The backbone is {text!r}; expected KIND=NAME with a KIND of "
            f"{', '.join(get_args(BackboneKind))}, such as dinov2=facebook/dinov2-base."
        )
    return cast("BackboneKind", kind), name


def _predictor(stored: StoredEncoder, features: FeatureExtractor, sam: FrozenSam) -> tuple[Predictor, str]:
    kind = "prosam" if stored.config.variational else "vrp-sam"
    predictor = Predictor(features, sam, stored.module(), stored.distribution)
    return predictor, f"{kind}({stored.digest[:12]})"


def _size(stored: StoredEncoder) -> int | None:
    """At which size pictures were seen, where the weights say it."""
    text = stored.metadata.get("size")
    if text is None:
        return None
    if not text.isdecimal():
        raise InputError(f"The prompt encoder says size {text!r}; expected a number of pixels.")
    return int(text)
