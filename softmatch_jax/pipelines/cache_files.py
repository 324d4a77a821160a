"""The part of the feature cache that outlives the process: one safetensors file per entry in a folder.

Several processes may share the folder, and any of them may be killed at any time. Entries therefore appear
whole, by renaming a finished file, and what is read is believed only after its digest was recomputed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from softmatch_jax._checks import InputError

_FORMAT = "1"
_INTEGERS = frozenset({f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)})
_PLAIN = _INTEGERS | {"bool", "float16", "float32", "float64", "complex64"}
# NumPy has no such type of its own, so the files hold its bits.
_BITS = {"bfloat16": "uint16"}
# The folder may hold other things of the user's: only what has such a name is ever removed.
_ENTRY = re.compile(r"([0-9a-f]{2})/\1[0-9a-f]{62}(\.half)?\.safetensors")
_TEMPORARY = re.compile(r"[0-9a-f]{2}/\.[0-9a-f]{64}-[0-9a-f]{16}\.tmp")
_ABANDONED_SECONDS = 3600.0
# A sweep looks at every file, so it waits until a sixteenth of the bound was written and leaves as much free.
_SWEEP_FRACTION = 16


class DamagedEntryError(Exception):
    """A file is not the entry that it should be."""


def can_store(dtype: np.dtype) -> bool:
    """Whether entries may hold arrays of ``dtype``."""
    return dtype.name in _PLAIN or dtype.name in _BITS


def halve(array: np.ndarray) -> np.ndarray:
    """``float32`` rounded to ``float16``; other types, and values beyond its range, as they are."""
    if array.dtype != np.float32:
        return array
    with np.errstate(all="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(np.isinf(half), np.isinf(array)) else array


def frozen(array: np.ndarray, dtype: np.dtype | None = None) -> np.ndarray:
    """A copy in C order that nobody can make writable, since it stands on ``bytes``."""
    dtype = array.dtype if dtype is None else dtype
    data = array.astype(dtype.newbyteorder("="), copy=False).tobytes()
    return np.ndarray(array.shape, dtype.newbyteorder("="), buffer=data)


class CacheFiles:
    """Entries as files ``ab/ab....safetensors`` under a folder, or ``ab/ab....half.safetensors``.

    Not thread-safe by itself, except that files are whole whoever writes them.

    Args:
        folder: Created at the first write.
        limit: Bytes that all entries together may take; ``None`` for no bound.
        half: Store ``float32`` in 16 bits. Such entries are apart from those of full precision, so that
            neither is taken for the other.

    Raises:
        InputError: ``folder``, or what it lies in, is a file.
    """

    def __init__(self, folder: Path, limit: int | None, half: bool) -> None:
        self._folder = folder.absolute()
        there = next(p for p in (self._folder, *self._folder.parents) if os.path.lexists(p) or p == p.parent)
        if not os.path.isdir(there):
            raise InputError(
                f"{there} is not a folder; expected one for the cache of features (or none at all)."
            )
        self._limit = limit
        self._half = half
        # Until a first sweep has looked, the folder counts as full.
        self._room = -1

    def path(self, key: str) -> Path:
        """Where the entry of ``key`` is, if it is."""
        return self._folder / key[:2] / f"{key}{'.half' if self._half else ''}.safetensors"

    def read(self, key: str) -> dict[str, np.ndarray] | None:
        """The arrays of an entry, or ``None`` if there is none; marks it as used.

        Raises:
            DamagedEntryError: The file is not what was written under ``key``; it has been removed if that
                was possible.
        """
        path = self.path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None  # Not there, or out of reach for now, which says nothing against its content.
        try:
            arrays = _decode(key, data, self._half)
        except DamagedEntryError:
            with suppress(OSError):
                path.unlink()
            raise
        with suppress(OSError):
            os.utime(path)
        return arrays

    def write(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes an entry, unless it alone exceeds the bound; then evicts what was not used for longest.

        Raises:
            OSError: The folder cannot be written to; no part of the entry is left behind.
        """
        data = _encode(key, arrays, self._half)
        if self._limit is not None and len(data) > self._limit:
            return
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, data)
        self._room -= len(data)
        if self._room < 0:
            self._sweep(path)

    def _sweep(self, newest: Path) -> None:
        """Removes abandoned files, and entries from the oldest on while they exceed the bound."""
        entries, abandoned = _listed(self._folder)
        for path in abandoned:
            with suppress(OSError):
                path.unlink()
        limit = self._limit
        if limit is None:
            self._room = 1 << 62
            return
        total = sum(size for _, size, _ in entries)
        spare = limit // _SWEEP_FRACTION
        if total > limit - spare:
            for _, size, path in sorted(entries):
                if total <= limit - spare:
                    break
                if path != newest:
                    # Gone is gone, whether by this process or by another.
                    with suppress(OSError):
                        path.unlink(missing_ok=True)
                        total -= size
        # What other processes write is seen by the next sweep only, so it must not be far.
        self._room = min(limit - total, spare)


