"""From what the user typed to the list of pictures to segment."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from softmatch_jax._checks import InputError
from softmatch_jax.cli.layout import FOLDERS, SHEET
from softmatch_jax.imaging import IMAGE_SUFFIXES

_ENDINGS = ", ".join(sorted(IMAGE_SUFFIXES))


def expand_targets(
    words: Sequence[str], *, recursive: bool, output: Path, passed_over: Iterable[Path] = ()
) -> list[Path]:
    """Lists the pictures that files, folders and patterns stand for, each once.

    A file stands for itself, whatever its suffix. A folder stands for the image files in it, in the
    order of their names; files that begin with a dot are passed over. A pattern that the shell did
    not expand stands for the image files it matches. Neither finds results of earlier runs, in
    ``output``, nor what is ``passed_over``.

    Args:
        words: As typed.
        recursive: Whether folders within folders are searched.
        output: The folder for results.
        passed_over: Masks and paintings of references, which may lie beside the pictures.

    Raises:
        InputError: A file does not exist, or a folder or pattern stands for no picture.
    """
    results = [output / name for name in (*FOLDERS, SHEET)]
    own = [Path(os.path.realpath(path)) for path in (*results, *passed_over)]
    found: dict[str, Path] = {}
    for word in words:
        for path in _expand(word, recursive, own):
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _expand(word: str, recursive: bool, own: Sequence[Path]) -> list[Path]:
    if os.path.isdir(word):
        paths = sorted(_images_in(Path(word), recursive, own))
        if not paths:
            hint = "" if recursive else ", or add --recursive to search the folders in it"
            raise InputError(f"The folder {word} holds no picture; expected files in {_ENDINGS}{hint}.")
        return paths
    if os.path.exists(word):
        return [Path(word)]
    if glob.has_magic(word):
        matches = [Path(match) for match in sorted(glob.glob(word, recursive=True))]
        paths = [path for path in matches if _is_image(path) and not _within(path, own)]
        if not paths:
            raise InputError(f"The pattern {word} matches no picture; expected a match in {_ENDINGS}.")
        return paths
    raise InputError(f"The target {word} does not exist; check the spelling and the folder.")


def _images_in(folder: Path, recursive: bool, own: Sequence[Path]) -> Iterator[Path]:
    for root, folders, files in os.walk(folder, onerror=_refuse):
        here = Path(root)
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        if _within(here, own):
            folders.clear()
            continue
        for name in files:
            if not name.startswith(".") and _is_image(here / name) and not _within(here / name, own):
                yield here / name


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _within(path: Path, own: Sequence[Path]) -> bool:
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(one) for one in own)


def _refuse(error: OSError) -> None:
    raise InputError(
        f"The folder {error.filename} cannot be listed ({error.strerror}); check its permissions."
    )
