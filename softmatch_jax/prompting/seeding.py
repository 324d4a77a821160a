"""From an annotation to the pixels it speaks of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from softmatch_jax._checks import InputError, check_mask
from softmatch_jax._types import Mask, Size
from softmatch_jax.prompting.annotations import (
    Annotation,
    Box,
    MaskAnnotation,
    Painted,
    Points,
    Polyline,
    Scribbles,
)
from softmatch_jax.prompting.rasterise import check_size, fill_box, polyline_window


@dataclass(frozen=True, eq=False)
class Seeds:
    """What an annotation says about each pixel of its picture.

    Attributes:
        foreground: ``bool [H, W]``, pixels known to be on the object.
        background: ``bool [H, W]``, pixels known not to be; never overlaps ``foreground``.
        region: ``bool [H, W]`` or None; the object lies inside it, and all else is background.
        exact: whether ``foreground`` is the whole object, so that nothing is left to be found.
    """

    foreground: Mask
    background: Mask
    region: Mask | None = None
    exact: bool = False


def point_radius(size: Size) -> float:
    """Returns the radius in pixels of the disc that a click stands for: 2, or 0.5% of a long side."""
    return max(2.0, 0.005 * max(size))


def seeds(annotation: Annotation, size: Size) -> Seeds:
    """Turns an annotation into pixels (Softmatcher §3, step 1).

    Strokes and points are painted in order: where a positive and a negative one overlap the later
    one counts, as a correction drawn on top would. What is partly outside the picture is clipped.

    Args:
        annotation: any annotation.
        size: ``(height, width)`` of the picture it belongs to.

    Returns:
        The seeds; a box has no foreground pixel, only a region.

    Raises:
        InputError: if the annotation marks nothing, everything, or something outside the picture,
            or was made for a picture of another size.
    """
    check_size(size)
    match annotation:
        case Scribbles():
            return _from_strokes("stroke", annotation.strokes, size)
        case Points():
            width = 2 * point_radius(size)
            marks = zip(annotation.xy, annotation.positive, strict=True)
            return _from_strokes("point", [Polyline((xy,), width, sign) for xy, sign in marks], size)
        case Box():
            return _from_box(annotation, size)
        case MaskAnnotation():
            return _from_mask(annotation.mask, size)
        case Painted():
            return _from_painting(annotation, size)
    raise InputError(
        f"annotation is a {type(annotation).__name__}; expected a bool mask, Scribbles, Points, Box or "
        "Painted."
    )


def _from_strokes(noun: str, strokes: Sequence[Polyline], size: Size) -> Seeds:
    if not any(stroke.positive for stroke in strokes):
        raise InputError(
            f"The annotation has no positive {noun} among its {len(strokes)}; expected at least one "
            "that marks the object."
        )
    foreground, background = np.zeros(size, dtype=np.bool_), np.zeros(size, dtype=np.bool_)
    for index, stroke in enumerate(strokes):
        window, covered = polyline_window(stroke.points, stroke.width, size)
        if not covered.any():
            raise _outside(f"{noun} {index}", stroke.points, size)
        marked, other = (foreground, background) if stroke.positive else (background, foreground)
        marked[window] |= covered
        other[window] &= ~covered
    if not foreground.any():
        raise InputError(
            f"Every pixel of the positive {noun}s is covered by a later negative one; expected some "
            f"pixel of the object to remain (remove or move the negative {noun}s)."
        )
    return Seeds(foreground, background)


def _from_box(box: Box, size: Size) -> Seeds:
    region = fill_box((box.x0, box.y0, box.x1, box.y1), size)
    if not region.any():
        raise _outside("box", ((box.x0, box.y0), (box.x1, box.y1)), size)
    return Seeds(np.zeros(size, dtype=np.bool_), ~region, region)


def _from_mask(mask: Mask, size: Size) -> Seeds:
    check_mask("The reference mask", mask, size)
    if not mask.any():
        raise InputError("The reference mask is empty; expected at least one pixel of the object.")
    if mask.all():
        raise InputError(
            "The reference mask covers the whole picture; expected some background to tell the object "
            "from (check that the mask is not inverted or all one value)."
        )
    return Seeds(mask, ~mask, exact=True)


def _from_painting(painted: Painted, size: Size) -> Seeds:
    check_mask("The painting", painted.foreground, size)
    if not painted.foreground.any():
        raise InputError("The painting marks no pixel of the object; expected at least one.")
    return Seeds(painted.foreground, painted.background)


def _outside(what: str, points: Sequence[tuple[float, float]], size: Size) -> InputError:
    (x0, y0), (x1, y1) = np.min(points, axis=0), np.max(points, axis=0)
    return InputError(
        f"The {what} lies entirely outside the picture: it spans x {x0:g} to {x1:g} and y {y0:g} to "
        f"{y1:g}, the picture is {size[1]} wide and {size[0]} high; expected pixel coordinates in "
        "(x, y) order, measured from the top left corner."
    )
