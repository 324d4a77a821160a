"""The models that come with the package: which there are, and making them.

Kept free of JAX and OpenCV until models are made, since the command line takes its choices from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from softmatch_jax._checks import InputError

if TYPE_CHECKING:
    from softmatch_jax.models import FeatureExtractor, MaskGenerator

EmbeddedMasks: TypeAlias = Literal["grabcut", "tiny", "both"]
EmbeddedFeatures: TypeAlias = Literal["descriptor", "tiny", "joined"]


def embedded_models(
    *,
    stride: int = 4,
    masks: EmbeddedMasks = "grabcut",
    features: EmbeddedFeatures = "descriptor",
    weights: Path | None = None,
) -> tuple[FeatureExtractor, MaskGenerator]:
    """Makes a feature extractor and a mask generator; Flax is imported for the tiny model only.

    Args:
        stride: Of the descriptor, see :meth:`Softmatcher.embedded`.
        masks: The mask generator.
        features: The feature extractor.
        weights: Of the tiny model, as ``softmatch train export`` writes them; those that come with the
            package when ``None``.

    Raises:
        InputError: There is no such model, ``stride`` does not divide 448, or the weights are missing,
            altered or of another model.
    """
    for name, value, choices in (("masks", masks, EmbeddedMasks), ("features", features, EmbeddedFeatures)):
        if value not in get_args(choices):
            raise InputError(f"{name} is {value!r}; expected {', '.join(get_args(choices))}.")
    from softmatch_jax.models import DenseDescriptor, DescriptorConfig, GrabCut

    descriptor = DenseDescriptor(DescriptorConfig(stride=stride))
    if masks == "grabcut" and features == "descriptor":
        return descriptor, GrabCut()
    from softmatch_jax.models.embedded.both import EitherGenerator
    from softmatch_jax.models.sam.tiny_features import JoinedFeatures, TinyFeaturesExtractor
    from softmatch_jax.models.sam.tiny_generator import TinySam
    from softmatch_jax.models.sam.tiny_network import TinyNetwork

    network = TinyNetwork.load(weights)
    learned = TinyFeaturesExtractor(network)
    extractors: dict[str, FeatureExtractor] = {
        "descriptor": descriptor,
        "tiny": learned,
        "joined": JoinedFeatures(descriptor, learned),
    }
    generators: dict[str, MaskGenerator] = {"grabcut": GrabCut(), "tiny": TinySam(network)}
    generators["both"] = EitherGenerator(GrabCut(), TinySam(network))
    return extractors[features], generators[masks]
