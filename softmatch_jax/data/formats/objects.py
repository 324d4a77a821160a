"""The objects of a mask, each in its own box: what writers take apart and readers put together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int
from scipy import ndimage

from softmatch_jax._checks import InputError
from softmatch_jax._types import MOST_OBJECTS, Labels, Mask, Size
from softmatch_jax.data.formats.labelled import Losses
from softmatch_jax.imaging import DEFAULT_MAX_PIXELS
from softmatch_jax.prompting import window_about

OVERLAPPED = (
    "{count} pixels of objects of one class lie under another of it and are lost: one object a pixel."
)
HIDDEN = "{count} objects lie wholly under others of their class and are lost."
EMPTY = "{count} objects cover no pixel of their picture and are left out."


@dataclass(frozen=True, eq=False)
class Region:
    """An object: its pixels ``bool [h, w]`` in the smallest box about them, and where that begins."""

    top: int
    left: int
    mask: Mask

    @property
    def area(self) -> int:
        """Pixels."""
        return int(np.count_nonzero(self.mask))

    def pasted(self, size: Size) -> Mask:
        """The object in its picture, ``bool [H, W]``."""
        whole = np.zeros(size, np.bool_)
        height, width = self.mask.shape
        whole[self.top : self.top + height, self.left : self.left + width] = self.mask
        return whole

    def runs(self, size: Size, order: Literal["rows", "columns"]) -> Int[np.ndarray, " n"]:
        """Run lengths of outside, inside, outside, ... over the whole picture, along rows or down columns."""
        mask, top, left, length = self.mask, self.top, self.left, size[1]
        if order == "columns":
            mask, top, left, length = mask.T, left, top, size[0]
        edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        row, column = np.nonzero(edges)
        # Within a row beginnings and ends alternate; a run may go on at the beginning of the next row.
        places = (row + top) * length + column + left
        inner = np.flatnonzero(places[1:-1:2] == places[2::2]) * 2 + 1
        places = np.delete(places, np.concatenate([inner, inner + 1]))
        total = size[0] * size[1]
        ends = places if places.size and places[-1] == total else np.append(places, total)
        return np.diff(ends, prepend=0)


def regions(labels: Labels) -> Iterator[tuple[int, Region]]:
    """The objects of a mask and their numbers, in the order of these."""
    for number, window in enumerate(ndimage.find_objects(labels), start=1):
        if window is not None:
            yield number, Region(window[0].start, window[1].start, labels[window] == number)


def cropped(mask: Mask) -> Region | None:
    """The object that is ``mask``, ``bool [H, W]``; None where that is empty."""
    window = window_about(mask)
    if not mask[window].size:
        return None
    return Region(window[0].start, window[1].start, mask[window].copy())


class Assembly:
    """The objects of one picture as they are read, by class, to be painted into masks."""

    def __init__(self, size: Size, losses: Losses, where: str) -> None:
        self.size = size
        self._losses = losses
        self._where = where
        self._found: dict[str, list[Region]] = defaultdict(list)

    def add(self, class_name: str, mask: Mask) -> None:
        """Adds an object, ``bool [H, W]``."""
        region = cropped(mask)
        if region is None:
            self._losses.add(EMPTY, where=self._where)
            return
        self.add_region(class_name, region)

    def add_region(self, class_name: str, region: Region) -> None:
        """Adds an object that lies inside the picture."""
        self._found[class_name].append(region)

    def masks(self) -> dict[str, Labels]:
        """The masks by class, objects numbered as they were added; of two on a pixel the smaller is kept.

        Raises:
            InputError: More objects of a class than ``MOST_OBJECTS``.
        """
        return {name: self._painted(name, found) for name, found in self._found.items()}

    def _painted(self, name: str, found: Sequence[Region]) -> Labels:
        if len(found) > MOST_OBJECTS:
            raise InputError(
                f"{self._where} has {len(found):,} objects of {name!r}; expected at most {MOST_OBJECTS:,}."
            )
        labels = np.zeros(self.size, np.uint16)
        lost = 0
        for index in sorted(range(len(found)), key=lambda index: -found[index].area):
            region = found[index]
            height, width = region.mask.shape
            window = labels[region.top : region.top + height, region.left : region.left + width]
            lost += int(np.count_nonzero(window[region.mask]))
            window[region.mask] = index + 1
        if lost:
            self._losses.add(OVERLAPPED, lost, self._where)
            self._losses.add(HIDDEN, len(found) - len(np.unique(labels[labels > 0])), self._where)
        return labels


def check_picture_size(size: tuple[object, object], where: str) -> Size:
    """``(H, W)`` as a file says it; raises ``InputError`` unless these are whole numbers of a usable size."""
    height, width = size
    if type(height) is not int or type(width) is not int or height < 1 or width < 1:
        raise InputError(
            f"{where} says that it is {width!r:.20} by {height!r:.20} pixels; expected two whole numbers."
        )
    if height * width > DEFAULT_MAX_PIXELS:
        raise InputError(
            f"{where} says that it is {width}x{height} pixels; at most {DEFAULT_MAX_PIXELS:,} are read."
        )
    return height, width
