"""Truths that are outlines or run lengths, held in memory: a file of annotations is read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax._types import Mask, Size
from softmatch_jax.data.episodes import Truth
from softmatch_jax.data.folder_files import FolderFiles
from softmatch_jax.data.folder_lists import Annotated, Measured
from softmatch_jax.data.outlines import FARTHEST, decode_rle, polygon_mask

Outline: TypeAlias = tuple[float, ...]
"""``x0, y0, x1, y1, ...`` in pixels."""

Runs: TypeAlias = tuple[int, ...] | str
"""Run lengths as :func:`decode_rle` takes them."""

_HUGE = 1e9


@dataclass(frozen=True)
class Shapes:
    """Parts of a picture, overlapping or not.

    Attributes:
        polygons: Outlines.
        runs: Run lengths, of the picture's size.
    """

    polygons: tuple[Outline, ...] = ()
    runs: tuple[Runs, ...] = ()

    def mask(self, size: Size) -> Mask:
        """The pixels in any of them, ``bool [H, W]``; raises ``InputError`` as the decoders do."""
        mask = np.zeros(size, np.bool_)
        for outline in self.polygons:
            mask |= polygon_mask(outline, size)
        for runs in self.runs:
            mask |= decode_rle(runs, size)
        return mask


@dataclass(frozen=True)
class OutlineTruth:
    """The object, and what does not count, as outlines.

    Attributes:
        path: The file they are from.
        shapes: The object.
        void: Pixels in these that are not object do not count.
    """

    path: Path
    shapes: Shapes
    void: Shapes = Shapes()

    def read(self, size: Size) -> Truth:
        """Draws the masks.

        Raises:
            InputError: Run lengths are wrong, or of another size.
        """
        try:
            mask = self.shapes.mask(size)
            void = self.void.mask(size) & ~mask if self.void != Shapes() else None
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None
        return Truth(mask, void)


@dataclass
class Gathered:
    """The shapes of one class in one picture, as they are read."""

    polygons: list[Outline] = field(default_factory=list)
    runs: list[Runs] = field(default_factory=list)
    void: Gathered | None = None

    def ignored(self) -> Gathered:
        """Where to gather what does not count."""
        self.void = self.void or Gathered()
        return self.void

    def shapes(self) -> Shapes:
        """All so far."""
        return Shapes(tuple(self.polygons), tuple(self.runs))


def measure(
    files: FolderFiles, image: PurePosixPath, size: Size, path: Path, found: dict[str, Gathered]
) -> Annotated:
    """Draws the classes of a picture to learn their areas.

    Args:
        files: The folder.
        image: The picture's path in it.
        size: ``(H, W)`` of the picture.
        path: The file of annotations.
        found: By class.
    """
    truths = {}
    for name, gathered in found.items():
        void = gathered.void.shapes() if gathered.void is not None else Shapes()
        truth = OutlineTruth(path, gathered.shapes(), void)
        truths[name] = Measured(truth, int(np.count_nonzero(truth.read(size).mask)))
    return Annotated(image, truths)


def checked_outline(numbers: Any, size: Size, where: str) -> Outline:
    """An outline of a file.

    Args:
        numbers: ``x0, y0, x1, y1, ...`` in pixels.
        size: ``(H, W)`` of the picture.
        where: File and place, for messages.

    Raises:
        InputError: They are not finite numbers, or fewer than three points, wholly outside the picture, or
            far beyond it.
    """
    values = checked_numbers(numbers, where)
    if len(values) % 2 or len(values) < 6:
        raise InputError(
            f"{where} has {len(values)} numbers; expected x and y of at least three points (draw it again, "
            "or delete it)."
        )
    (low_x, high_x), (low_y, high_y) = ((min(axis), max(axis)) for axis in (values[::2], values[1::2]))
    if high_x < 0 or high_y < 0 or low_x > size[1] or low_y > size[0]:
        raise InputError(
            f"{where} lies at x {low_x:g} to {high_x:g} and y {low_y:g} to {high_y:g}, wholly outside its "
            f"picture of {size[1]}x{size[0]} pixels; expected pixels of this picture (export it again)."
        )
    if max(map(abs, values)) > FARTHEST * max(size):
        raise InputError(
            f"{where} reaches as far as {max(map(abs, values)):g} pixels; expected pixels of its picture of "
            f"{size[1]}x{size[0]} (export it again)."
        )
    return values


def checked_numbers(numbers: Any, where: str) -> tuple[float, ...]:
    """Raises ``InputError`` unless ``numbers`` is a list of finite numbers below a thousand million."""
    if not isinstance(numbers, Sequence) or isinstance(numbers, str):
        raise InputError(f"{where} is no list of numbers; expected x0, y0, x1, y1, ... in pixels.")
    for number in numbers:
        # JSON's true is an int to Python. NaN is below nothing.
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not abs(number) < _HUGE:
            raise InputError(f"{where} holds {number!r:.40}; expected positions in pixels.")
    return tuple(map(float, numbers))


def check_size_said(path: Path, what: str, said: tuple[Any, Any], size: Size) -> None:
    """Raises ``InputError`` if a file says another ``(height, width)`` than the picture's; none is fine."""
    if said != (None, None) and said != size:
        raise InputError(
            f"{path} says that {what} is {said[1]}x{said[0]} pixels but it is {size[1]}x{size[0]}; expected "
            "annotations made on this picture at this size (export both again, upright)."
        )
