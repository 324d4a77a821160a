"""Masks from the outlines and run lengths of annotation files, by the rules of COCO's own code.

Runs and outlines go down the columns, from left to right. The masks equal those of pycocotools exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from softmatch_jax._checks import InputError
from softmatch_jax._types import Mask, Size
from softmatch_jax.prompting.rasterise import check_size

FARTHEST = 100
"""How many times the longer side of its picture a corner may be away: an outline is walked step by step."""

_FINER = 5  # outlines are walked on a grid so many times finer than the pixels


def polygon_mask(polygon: Sequence[float], size: Size) -> Mask:
    """Fills one polygon by the rule of the COCO API.

    The outline is walked in whole steps on a grid five times finer than the pixels. Where a step crosses the
    middle of a column of pixels, the column changes between outside and inside from the first pixel whose
    middle is not above the crossing. So holes of one outline are empty, and what is outside the picture is
    cut off.

    Args:
        polygon: ``x0, y0, x1, y1, ...`` in pixels, the corner of the first pixel at ``(0, 0)``; closed by
            itself; at least three points.
        size: ``(H, W)`` of the picture.

    Returns:
        ``bool [H, W]``.

    Raises:
        InputError: Not pairs of finite numbers, fewer than three points, or one beyond :data:`FARTHEST`.
    """
    check_size(size)
    fine = np.trunc(_FINER * _points(polygon, size) + 0.5).astype(np.int64)
    x, y = _walk(fine)
    turns = np.flatnonzero(np.diff(x))
    # A step from u to u + 1 crosses a middle where u is 2 more than a multiple of 5.
    left, top = np.minimum(x[turns], x[turns + 1]), np.minimum(y[turns], y[turns + 1])
    height, width = size
    column, off = np.divmod(left - _FINER // 2, _FINER)
    kept = (off == 0) & (column >= 0) & (column < width)
    mask = np.zeros(size, bool)
    if not kept.any():
        return mask
    row = np.ceil(np.clip((top[kept] + 0.5) / _FINER - 0.5, 0, height)).astype(np.int64)
    first, last = column[kept].min(), column[kept].max() + 1
    # A closed outline crosses each column an even number of times, so that none is left inside at its end.
    cell = (column[kept] - first) * (height + 1) + row
    toggles = np.bincount(cell, minlength=(last - first) * (height + 1)).reshape(-1, height + 1)
    inside = np.bitwise_xor.accumulate(toggles.astype(np.uint8) & 1, axis=1)[:, :-1]
    mask[:, first:last] = inside.T
    return mask


def _points(polygon: Sequence[float], size: Size) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The corners ``[n, 2]`` of a polygon."""
    try:
        values = np.asarray(polygon, np.float64)
    except (TypeError, ValueError):
        values = np.full(1, np.nan)
    if values.ndim != 1 or values.size % 2 or values.size < 6 or not np.isfinite(values).all():
        raise InputError(
            "a polygon is not a flat list of finite numbers x0, y0, x1, y1, ... of 3 points or more."
        )
    if np.abs(values).max() > FARTHEST * max(size):
        raise InputError(
            f"a polygon reaches to {np.abs(values).max():g}, far outside {size[1]}x{size[0]} pixels."
        )
    return values.reshape(-1, 2)


def _walk(corners: Int[np.ndarray, "n 2"]) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """All points of the outline, ``x`` and ``y``, one for each step along the longer axis of each side.

    A side is reckoned from its lower end on that axis, whichever way it is walked, as this decides rounding.
    """
    ends = np.roll(corners, -1, axis=0)
    steep = np.abs(ends[:, 1] - corners[:, 1]) > np.abs(ends[:, 0] - corners[:, 0])
    turned = steep[:, None]
    a0, b0 = np.where(turned, corners[:, ::-1], corners).T
    a1, b1 = np.where(turned, ends[:, ::-1], ends).T
    back, length = a0 > a1, np.abs(a1 - a0)
    slope = (b1 - b0) / np.where(length, a1 - a0, 1)
    side = np.repeat(np.arange(len(corners)), length + 1)
    step = np.arange(side.size) - np.repeat(np.cumsum(length + 1) - length - 1, length + 1)
    step = np.where(back[side], length[side] - step, step)
    along = np.minimum(a0, a1)[side] + step
    beside = np.trunc(np.where(back, b1, b0)[side] + slope[side] * step + 0.5).astype(np.int64)
    return np.where(steep[side], beside, along), np.where(steep[side], along, beside)


def decode_rle(counts: Sequence[int] | str, size: Size) -> Mask:
    """Decodes run lengths: of outside, inside, outside, ... in turn.

    Args:
        counts: The lengths in pixels, or the text into which COCO packs them.
        size: ``(H, W)`` of the picture.

    Returns:
        ``bool [H, W]``.

    Raises:
        InputError: They are no run lengths, or do not fill the picture.
    """
    check_size(size)
    if not isinstance(counts, (str, list, tuple)):
        raise InputError(f"the run lengths are {counts!r:.40}; expected a list, or COCO's packed text.")
    lengths = _unpacked(counts) if isinstance(counts, str) else list(counts)
    if not all(type(length) is int and length >= 0 for length in lengths):
        raise InputError("the run lengths are not whole numbers from 0 on; expected counts of pixels.")
    if sum(lengths) != size[0] * size[1]:
        raise InputError(
            f"the run lengths add up to {sum(lengths)} pixels; expected {size[1]}x{size[0]} = "
            f"{size[0] * size[1]}, those of the picture."
        )
    inside = np.arange(len(lengths)) % 2 == 1
    return np.ascontiguousarray(np.repeat(inside, lengths).reshape(size[::-1]).T)


def encode_rle(mask: Mask) -> tuple[int, ...]:
    """The run lengths from which :func:`decode_rle` makes ``mask``."""
    down_columns = np.concatenate([[False], mask.T.ravel()])
    changes = np.flatnonzero(down_columns[1:] != down_columns[:-1])
    return tuple(np.diff(np.concatenate([[0], changes, [mask.size]])).tolist())


def _unpacked(text: str) -> list[int]:
    """Run lengths from COCO's text.

    Each character from ``0`` on carries 6 bits: 5 of a number, lowest first, and one that says that more
    follow; the highest bit of the last is its sign. From the fourth number on they are differences to the
    number two before.
    """
    numbers: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise InputError(f"the run lengths hold {character!r}, which COCO's text does not use.")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
        value = shift = 0
    if shift:
        raise InputError("the run lengths are cut short; expected the whole text.")
    return numbers