def _listed(folder: Path) -> tuple[list[tuple[int, int, Path]], list[Path]]:
    """Entries as ``(last use, bytes, path)``, and temporary files that nobody can be writing any more."""
    entries, abandoned = [], []
    deadline = time.time() - _ABANDONED_SECONDS
    for path in folder.glob("??/*"):
        name = path.relative_to(folder).as_posix()
        is_entry = _ENTRY.fullmatch(name)
        if not is_entry and not _TEMPORARY.fullmatch(name):
            continue
        try:
            status = path.stat()
        except OSError:
            continue
        if is_entry:
            entries.append((status.st_mtime_ns, status.st_size, path))
        elif status.st_mtime < deadline:
            abandoned.append(path)
    return entries, abandoned


def _write_whole(path: Path, data: bytes) -> None:
    """Writes a file that is there with all of ``data`` or not at all."""
    temporary = path.with_name(f".{path.name[:64]}-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _encode(key: str, arrays: Mapping[str, np.ndarray], half: bool) -> bytes:
    """A safetensors file of arrays in C order, whose metadata tell what it is."""
    stored = {}
    for name, array in arrays.items():
        plain = array.view(_BITS[array.dtype.name]) if array.dtype.name in _BITS else array
        stored[name] = halve(plain) if half else plain
    types = {name: array.dtype.name for name, array in arrays.items()}
    metadata = {"format": _FORMAT, "key": key, "half": str(half), "types": json.dumps(types)}
    metadata["digest"] = _digest(metadata, stored)
    import safetensors.numpy  # here, since settings are read without it

    return safetensors.numpy.save(stored, metadata)


def _decode(key: str, data: bytes, half: bool) -> dict[str, np.ndarray]:
    """The arrays of a file, in the types in which they were given."""
    import safetensors.numpy

    # A damaged file can fail in any of these steps, and in any way.
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = header["__metadata__"]
        if (metadata["format"], metadata["key"], metadata["half"]) != (_FORMAT, key, str(half)):
            raise DamagedEntryError("The file is of another version or another entry.")
        stored = safetensors.numpy.load(data)
        if metadata.pop("digest") != _digest(metadata, stored):
            raise DamagedEntryError("The values are not those that were written.")
        types = json.loads(metadata["types"])
        return {name: _restored(stored[name], kind) for name, kind in types.items()}
    except (DamagedEntryError, MemoryError):
        raise
    except Exception as error:
        raise DamagedEntryError(f"The file cannot be read ({error}).") from error


def _restored(stored: np.ndarray, kind: str) -> np.ndarray:
    """An array of the type in which it was given, immutable."""
    if kind in _BITS:
        # JAX brings this package; it makes NumPy know the type.
        import ml_dtypes

        return frozen(stored.view(getattr(ml_dtypes, kind)))
    return frozen(stored, np.dtype(kind))


def _digest(metadata: Mapping[str, str], stored: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over everything that an entry says."""
    digest = hashlib.sha256()
    shapes = {name: [array.dtype.name, list(array.shape)] for name, array in stored.items()}
    digest.update(json.dumps([dict(metadata), shapes], sort_keys=True).encode())
    for name in sorted(stored):
        digest.update(stored[name].reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
