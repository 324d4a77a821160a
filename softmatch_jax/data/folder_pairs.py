"""A mask for each picture; the sub-folder is the class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from softmatch_jax._checks import InputError, check_mask
from softmatch_jax.data.episodes import ClassLists
from softmatch_jax.data.folder_files import FolderFiles, in_threads
from softmatch_jax.data.folder_lists import Annotated, Measured, Wanted, class_lists
from softmatch_jax.data.folder_pairing import Pair, find_pairs
from softmatch_jax.data.truths import ThresholdTruth
from softmatch_jax.imaging import image_size


def read_pairs(files: FolderFiles, wanted: Wanted, threshold: int | None) -> ClassLists:
    """Reads a folder of pictures and masks.

    The class of a picture is the outermost folder that is not called ``images``, nor ``train`` or the like
    where all are; without one it is the name of the folder itself.

    Raises:
        InputError: As :func:`find_pairs` and :func:`class_lists`; a mask cannot be read as one, or is not of
            its picture's size; or pictures lie beside the folders of the classes.
    """
    pairs = find_pairs(files)
    names = _classes(files, pairs)
    pictures = in_threads(
        lambda work: _measure(files, *work, threshold), list(zip(pairs, names, strict=True))
    )
    reading = "" if threshold is None else f"threshold {threshold}"
    return class_lists(files, sorted(set(names)), pictures, wanted, reading)


def _classes(files: FolderFiles, pairs: Sequence[Pair]) -> list[str]:
    """The class of each picture."""
    loose = [pair.image for pair in pairs if not pair.folders]
    if loose and len(loose) < len(pairs):
        raise InputError(
            f"{files.root / loose[0]} lies outside the folders of the classes; expected all pictures in such "
            "folders, or none (move it into one)."
        )
    return [pair.folders[0] if pair.folders else files.title for pair in pairs]


def _measure(files: FolderFiles, pair: Pair, name: str, threshold: int | None) -> Annotated:
    size = image_size(files.root / pair.image)
    truth = ThresholdTruth(files.root / pair.mask, threshold)
    mask = truth.read(size).mask
    check_mask(str(truth.path), mask, size)
    return Annotated(pair.image, {name: Measured(truth, int(np.count_nonzero(mask)))})
