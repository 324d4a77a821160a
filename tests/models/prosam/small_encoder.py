"""Prompt encoders of random weights: for the shipped small SAM as a file, and for a smaller one at work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from softmatch_jax.models.prosam.config import DistributionConfig, PromptEncoderConfig
from softmatch_jax.models.prosam.encoder import PromptEncoder
from softmatch_jax.models.prosam.frozen_sam import FrozenSam
from softmatch_jax.models.prosam.predictor import Predictor
from softmatch_jax.models.prosam.weights import encoder_of, expected_shapes, save_encoder
from softmatch_jax.models.sam.tiny_features import TinyFeaturesExtractor
from softmatch_jax.models.sam.tiny_generator import TinySam, TinySamConfig
from softmatch_jax.models.sam.tiny_network import TinyNetwork

_TESTS = str(Path(__file__).parents[2])
if _TESTS not in sys.path:
    sys.path.append(_TESTS)
from small_sam import drawn_weights, small_config  # noqa: E402


def tiny_config(**changes: Any) -> PromptEncoderConfig:
    sizes: dict[str, Any] = {"channels": 192, "dim": 128, "to_grid": "area", "likeness": "minmax"}
    return PromptEncoderConfig(**(sizes | changes))


def random_arrays(config: PromptEncoderConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """As wide as a training starts from; drawn without JAX, which would compile for half a minute."""
    rng, arrays = np.random.default_rng(seed), {}
    for name, shape in expected_shapes(config).items():
        values = rng.normal(size=shape)
        if name.endswith("kernel"):
            values /= np.sqrt(shape[0])
        elif name.endswith(("bias", "scale")):
            values = 0.1 * values + name.endswith("scale")
        arrays[name] = values.astype(np.float32)
    return arrays


def random_encoder(config: PromptEncoderConfig, seed: int = 0) -> PromptEncoder:
    return encoder_of(config, random_arrays(config, seed))


def small_predictor(seed: int = 0, **changes: Any) -> Predictor:
    """Of a SAM whose networks are a layer or two deep, for squares of 64 pixels."""
    network = TinyNetwork(drawn_weights(), size=64, source="drawn")
    network.config = small_config(64)
    features, sam = TinyFeaturesExtractor(network), FrozenSam(TinySam(network, TinySamConfig(size=64)))
    config = tiny_config(**({"channels": features.dim, "dim": sam.dim, "prompts": 5} | changes))
    return Predictor(features, sam, random_encoder(config, seed))


def write_encoder(path: Path, *, size: int = 64, seed: int = 0, **changes: Any) -> Path:
    """Saves a random encoder whose metadata say that it was trained on the shipped SAM at ``size``."""
    config, network = tiny_config(**changes), TinyNetwork.load(size=size)
    features, sam = TinyFeaturesExtractor(network), FrozenSam(TinySam(network, TinySamConfig(size=size)))
    save_encoder(
        path,
        random_arrays(config, seed),
        config=config,
        distribution=DistributionConfig(family="student" if config.variational else "none"),
        metadata={"features": features.name, "sam": sam.name, "size": size, "recipe": "random", "seed": seed},
    )
    return path
