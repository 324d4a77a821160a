"""Reading annotations from a picture that was painted over in an image editor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Int, UInt8

from softmatch_jax._checks import InputError, check_image
from softmatch_jax._types import Image, Mask
from softmatch_jax.prompting.annotations import Painted

RGB: TypeAlias = tuple[int, int, int]
"""A colour, each channel 0 to 255."""

RGBA: TypeAlias = UInt8[np.ndarray, "H W 4"]
"""A picture with opacity, ``uint8 [H, W, 4]``."""

_OPAQUE = 128  # below this opacity a pixel is the soft edge of a stroke
_UNCHANGED = 8  # levels by which saving as JPEG may move a pixel that nobody painted


def split_painting(
    rgba: RGBA,
    *,
    classes: Mapping[str, RGB],
    background: RGB | None,
    base_image: Image | None = None,
    tolerance: int = 24,
) -> dict[str, Painted]:
    """Splits a painting into the seed pixels of each class.

    A pixel counts as painted if it is at least half opaque and, where ``base_image`` is given,
    differs from it by more than 8 levels in some channel. A painted pixel takes the nearest of the
    given colours, the distance being the largest difference of a channel. One that is farther than
    ``tolerance`` from all of them, or equally near to two, is the blended edge of a stroke and is
    left out: a seed must be certain.

    Args:
        rgba: the painting: strokes on a transparent layer, or on a copy of the picture.
        classes: the colour of each class.
        background: the colour that marks what belongs to no class, if there is one.
        base_image: the picture without strokes, for a painting that is not transparent.
        tolerance: greatest difference of a channel, 0 to 255.

    Returns:
        For each class its pixels, and as background those of the background colour and of all
        other classes.

    Raises:
        InputError: if the arrays do not fit, a colour is given twice, or a class has no pixel.
    """
    _check_painting(rgba, base_image)
    colours = _check_colours(classes, background)
    if not 0 <= tolerance <= 255:
        raise InputError(f"tolerance is {tolerance}; expected a difference of levels, 0 to 255.")
    painted = _painted(rgba, base_image)
    labels = np.full(painted.shape, -1, dtype=np.int16)
    labels[painted] = _nearest_colour(rgba[painted][:, :3], colours, tolerance)
    counts = np.bincount(labels.ravel() + 1, minlength=len(colours) + 1)[1:]
    for (name, colour), count in zip(classes.items(), counts, strict=False):
        if count == 0:
            raise InputError(
                f"No pixel of the painting has the colour {colour} of class {name!r} (tolerance "
                f"{tolerance}); its most frequent colours are {_most_frequent(rgba, base_image)}."
            )
    marked = labels >= 0
    split = {}
    for index, name in enumerate(classes):
        foreground = labels == index
        split[name] = Painted(foreground, marked & ~foreground)
    return split


def infer_colours(rgba: RGBA, *, base_image: Image | None = None, minimum: int = 32) -> list[tuple[RGB, int]]:
    """Lists the solid colours of a painting, to propose a table of classes.

    Args:
        rgba: the painting, as for `split_painting`.
        base_image: the picture without strokes, for a painting that is not transparent.
        minimum: fewest pixels of exactly one colour; the blended edges of strokes stay below.

    Returns:
        Pairs of colour and number of pixels, most frequent first, then by colour.

    Raises:
        InputError: if the arrays do not fit.
    """
    _check_painting(rgba, base_image)
    painted = _painted(rgba, base_image)
    red, green, blue = (rgba[..., channel][painted].astype(np.int32) for channel in range(3))
    packed, counts = np.unique(red << 16 | green << 8 | blue, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [
        ((value >> 16, value >> 8 & 255, value & 255), count)
        for value, count in zip(packed[order].tolist(), counts[order].tolist(), strict=True)
        if count >= minimum
    ]


def _painted(rgba: RGBA, base_image: Image | None) -> Mask:
    painted: Mask = rgba[..., 3] >= _OPAQUE
    if base_image is not None:
        painted &= _difference(rgba[..., :3], base_image) > _UNCHANGED
    return painted


def _nearest_colour(
    rgb: UInt8[np.ndarray, "pixels 3"], colours: Sequence[RGB], tolerance: int
) -> Int[np.ndarray, " pixels"]:
    """Returns the index of the one nearest colour within ``tolerance``, -1 where there is none."""
    labels = np.full(len(rgb), -1, dtype=np.int16)
    nearest = np.full(len(rgb), tolerance + 1, dtype=np.int16)
    for index, colour in enumerate(colours):
        distance = _difference(rgb, np.asarray(colour, dtype=np.uint8))
        labels[distance == nearest] = -1
        labels[distance < nearest] = index
        np.minimum(nearest, distance, out=nearest)
    return labels


def _difference(
    a: UInt8[np.ndarray, "*pixels 3"], b: UInt8[np.ndarray, "*any 3"]
) -> UInt8[np.ndarray, "*pixels"]:
    """Returns the largest difference of a channel, without leaving ``uint8``."""
    levels = np.maximum(a, b) - np.minimum(a, b)
    # Channel by channel: NumPy is an order of magnitude slower on an axis of three.
    return np.maximum(np.maximum(levels[..., 0], levels[..., 1]), levels[..., 2])


def _most_frequent(rgba: RGBA, base_image: Image | None) -> str:
    colours = infer_colours(rgba, base_image=base_image, minimum=1)[:8]
    return ", ".join(f"{colour} ({count} pixels)" for colour, count in colours) or "none: nothing is painted"


def _check_painting(rgba: RGBA, base_image: Image | None) -> None:
    if rgba.dtype != np.uint8 or rgba.ndim != 3 or rgba.shape[2] != 4 or 0 in rgba.shape:
        raise InputError(
            f"rgba is {rgba.dtype} {list(rgba.shape)}; expected a non-empty uint8 [H, W, 4] painting."
        )
    if base_image is not None:
        check_image("base_image", base_image)
        if base_image.shape[:2] != rgba.shape[:2]:
            raise InputError(
                f"The painting is {rgba.shape[1]}x{rgba.shape[0]} pixels but its picture is "
                f"{base_image.shape[1]}x{base_image.shape[0]}; expected the same size (export the "
                "painting without resizing or cropping)."
            )


def _check_colours(classes: Mapping[str, RGB], background: RGB | None) -> list[RGB]:
    """Returns the colours of the classes in order, then that of the background."""
    if not classes:
        raise InputError("classes is empty; expected a colour for each class, as {'duck': (255, 0, 0)}.")
    named = list(classes.items())
    if background is not None:
        named.append(("background", background))
    owner: dict[RGB, str] = {}
    for name, colour in named:
        if len(colour) != 3 or not all(0 <= int(level) <= 255 for level in colour):
            raise InputError(f"The colour of {name!r} is {colour}; expected (r, g, b), each 0 to 255.")
        rgb = (int(colour[0]), int(colour[1]), int(colour[2]))
        if rgb in owner:
            raise InputError(
                f"{owner[rgb]!r} and {name!r} have the same colour {rgb}; expected a colour of its own "
                "for each."
            )
        owner[rgb] = name
    return list(owner)
