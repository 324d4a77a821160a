"""A prompt encoder's weights: by dotted name, and as a file that says what it was trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from softmatch_jax import __version__
from softmatch_jax._checks import InputError
from softmatch_jax.models.prosam.config import DistributionConfig, PromptEncoderConfig
from softmatch_jax.models.prosam.encoder import PromptEncoder
from softmatch_jax.models.sam.flat_weights import flatten
from softmatch_jax.models.sam.misfits import compare
from softmatch_jax.models.weights_file import (
    as_floats,
    check_free,
    read_arrays,
    read_file,
    read_metadata,
    write_weights,
)

FORMAT = "softmatch-prosam-1"
SHIPPED = "prosam_embedded.safetensors"
REQUIRED = ("features", "sam")
"""What metadata must say: the names of the feature extractor and of the SAM that it was trained with."""

_OWNER = "a prompt encoder (softmatch train prosam)"


class StoredEncoder(NamedTuple):
    """What a file of weights holds.

    Attributes:
        config: Sizes and choices of the encoder.
        distribution: What it was trained with.
        arrays: ``float32``, by dotted name.
        metadata: Features, SAM, data, recipe, seed, figures.
        digest: SHA-256 of the file, in hexadecimal digits.
    """

    config: PromptEncoderConfig
    distribution: DistributionConfig
    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]
    digest: str

    def module(self) -> PromptEncoder:
        """The encoder."""
        return encoder_of(self.config, self.arrays)


def encoder_arrays(module: PromptEncoder) -> dict[str, np.ndarray]:
    """The arrays of an encoder by dotted name."""
    _, state = nnx.split(module)
    return {name: np.asarray(array) for name, array in flatten(state).items()}


def expected_shapes(config: PromptEncoderConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every array of an encoder."""
    _, blank = _blank(config)
    return {_name(path): tuple(leaf.shape) for path, leaf in blank}


def encoder_of(config: PromptEncoderConfig, arrays: Mapping[str, Any]) -> PromptEncoder:
    """An encoder with its arrays.

    Raises:
        InputError: One is missing, of another shape, or not of this encoder.
    """
    _check_shapes("What was given", config, arrays)
    graph, blank = _blank(config)
    filled = [(path, leaf.replace(jnp.asarray(arrays[_name(path)], jnp.float32))) for path, leaf in blank]
    module: PromptEncoder = nnx.merge(graph, nnx.from_flat_state(filled))
    return module


def save_encoder(
    path: Path,
    arrays: Mapping[str, Any],
    *,
    config: PromptEncoderConfig,
    distribution: DistributionConfig,
    metadata: Mapping[str, Any],
) -> None:
    """Writes an encoder as ``float16``, whole or not at all.

    Args:
        path: A name ending in ``.safetensors``.
        arrays: All of its arrays, from :func:`encoder_arrays`.
        config: Its sizes and choices.
        distribution: What it was trained with.
        metadata: How it came about. ``features`` and ``sam``, the names of the models it was trained with,
            must be there; data, recipe, seed and figures should be. With the small SAM's features ``size``
            (256) and ``level`` ("fine") say where these differ from the defaults. Written as strings.

    Raises:
        InputError: The arrays are not those of such an encoder, not finite, or beyond half precision; the
            metadata lack a name or have one that is added; or the file cannot be written.
    """
    own = {
        "format": FORMAT,
        "code": __version__,
        "encoder": json.dumps(asdict(config), sort_keys=True),
        "distribution": json.dumps(asdict(distribution), sort_keys=True),
    }
    check_free(metadata, own)
    lacking = [name for name in REQUIRED if not str(metadata.get(name, "")).strip()]
    if lacking:
        raise InputError(
            f"metadata lacks {' and '.join(lacking)}; expected the names of the feature extractor and of the "
            "SAM that the encoder was trained with."
        )
    values = {name: np.asarray(array) for name, array in arrays.items()}
    _check_shapes(f"What is to be saved as {path}", config, values)
    write_weights(path, values, {**own, **metadata})


def read_encoder(path: Path | None = None) -> StoredEncoder:
    """Reads a file of :func:`save_encoder`.

    Args:
        path: The file; the shipped one, whose checksum is then verified, when ``None``.

    Raises:
        InputError: It is missing, altered, damaged, no prompt encoder, of other sizes than it says, or not
            finite.
    """
    folder = files("softmatch_jax").joinpath("weights")
    where, data = read_file(path, folder, SHIPPED, _OWNER)
    metadata = read_metadata(where, data)
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{where} has format {metadata.get('format')!r}; expected {FORMAT!r} (a file of weights of "
            f"{_OWNER})."
        )
    lacking = [name for name in REQUIRED if not metadata.get(name)]
    if lacking:
        raise InputError(f"{where} does not say its {' and '.join(lacking)}; expected a file of {_OWNER}.")
    config: PromptEncoderConfig = _settings(where, metadata, "encoder", PromptEncoderConfig)
    distribution: DistributionConfig = _settings(where, metadata, "distribution", DistributionConfig)
    stored = read_arrays(where, data)
    _check_shapes(where, config, stored)
    digest = hashlib.sha256(data).hexdigest()
    return StoredEncoder(config, distribution, as_floats(where, stored), metadata, digest)


def _settings(where: str, metadata: Mapping[str, str], name: str, kind: Any) -> Any:
    try:
        return kind(**json.loads(metadata[name]))
    except (KeyError, TypeError, ValueError) as error:  # an InputError is a ValueError
        raise InputError(
            f"{where} has settings called {name!r} that cannot be used ({error}); expected those of this "
            f"version, {__version__} (train anew, or copy the file again)."
        ) from None


def _check_shapes(where: str, config: PromptEncoderConfig, arrays: Mapping[str, Any]) -> None:
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    sizes = f"{config.channels} channels, {config.prompts} prompts of {config.dim} numbers"
    expected = "those of its settings and no others (take the weights that belong to them, or train anew)"
    compare(expected_shapes(config), shapes).check(where, f"the prompt encoder with {sizes}", expected)


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


@lru_cache(maxsize=8)
def _blank(config: PromptEncoderConfig) -> tuple[Any, tuple[tuple[tuple[Any, ...], Any], ...]]:
    """Structure, and variables by path with shapes in place of values; not to be changed."""
    graph, state = nnx.split(nnx.eval_shape(lambda: PromptEncoder(config, rngs=nnx.Rngs(0))))
    return graph, tuple(nnx.to_flat_state(state))
