"""What models make of pictures, kept by the content of the picture: a changed scribble re-encodes nothing."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from softmatch_jax._checks import InputError, check_image
from softmatch_jax._types import Image
from softmatch_jax.pipelines.cache_files import CacheFiles, DamagedEntryError, can_store, frozen, halve

Entry: TypeAlias = dict[str, np.ndarray]
"""Arrays by name; those that come out of a cache cannot be written to."""

_KEY_VERSION = 1
_KEY = re.compile("[0-9a-f]{64}")


def content_key(image: Image, model: str) -> str:
    """The key of what ``model`` makes of ``image``: the same for the same pixels, from whatever file.

    Args:
        image: ``uint8 [H, W, 3]``.
        model: Everything that the result depends on beside the picture: the model's name, the revision of
            its checkpoint, its settings and the version of the preprocessing.

    Returns:
        64 hexadecimal digits (SHA-256).

    Raises:
        InputError: ``image`` is not a picture, or ``model`` is empty.
    """
    check_image("image", image)
    if not model:
        raise InputError("model is empty; expected the name of the model with its revision and settings.")
    pixels = np.ascontiguousarray(image)
    # The lengths keep what is written from being read in two ways.
    name = model.encode()
    digest = hashlib.sha256(f"softmatch {_KEY_VERSION} {len(name)} {pixels.shape}\n".encode() + name)
    digest.update(pixels.data)
    return digest.hexdigest()


def default_cache_folder() -> Path:
    """Where entries are kept when nobody says otherwise; nothing is read or created.

    ``$SOFTMATCH_CACHE`` if that is set, else ``$XDG_CACHE_HOME/softmatch_jax``, else
    ``~/.cache/softmatch_jax``.
    """
    if chosen := os.environ.get("SOFTMATCH_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "softmatch_jax"


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Settings of the feature cache.

    Attributes:
        memory_bytes: Bound on the arrays kept in memory; what was not used for longest goes first. An entry
            that alone is larger is not kept, and 0 keeps none.
        folder: Where entries are kept beyond the process; ``None`` keeps no files. Processes may share it.
        half: Store ``float32`` arrays in 16 bits. What comes out is rounded from the first time on, so that
            a run does not depend on what was cached. Arrays with values beyond 65504 are left as they are.
        disk_bytes: Bound on the files of the folder; what was neither written nor read for longest goes
            first. ``None`` for no bound.
    """

    memory_bytes: int = 1 << 30
    folder: Path | None = None
    half: bool = False
    disk_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.folder is not None:
            object.__setattr__(self, "folder", Path(self.folder).expanduser())
        for name, value in (("memory_bytes", self.memory_bytes), ("disk_bytes", self.disk_bytes)):
            if value is not None and value < 0:
                raise InputError(f"CacheConfig.{name} is {value}; expected a number of bytes, 0 or more.")


@dataclass(frozen=True, kw_only=True)
class CacheStats:
    """What a cache did so far.

    Attributes:
        hits_memory: Answers from memory, or from a computation that another thread had under way.
        hits_disk: Answers from files.
        misses: Questions without an answer.
        damaged: Files that were not what they should be; each is also a miss.
        write_errors: Entries that could not be stored.
        bytes_in_memory: Size of the arrays in memory now.
    """

    hits_memory: int = 0
    hits_disk: int = 0
    misses: int = 0
    damaged: int = 0
    write_errors: int = 0
    bytes_in_memory: int = 0


