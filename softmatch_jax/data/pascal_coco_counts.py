"""How many pixels each class has in each mask, counted once and kept in a file.

All lists of PASCAL-5i and COCO-20i, for any fold, follow from these counts. The file names the masks with
their sizes in bytes and their times of change, so that counts of other masks are never used.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax._types import IndexedMask
from softmatch_jax.data.files import read_text
from softmatch_jax.imaging import atomic_write_text, read_labels

LISTS_NAME = "softmatch_lists.json"
"""The file that ``softmatch data prepare`` writes."""

VOID = 255
"""The value of pixels that do not count."""

_FORMAT = 1

Report: TypeAlias = Callable[[int, int], None]
"""Called with how many masks are done, and of how many."""


def no_report(done: int, total: int) -> None:
    """Shows nothing."""


@dataclass(frozen=True)
class MaskRecord:
    """What is known of a mask file.

    Attributes:
        pixels: For each class in it, the number of its pixels; neither background nor void.
        size: Of the file, in bytes.
        modified: When it was last changed, in nanoseconds.
    """

    pixels: Mapping[int, int]
    size: int
    modified: int


Counts: TypeAlias = Mapping[str, MaskRecord]
"""For each picture, in the order of its list, the record of its mask."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the prepared file of a data set holds.

    Attributes:
        dataset: ``pascal5i`` or ``coco20i``.
        pictures: The folder of the pictures' folders.
        classes: Names of the classes; class ``k`` of the masks is ``classes[k - 1]``.
        splits: Counts of the splits that are complete.
        overlaps: For each split that was begun, how overlapping objects were painted, if it says so.
    """

    dataset: str
    pictures: Path
    classes: tuple[str, ...]
    splits: Mapping[str, Counts]
    overlaps: Mapping[str, str]


def record_of(path: Path, labels: IndexedMask, classes: int) -> MaskRecord:
    """The record of a mask file that holds ``labels``.

    Args:
        path: The file.
        labels: ``uint8 [H, W]``: 0 for background, 1 to ``classes``, or 255 for void.
        classes: How many classes the data set has.

    Raises:
        InputError: It holds another value.
    """
    histogram = np.bincount(labels.ravel(), minlength=256)
    values = [value for value in np.flatnonzero(histogram).tolist() if value not in (0, VOID)]
    if values and values[-1] > classes:
        raise InputError(
            f"{path} holds the value {values[-1]}; expected 0 for background, 1 to {classes} for the classes "
            f"or {VOID} for void (an indexed PNG of class numbers, not of instances or colours)."
        )
    status = os.stat(path)
    return MaskRecord({value: int(histogram[value]) for value in values}, status.st_size, status.st_mtime_ns)


def count_masks(folder: Path, names: Sequence[str], classes: int, report: Report = no_report) -> Counts:
    """Reads the mask ``<name>.png`` of every picture; see :func:`record_of`."""
    counts = {}
    for done, name in enumerate(names, 1):
        path = folder / f"{name}.png"
        counts[name] = record_of(path, read_labels(path), classes)
        report(done, len(names))
    return counts


def read_names(path: Path) -> tuple[str, ...]:
    """Reads a list of pictures: on each line a name, or a path whose last part without its suffix is one.

    What follows after a space, such as the path of the mask in the lists of public code, is left out.

    Raises:
        InputError: The file cannot be read, is empty, or names a picture twice.
    """
    lines = read_text(path, "a list of pictures, one name on each line").splitlines()
    names = tuple(Path(line.split()[0]).stem for line in lines if line.strip())
    if not names:
        raise InputError(f"{path} names no picture; expected one name on each line.")
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise InputError(f"{path} names {twice!r} twice; expected each picture once.")
    return names


def write_prepared(folder: Path, prepared: Prepared) -> None:
    """Writes the prepared file into ``folder``, whole or not at all."""
    begun = prepared.splits.keys() | prepared.overlaps.keys()
    here = os.path.realpath(folder) == os.path.realpath(prepared.pictures)
    document = {
        "softmatch_lists": _FORMAT,
        "dataset": prepared.dataset,
        "pictures": "." if here else os.path.abspath(prepared.pictures),
        "classes": prepared.classes,
        "splits": {split: _split_document(prepared, split) for split in sorted(begun)},
    }
    atomic_write_text(folder / LISTS_NAME, json.dumps(document, separators=(",", ":")) + "\n")


def _split_document(prepared: Prepared, split: str) -> dict[str, Any]:
    counts = prepared.splits.get(split)
    masks: dict[str, Any] | None = None
    if counts is not None:
        masks = {name: (r.size, r.modified, dict(r.pixels)) for name, r in counts.items()}
    return {"overlap": prepared.overlaps.get(split), "masks": masks}


def read_prepared(folder: Path, dataset: str) -> Prepared | None:
    """Reads the prepared file in ``folder``; ``None`` where there is none.

    Raises:
        InputError: It is damaged, of another data set, or of another version of this package.
    """
    path = folder / LISTS_NAME
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version, found = document["softmatch_lists"], document["dataset"]
        if version == _FORMAT and found == dataset:
            return _parse(folder, document)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}: {error}); delete it and run softmatch data prepare "
            f"{dataset} again."
        ) from None
    raise InputError(
        f"{path} is version {version} for {found}; expected version {_FORMAT} for {dataset} (run softmatch "
        f"data prepare {dataset} in a folder of its own)."
    )


def _parse(folder: Path, document: Any) -> Prepared:
    splits = {
        split: {
            name: MaskRecord({int(k): int(v) for k, v in pixels.items()}, int(size), int(modified))
            for name, (size, modified, pixels) in entry["masks"].items()
        }
        for split, entry in document["splits"].items()
        if entry["masks"] is not None
    }
    return Prepared(
        dataset=document["dataset"],
        pictures=folder / document["pictures"],
        classes=tuple(map(str, document["classes"])),
        splits=splits,
        overlaps={s: e["overlap"] for s, e in document["splits"].items() if e["overlap"] is not None},
    )


def check_current(counts: Counts, folder: Path, dataset: str) -> None:
    """Raises ``InputError`` unless the masks in ``folder`` are those that were counted."""
    for name, record in counts.items():
        path = folder / f"{name}.png"
        try:
            status = os.stat(path)
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}), but was there when the lists were made; restore "
                f"it, or run softmatch data prepare {dataset} again."
            ) from None
        if (status.st_size, status.st_mtime_ns) != (record.size, record.modified):
            raise InputError(
                f"{path} has changed since the lists were made; run softmatch data prepare {dataset} again."
            )
