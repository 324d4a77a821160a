"""A map of class indices for each picture, as palette or grey PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softmatch_jax._checks import InputError, check_mask
from softmatch_jax.data.episodes import ClassLists
from softmatch_jax.data.folder_files import FolderFiles, in_threads
from softmatch_jax.data.folder_lists import Annotated, Measured, Wanted, class_lists
from softmatch_jax.data.folder_names import read_name_list
from softmatch_jax.data.folder_pairing import Pair, find_pairs
from softmatch_jax.data.truths import LabelTruth
from softmatch_jax.imaging import image_size, read_labels

NAME_FILES = ("classes.txt", "labels.txt", "classes.json")
"""Files in the folder itself that may name the values."""

_VOID = 255  # the border of PASCAL VOC, and what most tools write for "not annotated"
_BACKGROUND_NAMES = ("background", "_background_", "__background__")
_VOID_NAMES = ("void", "unlabelled", "unlabeled", "ignore", "__ignore__")


@dataclass(frozen=True)
class Legend:
    """What the values of the maps mean.

    Attributes:
        names: Of the values that are classes; ``None`` for all that are neither background nor void.
        background: Values that are no class.
        void: Values that do not count.
        source: Where the names are from, for messages.
    """

    names: Mapping[int, str] | None
    background: frozenset[int]
    void: tuple[int, ...]
    source: str

    @property
    def reading(self) -> str:
        """Which value is what, where a user has said so; see :class:`ClassLists`."""
        void = [value for value in self.void if value != _VOID]
        return f"values {sorted((self.names or {}).items())}, void {void}" if self.names or void else ""


def read_label_maps(
    files: FolderFiles, wanted: Wanted, void: Sequence[int], labels: Mapping[int, str] | None
) -> ClassLists:
    """Reads a folder of pictures and label maps.

    Raises:
        InputError: As :func:`find_pairs` and :func:`class_lists`; a map cannot be read as one, or is not of
            its picture's size, or holds a value without a name; or the names contradict each other.
    """
    legend = find_legend(files, void, labels)
    pairs = find_pairs(files)
    pictures = in_threads(lambda pair: _measure(files, pair, legend), pairs)
    names = legend.names
    if names is None:
        found = {name: 0 for picture in pictures for name in picture.truths}
        order = sorted(found, key=lambda name: int(name.split()[1]))
    else:
        order = [names[value] for value in sorted(names)]
    return class_lists(files, order, pictures, wanted, legend.reading)


def find_legend(files: FolderFiles, void: Sequence[int], labels: Mapping[int, str] | None) -> Legend:
    """Takes the names from ``labels``, or from a file in the folder, or leaves them open.

    Value 0 is background unless it is named otherwise; 255 is void unless it is named. A value that is named
    ``background``, or ``void`` or the like, is just that.

    Raises:
        InputError: ``void`` is no list of values, or names one of the classes; names repeat; or several
            files could hold them.
    """
    _check_values("void", void)
    names, source = _names(files, labels)
    if names is None:
        return Legend(None, frozenset({0}) - set(void), tuple(sorted({*void, _VOID})), source)
    background = {value for value, name in names.items() if name.lower() in _BACKGROUND_NAMES}
    ignored = {value for value, name in names.items() if name.lower() in _VOID_NAMES}
    classes = {v: name for v, name in names.items() if v not in background | ignored}
    clash = sorted(set(void) & classes.keys())
    if clash:
        raise InputError(
            f"The value {clash[0]} is void and named {classes[clash[0]]!r} in {source}; expected one of both."
        )
    if not classes:
        raise InputError(f"{source} names no class besides background and void; expected at least one.")
    free = {0, _VOID} - names.keys()
    all_void = {*void, *ignored} | (free & {_VOID})
    return Legend(classes, frozenset((background | (free & {0})) - all_void), tuple(sorted(all_void)), source)


def _names(files: FolderFiles, labels: Mapping[int, str] | None) -> tuple[Mapping[int, str] | None, str]:
    """The names, and where they are from."""
    if labels is not None:
        _check_values("labels", tuple(labels))
        for value, name in labels.items():
            if list(labels.values()).count(name) > 1 or not name.strip():
                raise InputError(f"labels names {value} {name!r}; expected different names for all values.")
        return dict(labels), "labels"
    found = [files.root / name for name in NAME_FILES if (files.root / name).is_file()]
    if len(found) > 1:
        raise InputError(f"{found[0]} and {found[1]} both could name the classes; expected one of them.")
    return (read_name_list(found[0]), str(found[0])) if found else (None, "")


def _check_values(option: str, values: Sequence[int]) -> None:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:
            raise InputError(f"{option} has the value {value!r}; expected whole numbers from 0 to 255.")


def _measure(files: FolderFiles, pair: Pair, legend: Legend) -> Annotated:
    path, size = files.root / pair.mask, image_size(files.root / pair.image)
    values = read_labels(path)
    check_mask(str(path), values > 0, size)
    areas = np.bincount(values.ravel(), minlength=256)
    truths = {}
    for value in np.flatnonzero(areas).tolist():
        if value in legend.background or value in legend.void:
            continue
        truth = LabelTruth(path, (value,), legend.void)
        truths[_name(path, value, legend)] = Measured(truth, int(areas[value]))
    return Annotated(pair.image, truths)


def _name(path: Path, value: int, legend: Legend) -> str:
    if legend.names is None:
        return f"class {value}"
    if value not in legend.names:
        known = ", ".join(f"{number} {name}" for number, name in sorted(legend.names.items()))
        raise InputError(
            f"{path} holds the value {value}, which {legend.source} does not name (it has {known}); expected "
            "a name for every value (name it there, or pass it as void)."
        )
    return legend.names[value]