class FeatureCache:
    """Keeps named arrays by key, in memory and, if a folder is given, in files; threads may share it.

    The cache takes copies of what it is given. What it hands out is shared between all who ask, and cannot
    be written to. A folder that cannot be written to costs a warning and the computation in the next run,
    nothing else.

    Args:
        config: Settings.

    Raises:
        InputError: The folder, or what it lies in, is a file; a folder is given but safetensors is not
            installed.
    """

    def __init__(self, config: CacheConfig | None = None) -> None:
        self._config = CacheConfig() if config is None else config
        folder = self._config.folder
        self._files = (
            None if folder is None else CacheFiles(folder, self._config.disk_bytes, self._config.half)
        )
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._memory: OrderedDict[str, Entry] = OrderedDict()
        self._running: dict[str, Future[Entry | None]] = {}
        self._stats = CacheStats()
        self._warned = False

    @property
    def stats(self) -> CacheStats:
        """Counts since the cache was made."""
        with self._lock:
            return self._stats

    def get(self, key: str) -> Entry | None:
        """The arrays stored under ``key``, or ``None``.

        Raises:
            InputError: ``key`` is not one of :func:`content_key`.
        """
        _check_key(key)
        with self._lock:
            entry = self._recall(key)
        if entry is None:
            entry = self._load(key)
        return None if entry is None else dict(entry)

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Stores ``arrays`` under ``key``, in place of what was there.

        Raises:
            InputError: ``key`` is not one of :func:`content_key`, or an array has a type that cannot be
                stored.
        """
        _check_key(key)
        entry = self._entry(arrays)
        self._keep(key, entry)
        self._store(key, entry)

    def get_or_compute(self, key: str, compute: Callable[[], Mapping[str, np.ndarray]]) -> Entry:
        """The arrays stored under ``key``, computed and stored first where there are none.

        Threads that ask for a key while another computes it wait for that one's result. If it fails, its
        caller gets the error and another of the threads computes.

        Args:
            key: From :func:`content_key`.
            compute: Returns the arrays; called at most once by this call. It must not ask for the same key.

        Raises:
            InputError: As :meth:`put`.
        """
        _check_key(key)
        while True:
            with self._lock:
                entry = self._recall(key)
                if entry is not None:
                    return dict(entry)
                running = self._running.get(key)
                if running is None:
                    mine: Future[Entry | None] = Future()
                    self._running[key] = mine
                    break
            entry = running.result()
            if entry is not None:
                self._count("hits_memory")
                return dict(entry)
        try:
            return dict(self._load_or_compute(key, compute, mine))
        finally:
            with self._lock:
                del self._running[key]
            if not mine.done():
                mine.set_result(None)

    def _load_or_compute(
        self, key: str, compute: Callable[[], Mapping[str, np.ndarray]], mine: Future[Entry | None]
    ) -> Entry:
        """The entry from a file or from ``compute``, given to those who wait before it is stored."""
        entry = self._load(key)
        if entry is None:
            entry = self._entry(compute())
            self._keep(key, entry)
            mine.set_result(entry)
            self._store(key, entry)
        else:
            mine.set_result(entry)
        return entry

    def _entry(self, arrays: Mapping[str, np.ndarray]) -> Entry:
        """Immutable copies of ``arrays``, rounded if the settings say so."""
        entry = {}
        for name, given in arrays.items():
            array = np.asarray(given)
            if not isinstance(name, str) or name == "__metadata__":
                raise InputError(f"An array is named {name!r}; expected a text other than '__metadata__'.")
            if not can_store(array.dtype):
                raise InputError(
                    f"The array {name!r} is {array.dtype}, which the cache of features cannot store; convert "
                    "it to numbers of a usual type, for instance with astype(np.float32)."
                )
            entry[name] = frozen(array)
            if self._config.half:
                entry[name] = frozen(halve(entry[name]), entry[name].dtype)
        return entry

    def _recall(self, key: str) -> Entry | None:
        """The entry in memory, made the latest used; the lock must be held."""
        entry = self._memory.get(key)
        if entry is not None:
            self._memory.move_to_end(key)
            self._stats = replace(self._stats, hits_memory=self._stats.hits_memory + 1)
        return entry

    def _keep(self, key: str, entry: Entry) -> None:
        """Puts an entry into memory, and out of it what was not used for longest."""
        with self._lock:
            total = self._stats.bytes_in_memory - _size(self._memory.pop(key, {}))
            if _size(entry) <= self._config.memory_bytes:
                self._memory[key] = entry
                total += _size(entry)
            while total > self._config.memory_bytes:
                total -= _size(self._memory.popitem(last=False)[1])
            self._stats = replace(self._stats, bytes_in_memory=total)

    def _load(self, key: str) -> Entry | None:
        """The entry from its file, kept in memory from now on; counts a miss if there is none."""
        entry = None
        if self._files is not None:
            try:
                entry = self._files.read(key)
            except DamagedEntryError:
                self._count("damaged")
        if entry is None:
            self._count("misses")
            return None
        self._count("hits_disk")
        self._keep(key, entry)
        return entry

    def _store(self, key: str, entry: Entry) -> None:
        """Writes an entry to its file; where that fails, warns once and goes on."""
        if self._files is None:
            return
        try:
            with self._writing:
                self._files.write(key, entry)
        except OSError as error:
            self._count("write_errors")
            with self._lock:
                first, self._warned = not self._warned, True
            if first:
                warnings.warn(
                    f"Features cannot be stored in {self._config.folder} ({error.strerror or error}) and are "
                    "computed again next time; free space or allow writing there, or choose another folder.",
                    RuntimeWarning,
                    stacklevel=4,
                )

    def _count(self, name: str) -> None:
        with self._lock:
            self._stats = replace(self._stats, **{name: getattr(self._stats, name) + 1})


def _size(entry: Entry) -> int:
    return sum(array.nbytes for array in entry.values())


def _check_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise InputError(f"key is {key!r}; expected 64 hexadecimal digits, as content_key gives.")
