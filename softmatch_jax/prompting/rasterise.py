"""Which pixels a stroke, a disc or a box covers.

A pixel is judged by its centre, ``(column + 0.5, row + 0.5)``. Distances are exact; nothing is
computed far from the shape, so large pictures cost no more than small ones.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from softmatch_jax._checks import InputError, check_finite, check_positive
from softmatch_jax._types import Mask, Size

Window: TypeAlias = tuple[slice, slice]
"""Rows and columns of a picture."""

_BAND = 64  # rows looked at together: bounds the work for a long diagonal segment


def draw_polyline(points: ArrayLike, width: float, size: Size) -> Mask:
    """Draws a polyline with round joints and ends.

    A pixel is covered if its centre is within ``max(width, 1) / 2`` of the polyline, or if a
    vertex lies in it. The second clause matters below a width of √2 only: with it every stroke
    whose vertices are inside the picture covers a pixel, and its pixels are 8-connected.

    Args:
        points: ``[N, 2]`` vertices ``(x, y)``; one vertex is a dot.
        width: diameter of the pen in pixels.
        size: ``(height, width)`` of the picture; what lies outside is clipped.

    Returns:
        The covered pixels, ``bool [H, W]``.

    Raises:
        InputError: if the points are not finite ``[N, 2]``, or width or size are not positive.
    """
    window, covered = polyline_window(points, width, size)
    mask = np.zeros(size, dtype=np.bool_)
    mask[window] = covered
    return mask


def polyline_window(points: ArrayLike, width: float, size: Size) -> tuple[Window, Mask]:
    """Draws as `draw_polyline` does, but returns the bounding box and the pixels inside it only."""
    vertices = np.asarray(points, dtype=np.float64)
    if vertices.ndim != 2 or vertices.shape[1] != 2 or len(vertices) == 0:
        raise InputError(f"points has shape {list(vertices.shape)}; expected one or more (x, y), [N, 2].")
    check_finite("points", vertices, "expected (x, y) positions in pixels.")
    check_positive("width", width)
    check_size(size)
    radius = max(width, 1.0) / 2
    limit = np.asarray(size[::-1])
    low = np.clip(np.floor(vertices.min(axis=0) - radius), 0, limit).astype(int)
    high = np.clip(np.ceil(vertices.max(axis=0) + radius), low, limit).astype(int)
    covered = np.zeros((high - low)[::-1], dtype=np.bool_)
    if covered.size:
        ends = vertices[1:] if len(vertices) > 1 else vertices
        for start, end in zip(vertices.tolist(), ends.tolist(), strict=False):
            _cover_segment(covered, low[0], low[1], start, end, radius)
        _cover_vertices(covered, np.floor(vertices).astype(int) - low)
    return (slice(low[1], high[1]), slice(low[0], high[0])), covered


def draw_disc(centre: tuple[float, float], radius: float, size: Size) -> Mask:
    """Draws the disc of ``radius`` pixels about ``centre`` ``(x, y)``, as a dot of a pen would be."""
    return draw_polyline([centre], 2 * radius, size)


def fill_box(box: tuple[float, float, float, float], size: Size) -> Mask:
    """Fills a box.

    A pixel is covered if its centre is in ``[x0, x1) x [y0, y1)``. A box too thin to hold a centre
    covers the pixel row or column in which its middle lies, so no box inside the picture vanishes.

    Args:
        box: ``(x0, y0, x1, y1)`` in pixels, ``x1 >= x0`` and ``y1 >= y0``.
        size: ``(height, width)`` of the picture; what lies outside is clipped.

    Returns:
        The covered pixels, ``bool [H, W]``.

    Raises:
        InputError: if a coordinate is not finite or the size is not positive.
    """
    check_finite("box", box, "expected (x0, y0, x1, y1) in pixels.")
    check_size(size)
    x0, y0, x1, y1 = box
    mask = np.zeros(size, dtype=np.bool_)
    mask[_centres_between(y0, y1), _centres_between(x0, x1)] = True
    return mask


def window_about(pixels: np.ndarray) -> Window:
    """The rows and columns in which an array ``[H, W]`` is not zero; both empty where it is zero all over."""
    lines = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    rows, columns = (slice(int(n[0]), int(n[-1]) + 1) if len(n) else slice(0, 0) for n in lines)
    return rows, columns


def bounding_box(mask: Mask) -> tuple[float, float, float, float]:
    """The box ``(x0, y0, x1, y1)`` about a mask's true pixels, of which there must be one."""
    rows, columns = window_about(mask)
    return (float(columns.start), float(rows.start), float(columns.stop), float(rows.stop))


def check_size(size: Size) -> None:
    """Raises ``InputError`` unless ``size`` is a ``(height, width)`` of at least one pixel."""
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"size is {tuple(size)}; expected (height, width), both at least 1.")


def _centres_between(low: float, high: float) -> slice:
    first, stop = math.ceil(low - 0.5), math.ceil(high - 0.5)
    if stop <= first:
        first = math.floor((low + high) / 2)
        stop = first + 1
    return slice(max(first, 0), max(stop, 0))


def _cover_segment(
    covered: Mask, column: int, row: int, start: list[float], end: list[float], radius: float
) -> None:
    """Adds to the window at ``(column, row)`` the pixels within ``radius`` of a segment."""
    (ax, ay), (bx, by) = start, end
    dx, dy = bx - ax, by - ay
    squared_length = dx * dx + dy * dy or 1.0  # a dot: t is 0 everywhere
    height, width = covered.shape
    first = max(math.floor(min(ay, by) - radius) - row, 0)
    last = min(math.ceil(max(ay, by) + radius) - row, height)
    for top in range(first, last, _BAND):
        bottom = min(top + _BAND, last)
        # Only this part of the segment is near these rows, and only its columns are looked at.
        near, far = _between(ay, dy, row + top - radius, row + bottom + radius)
        x_low, x_high = sorted((ax + near * dx, ax + far * dx))
        left = max(math.floor(x_low - radius) - column, 0)
        right = min(math.ceil(x_high + radius) - column, width)
        if left >= right:
            continue
        x = np.arange(column + left, column + right)[None, :] + (0.5 - ax)
        y = np.arange(row + top, row + bottom)[:, None] + (0.5 - ay)
        t = np.clip((x * dx + y * dy) / squared_length, 0.0, 1.0)
        covered[top:bottom, left:right] |= (x - t * dx) ** 2 + (y - t * dy) ** 2 <= radius * radius


def _between(origin: float, step: float, low: float, high: float) -> tuple[float, float]:
    """Returns the part of ``0 <= t <= 1`` on which ``low <= origin + t * step <= high``."""
    if abs(step) < 1e-9:  # goes nowhere, and the division could overflow
        return 0.0, 1.0
    near, far = sorted(((low - origin) / step, (high - origin) / step))
    return min(max(near, 0.0), 1.0), min(max(far, 0.0), 1.0)


def _cover_vertices(covered: Mask, cells: np.ndarray) -> None:
    """Adds the cells ``(column, row)`` of the window that exist."""
    inside = ((cells >= 0) & (cells < covered.shape[::-1])).all(axis=1)
    covered[cells[inside, 1], cells[inside, 0]] = True
