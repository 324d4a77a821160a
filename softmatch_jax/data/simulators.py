"""Annotations as a person might have drawn them, made from masks for benchmarks.

A stroke starts well inside the object, far from the strokes before it, and follows the cheapest
path to another place inside, where the cost is low along the middle of the object and varies a
little at random. The path is smoothed as far as it stays inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import jax
import numpy as np
from jaxtyping import Float

from softmatch_jax._checks import InputError, check_mask
from softmatch_jax._types import Map, Mask
from softmatch_jax.prompting import Box, Points, Polyline, Scribbles, draw_polyline

_STARTS = 32  # places looked at for a start or a click: more would drive them into the corners
_ENDS = 256  # places looked at for the end of a stroke
_COARSE = 192  # long side in pixels of the copy on which a path is sought first
_LENGTH = (0.3, 0.7)  # of the diagonal of the object: from end to end of a stroke
_WOBBLE = 0.4  # deviation of the random part of the log cost
_WAVES = 4.0  # its scale, in steps of the search


def simulate_scribbles(
    mask: Mask, *, count: int = 3, key: jax.Array, width: float | None = None, negative: int = 0
) -> Scribbles:
    """Draws strokes on an object, and beside it if asked to.

    Drawn with a width of 1, every positive stroke is inside the mask. The result is a function of
    the mask and the key.

    Args:
        mask: ``bool [H, W]``, the object; may be in several pieces, or one pixel wide.
        count: number of positive strokes, spread over the object.
        key: random key.
        width: of the pen in pixels; by default 1% of the longest side, or less on thin objects so
            that the stroke stays inside.
        negative: number of negative strokes, in the background at some distance of the object.

    Returns:
        The positive strokes, then the negative ones.

    Raises:
        InputError: if the mask is empty, or is full and negative strokes are asked for.
    """
    _check(mask, count, negative)
    rng = _generator(key)
    reach = _LENGTH[0] * _diagonal(mask), _LENGTH[1] * _diagonal(mask)
    strokes = _strokes(mask, count, reach, width, rng, positive=True)
    if negative:
        strokes += _strokes(_away_from(mask), negative, reach, width, rng, positive=False)
    return Scribbles(tuple(strokes))


def simulate_points(mask: Mask, *, count: int, key: jax.Array, negative: int = 0) -> Points:
    """Clicks well inside an object, spread over it, and beside it if asked to.

    Args:
        mask: ``bool [H, W]``, the object.
        count: number of positive points.
        key: random key.
        negative: number of negative points.

    Returns:
        The positive points, then the negative ones, at pixel centres.

    Raises:
        InputError: if the mask is empty, or is full and negative points are asked for.
    """
    _check(mask, count, negative)
    rng = _generator(key)
    xy: list[tuple[float, float]] = []
    for area, number in ((mask, count), (_away_from(mask) if negative else mask, negative)):
        relative, seen = _relative(_depth(area), _pieces(area)), np.zeros((0, 2))
        for _ in range(number):
            row, column = _far_inside(relative, seen, rng)
            seen = np.vstack([seen, (row, column)])
            xy.append((column + 0.5, row + 0.5))
    return Points(tuple(xy), (True,) * count + (False,) * negative)


def simulate_box(mask: Mask, *, jitter: float = 0.0, key: jax.Array) -> Box:
    """Draws the tight box around an object, each side moved at random.

    Args:
        mask: ``bool [H, W]``, the object.
        jitter: greatest movement of a side, as a fraction of the box's width or height, below 0.5.
        key: random key.

    Returns:
        The box, clipped to the picture.

    Raises:
        InputError: if the mask is empty or ``jitter`` is out of range.
    """
    _check(mask, 1, 0)
    if not 0 <= jitter < 0.5:
        raise InputError(f"jitter is {jitter}; expected a fraction from 0 to below 0.5.")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    low, high = np.array([columns[0], rows[0]]), np.array([columns[-1], rows[-1]]) + 1
    moves = _generator(key).uniform(-jitter, jitter, (2, 2)) * (high - low)
    (x0, y0), (x1, y1) = np.clip(np.stack([low, high]) + moves, 0, mask.shape[::-1]).tolist()
    return Box(x0, y0, x1, y1)


def _strokes(
    area: Mask,
    count: int,
    reach: tuple[float, float],
    width: float | None,
    rng: np.random.Generator,
    *,
    positive: bool,
) -> list[Polyline]:
    """Draws strokes in an area, each starting far from those before it."""
    depth, labels = _depth(area), _pieces(area)
    relative = _relative(depth, labels)
    seen, strokes = np.zeros((0, 2)), []
    for _ in range(count):
        start = _far_inside(relative, seen, rng)
        piece = labels == labels[start]
        path = _path(piece, start, rng.uniform(*reach), rng)
        cells = np.floor(path).astype(int)[:, ::-1]
        seen = np.vstack([seen, cells])
        pen = width or max(1.0, min(0.01 * max(area.shape), 1.6 * float(depth[tuple(cells.T)].min())))
        strokes.append(Polyline(tuple(map(tuple, path.tolist())), pen, positive))
    return strokes


def _path(piece: Mask, start: tuple[int, int], reach: float, rng: np.random.Generator) -> np.ndarray:
    """Returns a smooth path ``[N, 2]`` of ``(x, y)`` inside a connected piece, from ``start``."""
    rows, columns = np.flatnonzero(piece.any(axis=1)), np.flatnonzero(piece.any(axis=0))
    corner = np.array([rows[0], columns[0]])
    crop = piece[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    origin = (start[0] - rows[0], start[1] - columns[0])
    seed = rng.integers(2**63)
    factor = 1 << max(0, math.ceil(math.log2(max(crop.shape) / _COARSE)))
    while True:
        # The same seed at each scale: a finer one repeats the attempt, it does not make a new one.
        for path in _smoothings(_route(crop, origin, reach, factor, np.random.default_rng(seed))):
            # At full scale the last path steps from pixel to pixel of the piece: it is inside.
            if not (draw_polyline(path, 1.0, crop.shape) & ~crop).any():
                return path + corner[::-1]
        factor //= 2


def _route(
    crop: Mask, start: tuple[int, int], reach: float, factor: int, rng: np.random.Generator
) -> Float[np.ndarray, "steps 2"]:
    """Finds a path through the middle of a piece to a place about ``reach`` pixels away.

    The search runs on blocks of ``factor x factor`` pixels that are wholly inside. Returns the
    block centres ``(x, y)``, in pixels of the crop; none if the start is in no such block.
    """
    blocks = _whole_blocks(crop, factor)
    origin = (start[0] // factor, start[1] // factor)
    if not blocks[origin]:
        return np.zeros((0, 2))
    depth = _depth(blocks)
    # Smoothing at this scale leaves white noise a deviation of 1 / (2 sqrt(pi) scale).
    waves = cv2.GaussianBlur(rng.standard_normal(blocks.shape), (0, 0), _WAVES)
    cost = 1 + 8 * (1 - depth / depth.max()) ** 2
    cost *= np.exp(_WOBBLE * 2 * math.sqrt(math.pi) * _WAVES * waves)
    from skimage.graph import MCP_Geometric  # slow to import, and only this needs it

    search = MCP_Geometric(np.where(blocks, cost, np.inf), fully_connected=True)
    reached = np.isfinite(search.find_costs([origin])[0])
    ends = _draw_inside(np.where(reached, depth, 0), _ENDS, rng)
    misses = np.abs(np.hypot(*(ends - origin).T) * factor - reach)
    path = np.array(search.traceback(tuple(ends[np.argmin(misses)])))
    return (path[:, ::-1] + 0.5) * factor


def _smoothings(path: Float[np.ndarray, "steps 2"]) -> Iterator[Float[np.ndarray, "points 2"]]:
    """Yields smoother and rougher versions of a path, the path itself last."""
    for sigma in (6.0, 3.0, 1.5, 0.7):
        if len(path) < 3:
            break
        radius = min(math.ceil(3 * sigma), len(path) - 1)
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        # Reflection in the end points keeps them where they are.
        before, after = 2 * path[0] - path[radius:0:-1], 2 * path[-1] - path[-2 : -radius - 2 : -1]
        padded = np.concatenate([before, path, after])
        smooth = [np.convolve(axis, kernel / kernel.sum(), mode="valid") for axis in padded.T]
        keep = np.unique(np.linspace(0, len(path) - 1, max(2, math.ceil(len(path) / sigma))).round()).astype(
            int
        )
        yield np.stack(smooth, axis=1)[keep]
    if len(path):
        yield path


def _whole_blocks(mask: Mask, factor: int) -> Mask:
    """Returns which blocks of ``factor x factor`` pixels are wholly inside a mask."""
    padding = [(0, -length % factor) for length in mask.shape]
    rows, columns = ((length + pad[1]) // factor for length, pad in zip(mask.shape, padding, strict=True))
    blocks = np.pad(mask, padding).reshape(rows, factor, columns, factor)
    return np.logical_and.reduce(blocks, axis=(1, 3))


def _away_from(mask: Mask) -> Mask:
    """Returns the background at some distance of the object, the farthest that leaves any."""
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    far: Mask = distance >= min(0.1 * _diagonal(mask), 0.5 * float(distance.max()))
    return far


def _depth(area: Mask) -> Map:
    """Returns the distance of each pixel to the nearest one outside; the picture ends the area too."""
    return cv2.distanceTransform(np.pad(area, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]


def _pieces(area: Mask) -> np.ndarray:
    """Returns the number of the connected piece of each pixel, 0 outside."""
    return cv2.connectedComponents(area.astype(np.uint8), connectivity=8)[1]


def _relative(depth: Map, labels: np.ndarray) -> Map:
    """Returns the depth relative to the deepest place of the piece, so that thin pieces count too."""
    deepest = np.ones(int(labels.max()) + 1, dtype=depth.dtype)
    np.maximum.at(deepest, labels.ravel(), depth.ravel())
    return depth / deepest[labels]


def _far_inside(depth: Map, seen: Float[np.ndarray, "n 2"], rng: np.random.Generator) -> tuple[int, int]:
    """Draws places inside and returns the ``(row, column)`` that is farthest from those seen."""
    places = _draw_inside(depth, _STARTS, rng)
    if len(seen) == 0:
        return int(places[0, 0]), int(places[0, 1])
    distance = np.hypot(*(places[:, None, :] - seen[None, :, :]).transpose(2, 0, 1)).min(axis=1)
    row, column = places[np.argmax(distance)]
    return int(row), int(column)


def _draw_inside(depth: Map, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws places ``[N, 2]`` (row, column), with probability proportional to the squared depth."""
    inside = np.flatnonzero(depth > 0)
    cumulative = np.cumsum(np.square(depth.ravel()[inside], dtype=np.float64))
    drawn = np.searchsorted(cumulative, rng.uniform(0, cumulative[-1], count), side="right")
    return np.stack(np.unravel_index(inside[drawn], depth.shape), axis=1)


def _diagonal(mask: Mask) -> float:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return math.hypot(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)


def _generator(key: jax.Array) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jax.random.bits(key, (4,), np.uint32)).tolist())


def _check(mask: Mask, count: int, negative: int) -> None:
    check_mask("mask", mask)
    if not mask.any():
        raise InputError("mask is empty; expected at least one pixel of the object to annotate.")
    if count < 1 or negative < 0:
        raise InputError(f"count is {count} and negative {negative}; expected at least 1 and at least 0.")
    if negative and mask.all():
        raise InputError("mask covers the whole picture; expected some background for negative marks.")
