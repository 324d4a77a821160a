"""What lies in a user's folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from softmatch_jax._checks import InputError
from softmatch_jax.data.files import check_folder
from softmatch_jax.imaging import IMAGE_SUFFIXES

_T = TypeVar("_T")
_R = TypeVar("_R")

_NOTE_SUFFIXES = frozenset({".json", ".txt", ".yaml", ".yml"})
_THREADS = min(8, 2 * (os.cpu_count() or 1))  # decoding releases Python's lock, and disks like a queue


@dataclass(frozen=True)
class FolderFiles:
    """The files of a folder that may matter, by their paths in it, sorted.

    Attributes:
        root: The folder.
        images: Files that look like pictures; masks are among them.
        notes: JSON, text and YAML files.
    """

    root: Path
    images: tuple[PurePosixPath, ...]
    notes: tuple[PurePosixPath, ...]

    @property
    def title(self) -> str:
        """The folder's own name, whatever way led to it."""
        return self.root.resolve().name or "root"

    def notes_with(self, suffix: str) -> tuple[PurePosixPath, ...]:
        """The notes that end in ``suffix``, in lower or upper case."""
        return tuple(path for path in self.notes if path.suffix.lower() == suffix)


def list_files(root: Path) -> FolderFiles:
    """Lists a folder with all below it; hidden files and folders are passed over.

    Raises:
        InputError: There is no such folder, or there is no picture in it.
    """
    check_folder(root, "a folder of pictures and masks")
    images, notes = [], []
    for folder, inner, names in os.walk(root, followlinks=True, onerror=_refuse):
        _check_encoding(folder, [*inner, *names])
        here = os.path.realpath(folder)
        # A link to a folder above would be followed for ever.
        inner[:] = [n for n in inner if not _is_hidden(n) and not _leads_up(here, os.path.join(folder, n))]
        place = PurePosixPath(Path(folder).relative_to(root).as_posix())
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if not _is_hidden(name) and suffix in IMAGE_SUFFIXES:
                images.append(place / name)
            elif not _is_hidden(name) and suffix in _NOTE_SUFFIXES:
                notes.append(place / name)
    if not images:
        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"{root} has no picture in it or below; expected files that end in {endings}.")
    return FolderFiles(root, tuple(sorted(images, key=str)), tuple(sorted(notes, key=str)))


def in_threads(function: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
    """``function`` of each item, in order; the first failure in that order is raised."""
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            return list(pool.map(function, items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def named(paths: Iterable[object], most: int = 3) -> str:
    """How many and the first few, such as ``2 (a.jpg, b.jpg)``."""
    names = [str(path) for path in paths]
    return f"{len(names)} ({', '.join(names[:most])}{', ...' if len(names) > most else ''})"


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be listed ({error.strerror}); check permissions.") from None


def _check_encoding(folder: str, names: Sequence[str]) -> None:
    """Raises ``InputError`` if a name is not UTF-8: it could be neither printed nor written to a report."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(f"{folder} holds the name {name!a}, which is not UTF-8; rename it.") from None


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _leads_up(here: str, folder: str) -> bool:
    return os.path.islink(folder) and Path(here).is_relative_to(os.path.realpath(folder))
