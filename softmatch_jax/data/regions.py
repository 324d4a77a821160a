"""Pictures that are cut into regions, from which a promptable segmenter learns what an object can be.

A label map is a partition of the picture: 0 is no region, every other number a region. A picture may have
several, one for each person who drew it, or one for each layer where objects overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import cv2
import numpy as np
from jaxtyping import UInt16

from softmatch_jax._checks import InputError
from softmatch_jax._types import Image, Mask, Size
from softmatch_jax.data.bsds500 import read_regions
from softmatch_jax.data.episodes import TruthSource
from softmatch_jax.imaging import read_image, read_labels

LabelMaps: TypeAlias = UInt16[np.ndarray, "n H W"]
"""Partitions of one picture, ``uint16 [n, H, W]``; 0 is no region."""

_Labels: TypeAlias = np.ndarray[Any, np.dtype[np.uint16]]

_MOST = int(np.iinfo(np.uint16).max)


class RegionMaps(Protocol):
    """How the label maps of a picture are read. Compares by value and can be pickled."""

    @property
    def path(self) -> Path:
        """The file, or the first of several, for messages."""

    @property
    def reading(self) -> str:
        """How regions are made of the files, for checksums: others from the same files are other data."""

    def read(self, size: Size) -> tuple[_Labels, ...]:
        """Reads the label maps of a picture of ``size`` ``(H, W)``, each ``uint16 [H, W]``.

        Raises:
            InputError: A file cannot be read or is not as expected.
        """


@dataclass(frozen=True, kw_only=True)
class RegionPicture:
    """A picture and its label maps, by their files.

    Attributes:
        name: Unique in its data set.
        image: The picture's file.
        maps: How the label maps are read.
    """

    name: str
    image: Path
    maps: RegionMaps

    def read(self) -> tuple[Image, LabelMaps]:
        """Reads the picture ``uint8 [H, W, 3]`` and its label maps ``uint16 [n, H, W]``.

        Raises:
            InputError: A file cannot be read, or they differ in size.
        """
        image = read_image(self.image)
        size = (image.shape[0], image.shape[1])
        maps = self.maps.read(size)
        for labels in maps:
            if labels.shape != size:
                raise InputError(
                    f"{self.maps.path} is {labels.shape[1]}x{labels.shape[0]} pixels but {self.image} is "
                    f"{size[1]}x{size[0]}; expected the same size (export the map at that of the picture)."
                )
        return image, np.stack(maps)


@dataclass(frozen=True)
class DrawnRegions:
    """One file for each person, with the number of the region at every pixel, as BSDS500 has them.

    Attributes:
        paths: The files.
    """

    paths: tuple[Path, ...]

    @property
    def path(self) -> Path:
        """The first file."""
        return self.paths[0]

    @property
    def reading(self) -> str:
        """How many people there are."""
        return f"drawn by {len(self.paths)}"

    def read(self, size: Size) -> tuple[_Labels, ...]:
        """Reads all; see :func:`softmatch_jax.data.bsds500.read_regions`."""
        return tuple(read_regions(path).astype(np.uint16) for path in self.paths)


@dataclass(frozen=True)
class ClassRegions:
    """The connected parts of each class of an indexed map.

    Attributes:
        path: The file.
        outside: Values that are in no region, such as void.
        min_area: Pixels of a part, at least.
    """

    path: Path
    outside: tuple[int, ...]
    min_area: int

    @property
    def reading(self) -> str:
        """The settings."""
        return f"parts of {self.min_area} pixels outside {self.outside}"

    def read(self, size: Size) -> tuple[_Labels, ...]:
        """Reads one label map; see :func:`softmatch_jax.imaging.read_labels`."""
        values = read_labels(self.path)
        inside = (v for v in np.flatnonzero(np.bincount(values.ravel())).tolist() if v not in self.outside)
        return (_partition(self.path, values.shape, (values == v for v in inside), self.min_area)[0],)


@dataclass(frozen=True)
class ObjectRegions:
    """The connected parts of masks that may overlap.

    A part goes into the first label map in which its pixels are free, so that none loses pixels to another.

    Attributes:
        truths: The masks, such as one for each class in the picture.
        min_area: Pixels of a part, at least.
    """

    truths: tuple[TruthSource, ...]
    min_area: int

    @property
    def path(self) -> Path:
        """The file of the first mask."""
        return self.truths[0].path

    @property
    def reading(self) -> str:
        """The settings, and how many masks there are."""
        return f"parts of {self.min_area} pixels in {len(self.truths)} masks"

    def read(self, size: Size) -> tuple[_Labels, ...]:
        """Reads all masks; raises ``InputError`` as they do."""
        masks = []
        for truth in self.truths:
            masks.append(truth.read(size).mask)
            if masks[-1].shape != size:
                height, width = masks[-1].shape
                raise InputError(
                    f"{truth.path} is {width}x{height} pixels but its picture is {size[1]}x{size[0]}; "
                    "expected the same size (export the mask at the size of the picture)."
                )
        return _partition(self.path, size, masks, self.min_area)


def _partition(path: Path, size: Size, masks: Iterable[Mask], min_area: int) -> tuple[_Labels, ...]:
    """Label maps, at least one, of the connected parts of all masks."""
    layers = [np.zeros(size, np.uint16)]
    parts = (part for mask in masks for part in _parts(mask, min_area))
    for count, (window, part) in enumerate(parts, start=1):
        if count > _MOST:
            raise InputError(f"{path} has more than {_MOST} regions; expected fewer (raise min_area).")
        free = next((layer for layer in layers if not layer[window][part].any()), None)
        if free is None:
            free = np.zeros(size, np.uint16)
            layers.append(free)
        free[window][part] = count
    return tuple(layers)


def _parts(mask: Mask, min_area: int) -> Iterator[tuple[tuple[slice, slice], Mask]]:
    """The 8-connected parts of a mask that are large enough, each in its bounding box."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    for number, (x, y, width, height, area) in enumerate(stats.tolist()):
        if number and area >= min_area:
            window = (slice(y, y + height), slice(x, x + width))
            yield window, labels[window] == number
