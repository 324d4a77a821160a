"""The tiny model's weights as a file: safetensors in half precision, and the one that is shipped."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from softmatch_jax import __version__
from softmatch_jax._checks import InputError
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.flat_weights import Weights, expected_shapes
from softmatch_jax.models.sam.misfits import compare
from softmatch_jax.models.weights_file import (
    SUMS,
    as_floats,
    check_free,
    read_arrays,
    read_file,
    read_metadata,
    write_weights,
)

__all__ = [
    "FORMAT",
    "PRESET",
    "SHIPPED",
    "SUMS",
    "StoredWeights",
    "load_weights",
    "read_weights",
    "save_weights",
]

PRESET = "tiny"
FORMAT = "softmatch-sam-1"
SHIPPED = "tiny_sam.safetensors"

_OWN = {"format": FORMAT, "preset": PRESET, "code": __version__}


class StoredWeights(NamedTuple):
    """What a file of weights holds.

    Attributes:
        arrays: ``float32``, by dotted name as in :mod:`~softmatch_jax.models.sam.flat_weights`.
        metadata: Preset, recipe, seed, data, figures.
        digest: SHA-256 of the file, in hexadecimal digits.
    """

    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]
    digest: str


def save_weights(path: Path, weights: Mapping[str, Any], *, metadata: Mapping[str, Any]) -> None:
    """Writes weights as ``float16``, whole or not at all.

    Args:
        path: A name ending in ``.safetensors``.
        weights: All arrays of the tiny model by name.
        metadata: How they came about: recipe, seed, data, figures. Written as strings; format, preset and
            version of the code are added.

    Raises:
        InputError: The weights are not those of the tiny model, not finite, or beyond half precision; the
            metadata name what is added; or the file cannot be written.
    """
    check_free(metadata, _OWN)
    arrays = {name: np.asarray(array) for name, array in weights.items()}
    _check_shapes(f"What is to be saved as {path}", arrays)
    write_weights(path, arrays, {**_OWN, **metadata})


def load_weights(path: Path | None = None) -> Weights:
    """The weights in a file as ``float32`` arrays by name; see :func:`read_weights`."""
    return {name: jnp.asarray(array) for name, array in read_weights(path).arrays.items()}


def read_weights(path: Path | None = None) -> StoredWeights:
    """Reads a file of :func:`save_weights`.

    Args:
        path: The file; the shipped one, whose checksum is then verified, when ``None``.

    Raises:
        InputError: It is missing, altered, damaged, of another model, or not finite.
    """
    folder = files("softmatch_jax").joinpath("weights")
    where, data = read_file(path, folder, SHIPPED, "the tiny model")
    metadata = read_metadata(where, data)
    if metadata.get("format") != FORMAT or metadata.get("preset") != PRESET:
        found = ", ".join(f"{name} {metadata.get(name)!r}" for name in ("format", "preset"))
        raise InputError(
            f"{where} has {found}; expected {FORMAT!r} and {PRESET!r} (a file that the training of the tiny "
            "model wrote)."
        )
    stored = read_arrays(where, data)
    _check_shapes(where, stored)
    return StoredWeights(as_floats(where, stored), metadata, hashlib.sha256(data).hexdigest())


def _check_shapes(where: str, arrays: Mapping[str, np.ndarray]) -> None:
    shapes = {name: array.shape for name, array in arrays.items()}
    cure = "train anew, or take the weights that belong to it"
    expected = f"those of this version, {__version__}, and no others ({cure})"
    compare(expected_shapes(SamConfig.tiny()), shapes).check(where, "the tiny model", expected)
