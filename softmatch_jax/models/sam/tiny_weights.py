"""The tiny model's weights as a file: safetensors in half precision, and the one that is shipped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from softmatch_jax import __version__
from softmatch_jax._checks import InputError
from softmatch_jax.imaging.writing import atomic_write_bytes
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.flat_weights import Weights, expected_shapes
from softmatch_jax.models.sam.misfits import compare

PRESET = "tiny"
FORMAT = "softmatch-sam-1"
SHIPPED = "tiny_sam.safetensors"
SUMS = "SHA256SUMS"

_OWN = {"format": FORMAT, "preset": PRESET, "code": __version__}
_REINSTALL = "install the package again (pip install --force-reinstall softmatch-jax)"


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
    taken = sorted(_OWN.keys() & metadata.keys())
    if taken:
        raise InputError(f"metadata holds {', '.join(taken)}; expected other names, these are added.")
    arrays = {name: np.asarray(array) for name, array in weights.items()}
    where = f"What is to be saved as {path}"
    _check_shapes(where, arrays)
    with np.errstate(over="ignore"):  # told below
        halves = {name: np.ascontiguousarray(array, np.float16) for name, array in arrays.items()}
    _check_values(where, halves, "expected finite numbers up to 65504 (the training has diverged).")
    texts = {name: str(value) for name, value in metadata.items()}
    atomic_write_bytes(path, _serialise(halves, _OWN | texts))


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
    where, data = _read(path)
    metadata = _metadata(where, data)
    if metadata.get("format") != FORMAT or metadata.get("preset") != PRESET:
        found = ", ".join(f"{name} {metadata.get(name)!r}" for name in ("format", "preset"))
        raise InputError(
            f"{where} has {found}; expected {FORMAT!r} and {PRESET!r} (a file that the training of the tiny "
            "model wrote)."
        )
    try:
        stored = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError) as error:
        raise InputError(_damaged(where, error)) from error
    _check_shapes(where, stored)
    _check_values(where, stored, "expected finite numbers (copy the file again, or train anew).")
    arrays = {name: array.astype(np.float32) for name, array in stored.items()}
    return StoredWeights(arrays, metadata, hashlib.sha256(data).hexdigest())


def _read(path: Path | None) -> tuple[str, bytes]:
    """A name for messages and the bytes of a file."""
    folder = files("softmatch_jax").joinpath("weights")
    place = folder.joinpath(SHIPPED) if path is None else Path(path)
    try:
        data = place.read_bytes()
        sums = folder.joinpath(SUMS).read_text("ascii") if path is None else ""
    except OSError as error:
        said, cure = error.strerror or str(error), "name a file of weights of the tiny model"
        if path is None:
            cure = f"{_REINSTALL}, or name another file"
        raise InputError(
            f"{getattr(error, 'filename', None) or place} cannot be read ({said}); {cure}."
        ) from None
    if path is None:
        listed = dict(line.split(maxsplit=1)[::-1] for line in sums.splitlines() if line.strip())
        expected = listed.get(SHIPPED) or listed.get(f"*{SHIPPED}", "none")
        found = hashlib.sha256(data).hexdigest()
        if found != expected:
            raise InputError(
                f"{place} was altered: its SHA-256 is {found[:16]}..., expected {expected[:16]}... as in "
                f"{SUMS} beside it; {_REINSTALL}."
            )
    return str(place), data


def _serialise(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file; equal input gives equal bytes, which the library's order of metadata would not."""
    data = safetensors.numpy.save(dict(arrays), metadata=dict(metadata))
    length = int.from_bytes(data[:8], "little")
    head = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + data[8 + length :]


def _metadata(where: str, data: bytes) -> dict[str, str]:
    """What the head of a safetensors file says of it: eight bytes of length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    try:
        if not 0 < length <= len(data) - 8:
            raise ValueError(f"a head of {length} bytes in a file of {len(data)}")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except (ValueError, AttributeError) as error:
        raise InputError(_damaged(where, error)) from None
    return dict(metadata)


def _damaged(where: str, error: Exception) -> str:
    return f"{where} is damaged, cut short, or no safetensors file ({error}); copy it again."


def _check_shapes(where: str, arrays: Mapping[str, np.ndarray]) -> None:
    shapes = {name: array.shape for name, array in arrays.items()}
    cure = "train anew, or take the weights that belong to it"
    expected = f"those of this version, {__version__}, and no others ({cure})"
    compare(expected_shapes(SamConfig.tiny()), shapes).check(where, "the tiny model", expected)


def _check_values(where: str, arrays: Mapping[str, np.ndarray], cure: str) -> None:
    wrong = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if wrong:
        raise InputError(
            f"{where} holds NaN or infinity in {len(wrong)} of {len(arrays)} arrays ({wrong[0]}); {cure}"
        )
