"""The ways in which a person shows where the object is in a reference picture (Softmatcher §3, step 1).

These are plain values: they know nothing of a picture until `seeds` turns them into its pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from softmatch_jax._checks import InputError, check_mask, check_positive
from softmatch_jax._types import Mask

XY: TypeAlias = tuple[float, float]
"""A position ``(x, y)`` in pixels of the original picture."""

_FARTHEST = 1e6  # pixels; keeps squared distances exact enough and turns garbage away


@dataclass(frozen=True)
class Polyline:
    """One stroke of a pen.

    Attributes:
        points: the vertices ``(x, y)``; any sequence or ``[N, 2]`` array, kept as a tuple. A
            single vertex is a dot.
        width: diameter of the pen in pixels.
        positive: whether the stroke marks the object; otherwise it marks what is not the object.

    Raises:
        InputError: if there is no vertex, a coordinate is not finite, or the width is not positive.
    """

    points: tuple[XY, ...]
    width: float = 8.0
    positive: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", _positions("Polyline.points", self.points))
        check_positive("Polyline.width", self.width)
        object.__setattr__(self, "width", float(self.width))
        object.__setattr__(self, "positive", bool(self.positive))


@dataclass(frozen=True)
class Scribbles:
    """Strokes in the order in which they were drawn; where two overlap the later one counts.

    Raises:
        InputError: if something other than a `Polyline` is among the strokes.
    """

    strokes: tuple[Polyline, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "strokes", tuple(self.strokes))
        for index, stroke in enumerate(self.strokes):
            if not isinstance(stroke, Polyline):
                raise InputError(
                    f"Scribbles.strokes[{index}] is a {type(stroke).__name__}; expected a Polyline "
                    "(wrap a list of (x, y) vertices as Polyline(points))."
                )


@dataclass(frozen=True)
class Points:
    """Clicks on the object and beside it; where two discs overlap the later one counts.

    Attributes:
        xy: positions ``(x, y)``; any sequence or ``[N, 2]`` array, kept as a tuple.
        positive: for each position, whether it is on the object.

    Raises:
        InputError: if there is no point, a coordinate is not finite, or the lengths differ.
    """

    xy: tuple[XY, ...]
    positive: tuple[bool, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "xy", _positions("Points.xy", self.xy))
        object.__setattr__(self, "positive", tuple(bool(p) for p in self.positive))
        if len(self.positive) != len(self.xy):
            raise InputError(
                f"Points.positive has {len(self.positive)} entries for {len(self.xy)} points; "
                "expected one True (object) or False (not object) for each point."
            )


@dataclass(frozen=True)
class Box:
    """An axis-aligned box around the object: nothing of it lies outside.

    The edges are positions, not pixel indices: a box around the single pixel in column 3 and
    row 5 is ``Box(3, 5, 4, 6)``.

    Raises:
        InputError: if a coordinate is not finite or the box has no area.
    """

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        for name, corner in zip(("x", "y"), _positions("Box", self._corners()), strict=True):
            object.__setattr__(self, f"{name}0", corner[0])
            object.__setattr__(self, f"{name}1", corner[1])
        if not (self.x1 > self.x0 and self.y1 > self.y0):
            raise InputError(
                f"Box is (x0={self.x0:g}, y0={self.y0:g}, x1={self.x1:g}, y1={self.y1:g}); expected "
                "x1 > x0 and y1 > y0 (two opposite corners, not a corner with a width and a height)."
            )

    def _corners(self) -> tuple[XY, ...]:
        return (self.x0, self.x1), (self.y0, self.y1)


@dataclass(frozen=True, eq=False)
class MaskAnnotation:
    """The whole object, exactly, for instance the corrected result of an earlier run.

    Raises:
        InputError: if ``mask`` is not ``bool [H, W]``.
    """

    mask: Mask

    def __post_init__(self) -> None:
        check_mask("MaskAnnotation.mask", self.mask)


@dataclass(frozen=True, eq=False)
class Painted:
    """Pixels painted by hand: some of the object and some of what is not the object.

    Raises:
        InputError: if the masks are not ``bool [H, W]`` of one size, or share a pixel.
    """

    foreground: Mask
    background: Mask

    def __post_init__(self) -> None:
        check_mask("Painted.foreground", self.foreground)
        check_mask("Painted.background", self.background)
        if self.foreground.shape != self.background.shape:
            raise InputError(
                f"Painted.foreground is {list(self.foreground.shape)} and Painted.background "
                f"{list(self.background.shape)}; expected two [H, W] masks of the same picture."
            )
        shared = int(np.count_nonzero(self.foreground & self.background))
        if shared:
            raise InputError(
                f"Painted.foreground and Painted.background share {shared} pixels; expected every "
                "pixel in at most one of them."
            )


Annotation: TypeAlias = Scribbles | Points | Box | MaskAnnotation | Painted
"""Any way to annotate a reference."""


def _positions(what: str, points: object) -> tuple[XY, ...]:
    """Checks positions and returns them as a tuple of pairs of Python floats."""
    try:
        array = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{what} is not numeric; expected a sequence of (x, y) pairs of numbers.") from None
    if array.ndim != 2 or array.shape[1] != 2 or len(array) == 0:
        raise InputError(
            f"{what} has shape {list(array.shape)}; expected one or more (x, y) pairs, that is [N, 2] "
            "(write a single point as [(x, y)])."
        )
    # The comparison is false for NaN, so it finds what is not finite too.
    wrong = ~(np.abs(array) <= _FARTHEST).all(axis=1)
    if wrong.any():
        index = int(np.argmax(wrong))
        raise InputError(
            f"{what}[{index}] is ({array[index, 0]:g}, {array[index, 1]:g}); expected finite pixel "
            f"coordinates (x, y) between {-_FARTHEST:g} and {_FARTHEST:g}."
        )
    return tuple((x, y) for x, y in array.tolist())
