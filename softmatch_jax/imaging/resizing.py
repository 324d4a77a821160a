"""Changing the size of images, maps, masks and labels under one convention.

Pixel centres lie at ``+0.5`` and a picture's borders fall on its copy's borders, so a point keeps
its relative place: ``x_out = x_in * W_out / W_in``. No corner is aligned. Each axis is treated by
itself: where it shrinks, an output pixel is the exact mean of the stretch of input it covers (so
nothing aliases); where it grows, values are interpolated linearly between pixel centres and held
constant beyond the outermost ones (so nothing rings). Sizes are ``(height, width)``.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from softmatch_jax._checks import InputError, check_image, check_mask, check_positive, check_rank
from softmatch_jax._types import Image, IndexedMask, Map, Mask, Size

_Array = np.ndarray[Any, np.dtype[Any]]

# A pixel covered by exactly one half counts as object; the slack keeps rounding in float32 from
# deciding such ties differently on mirrored sides.
_HALF = 0.5 - 1e-5


def fit_longest(size: Size, longest: int, *, enlarge: bool = True) -> Size:
    """The size whose longer side is ``longest``, at the same aspect.

    The other side is ``side * longest / max(size)``, rounded half up, and at least 1.

    Args:
        size: ``(height, width)``.
        longest: The wanted length of the longer side in pixels.
        enlarge: When false, a size that already fits is returned as it is.

    Raises:
        InputError: A length is not positive.
    """
    height, width = size
    for name, value in (("height", height), ("width", width), ("longest", longest)):
        check_positive(name, value)
    side = max(height, width)
    if side <= longest and not enlarge:
        return (height, width)
    return (_rounded(height * longest, side), _rounded(width * longest, side))


def resize_image(image: Image, size: Size) -> Image:
    """Resizes a picture, as the module says, to ``size``; values are rounded to ``uint8``.

    Raises:
        InputError: Not ``uint8 [H, W, 3]``, or a length that is not positive.
    """
    check_image("image", image)
    return _resize(image, size)


def resize_map(values: Map, size: Size) -> Map:
    """Resizes a map ``[H, W]``, as the module says, to ``float32`` of ``size``.

    Raises:
        InputError: Not a non-empty ``[H, W]``, or a length that is not positive.
    """
    _check_plane("map", values)
    return _resize(np.asarray(values, np.float32), size)


def resize_mask(mask: Mask, size: Size) -> Mask:
    """Resizes a mask: a pixel is object where at least half of it is covered.

    The coverage is the resized indicator of the object, so a shape keeps its place and, to within
    its rim, its area. What is thinner than half an output pixel disappears.

    Raises:
        InputError: Not a non-empty ``bool [H, W]``, or a length that is not positive.
    """
    check_mask("mask", mask)
    _check_plane("mask", mask)
    return _resize(mask.astype(np.float32), size) >= _HALF


def resize_labels(labels: IndexedMask, size: Size) -> IndexedMask:
    """Resizes class indices by the nearest pixel centre, so that no index is invented.

    Output pixel ``i`` takes input pixel ``floor((i + 0.5) * H / H_out)``, in exact integers; of
    two equally near, the right or lower one. (OpenCV's ``INTER_NEAREST`` leaves out the 0.5 and
    shifts the picture.)

    Raises:
        InputError: Not a non-empty ``[H, W]``, or a length that is not positive.
    """
    _check_plane("labels", labels)
    _check_size(size)
    rows, columns = (
        (2 * np.arange(out) + 1) * length // (2 * out) for length, out in zip(labels.shape, size, strict=True)
    )
    return labels[rows[:, None], columns]


def pad_to(array: _Array, size: Size, *, value: float = 0) -> _Array:
    """Pads ``[H, W, ...]`` at the bottom and the right with ``value``, so that coordinates stay.

    Raises:
        InputError: ``array`` is larger than ``size``.
    """
    return np.pad(array, _margins(array, size), constant_values=value)


def pad_image_edge(image: Image, size: Size) -> Image:
    """Pads a picture at the bottom and the right with its last row and column.

    Unlike a border of one colour, this adds no edge that a descriptor could respond to.

    Raises:
        InputError: Not ``uint8 [H, W, 3]``, or larger than ``size``.
    """
    check_image("image", image)
    return np.pad(image, _margins(image, size), mode="edge")


def crop_to(array: _Array, size: Size) -> _Array:
    """The top left ``size`` of ``[H, W, ...]``, as a view; undoes ``pad_to`` and ``pad_image_edge``.

    Raises:
        InputError: ``array`` is smaller than ``size``.
    """
    _check_size(size)
    if array.ndim < 2 or array.shape[0] < size[0] or array.shape[1] < size[1]:
        raise InputError(f"array has shape {list(array.shape)}; expected at least {list(size)} to crop to.")
    return array[: size[0], : size[1]]


def _resize(array: _Array, size: Size) -> _Array:
    """Resizes ``[H, W]`` or ``[H, W, 3]``, shrinking axes first; a fresh array of the same type."""
    _check_size(size)
    (height, width), (out_height, out_width) = array.shape[:2], size
    # OpenCV's INTER_AREA is the exact mean only while no axis grows; hence two passes, the
    # smaller result first. An 8-bit result between or out of the fixed-point INTER_LINEAR would
    # be off by more than one level, so what grows is float32 and rounded once.
    small = (min(height, out_height), min(width, out_width))
    grows = small != (out_height, out_width)
    values = array.astype(np.float32) if grows and array.dtype == np.uint8 else array
    if small != (height, width):
        values = cv2.resize(values, (small[1], small[0]), interpolation=cv2.INTER_AREA)
    if grows:
        values = cv2.resize(values, (out_width, out_height), interpolation=cv2.INTER_LINEAR)
    if values.dtype != array.dtype:
        values = np.rint(values).astype(array.dtype)
    return values.copy() if values is array else values


def _margins(array: _Array, size: Size) -> list[tuple[int, int]]:
    """How much each axis of ``array`` lacks behind its end to have ``size``."""
    if array.ndim < 2 or array.shape[0] > size[0] or array.shape[1] > size[1]:
        raise InputError(f"array has shape {list(array.shape)}; expected at most {list(size)} to pad to.")
    rows, columns = size[0] - array.shape[0], size[1] - array.shape[1]
    return [(0, rows), (0, columns)] + [(0, 0)] * (array.ndim - 2)


def _rounded(numerator: int, denominator: int) -> int:
    """The quotient, rounded half up in exact integers, and at least 1."""
    return max(1, (2 * numerator + denominator) // (2 * denominator))


def _check_plane(name: str, array: Any) -> None:
    check_rank(name, array, 2, "[H, W]")
    if 0 in np.shape(array):
        raise InputError(f"{name} has shape {list(np.shape(array))}; expected at least one pixel.")


def _check_size(size: Size) -> None:
    for name, value in zip(("height", "width"), size, strict=True):
        check_positive(name, value)
