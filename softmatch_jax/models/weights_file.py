"""A file of trained weights: safetensors in half precision, written whole or not at all, read with care."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from softmatch_jax._checks import InputError
from softmatch_jax.imaging.writing import atomic_write_bytes

SUMS = "SHA256SUMS"
"""Lists the checksums of the files that come with the package."""

_REINSTALL = "install the package again (pip install --force-reinstall softmatch-jax)"


def write_weights(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Writes arrays as ``float16``; equal ones make equal files.

    Args:
        path: A name ending in ``.safetensors``.
        arrays: By name.
        metadata: What the head of the file says; written as strings.

    Raises:
        InputError: A value is not finite or beyond half precision, or the file cannot be written.
    """
    with np.errstate(over="ignore"):  # told below
        halves = {name: np.ascontiguousarray(array, np.float16) for name, array in arrays.items()}
    _check_values(
        f"What is to be saved as {path}",
        halves,
        "expected finite numbers up to 65504 (the training has diverged).",
    )
    atomic_write_bytes(path, _serialise(halves, {name: str(value) for name, value in metadata.items()}))


def check_free(metadata: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raises ``InputError`` where metadata name what is added to them."""
    taken = sorted(own.keys() & metadata.keys())
    if taken:
        raise InputError(f"metadata holds {', '.join(taken)}; expected other names, these are added.")


def read_file(path: Path | None, folder: Traversable, shipped: str, owner: str) -> tuple[str, bytes]:
    """A name for messages and the bytes of a file.

    Args:
        path: The file; the shipped one, whose checksum is then verified, when ``None``.
        folder: Where the shipped ones are.
        shipped: The name of that which is meant.
        owner: Whose weights these are, for messages.

    Raises:
        InputError: It is missing, or the shipped one was altered.
    """
    place = folder.joinpath(shipped) if path is None else Path(path)
    try:
        data = place.read_bytes()
        sums = folder.joinpath(SUMS).read_text("ascii") if path is None else ""
    except OSError as error:
        said, cure = error.strerror or str(error), f"name a file of weights of {owner}"
        if path is None:
            cure = f"{_REINSTALL}, or name another file"
        raise InputError(
            f"{getattr(error, 'filename', None) or place} cannot be read ({said}); {cure}."
        ) from None
    if path is None:
        listed = dict(line.split(maxsplit=1)[::-1] for line in sums.splitlines() if line.strip())
        expected = listed.get(shipped) or listed.get(f"*{shipped}", "none")
        found = hashlib.sha256(data).hexdigest()
        if found != expected:
            raise InputError(
                f"{place} was altered: its SHA-256 is {found[:16]}..., expected {expected[:16]}... as in "
                f"{SUMS} beside it; {_REINSTALL}."
            )
    return str(place), data


def read_metadata(where: str, data: bytes) -> dict[str, str]:
    """What the head of a safetensors file says of it: eight bytes of length, then JSON.

    Raises:
        InputError: It is no such file.
    """
    length = int.from_bytes(data[:8], "little")
    try:
        if not 0 < length <= len(data) - 8:
            raise ValueError(f"a head of {length} bytes in a file of {len(data)}")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except (ValueError, AttributeError) as error:
        raise InputError(_damaged(where, error)) from None
    return dict(metadata)


def read_arrays(where: str, data: bytes) -> dict[str, np.ndarray]:
    """The arrays as they are stored.

    Raises:
        InputError: The file is damaged.
    """
    try:
        return dict(safetensors.numpy.load(data))
    except (safetensors.SafetensorError, KeyError) as error:
        raise InputError(_damaged(where, error)) from error


def as_floats(where: str, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Stored arrays as ``float32``.

    Raises:
        InputError: A value is not finite.
    """
    _check_values(where, stored, "expected finite numbers (copy the file again, or train anew).")
    return {name: array.astype(np.float32) for name, array in stored.items()}


def _serialise(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file; equal input gives equal bytes, which the library's order of metadata would not."""
    data = safetensors.numpy.save(dict(arrays), metadata=dict(metadata))
    length = int.from_bytes(data[:8], "little")
    head = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + data[8 + length :]


def _damaged(where: str, error: Exception) -> str:
    return f"{where} is damaged, cut short, or no safetensors file ({error}); copy it again."


def _check_values(where: str, arrays: Mapping[str, np.ndarray], cure: str) -> None:
    wrong = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if wrong:
        raise InputError(
            f"{where} holds NaN or infinity in {len(wrong)} of {len(arrays)} arrays ({wrong[0]}); {cure}"
        )
