"""Outlines of masks along the edges of their pixels, which COCO's rule fills to exactly the same pixels.

Coordinates are whole, the corner of the first pixel at ``(0, 0)``. A part is what hangs together by the sides
of its pixels; where two parts, or a hole and the outside, touch in a corner, the outlines do not cross.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from scipy import ndimage
from scipy.spatial import cKDTree

from softmatch_jax._types import Mask
from softmatch_jax.data.formats.objects import Region

Ring = Int[np.ndarray, "n 2"]
"""Corners ``(x, y)`` of a closed outline."""


@dataclass(frozen=True, eq=False)
class Part:
    """A part of an object: its outline, and those of its holes, which run the other way round."""

    outer: Ring
    holes: tuple[Ring, ...]

    def outline(self) -> Ring:
        """One outline, to which each hole is tied by a line that is walked there and back."""
        return _tied(self.outer, self.holes)


def trace(region: Region) -> list[Part]:
    """The parts of an object, in the order in which rows meet them, in pixels of the picture."""
    rings: dict[int, list[Ring]] = {}
    places, parts, across, down = _corners(region.mask)
    for corners in _cycles(_partners(across), _partners(down)):
        ring = places[corners] + (region.left, region.top)
        rings.setdefault(int(parts[corners[0]]), []).append(ring)
    found = []
    for number in sorted(rings):
        # The outer outline of a part encloses the others, so it encloses the most.
        ordered = sorted(((_area(ring), ring) for ring in rings[number]), key=lambda pair: -abs(pair[0]))
        turned = [ring if (area > 0) == (k == 0) else ring[::-1] for k, (area, ring) in enumerate(ordered)]
        found.append(Part(turned[0], tuple(turned[1:])))
    return found


def joined(parts: Sequence[Part]) -> Ring:
    """One outline of all parts, the others tied to the largest by lines that are walked there and back."""
    rings = sorted((part.outline() for part in parts), key=lambda ring: -abs(_area(ring)))
    return _tied(rings[0], rings[1:])


def _corners(
    mask: Mask,
) -> tuple[Ring, Int[np.ndarray, " n"], Int[np.ndarray, "n 3"], Int[np.ndarray, "n 3"]]:
    """Where outlines turn.

    Returns:
        Places ``(x, y)``; the part that each is a corner of; keys by which the ends of level stretches of
        outline, and those of upright ones, come to stand in pairs.
    """
    part = ndimage.label(np.pad(mask, 1))[0].astype(np.int64)
    around = np.stack([part[:-1, :-1], part[:-1, 1:], part[1:, :-1], part[1:, 1:]])
    inside = around > 0
    odd = inside.sum(axis=0) % 2 == 1
    y, x = np.nonzero(odd)
    found = [np.stack([x, y, around.max(axis=0)[odd], 0 * x, 0 * x], axis=1)]
    # Where two pixels touch in a corner only, each has a corner there: west or east, north or south of it.
    for first, second, west_first in ((0, 3, True), (1, 2, False)):
        saddle = inside[first] & inside[second] & (inside.sum(axis=0) == 2)
        y, x = np.nonzero(saddle)
        for pixel, south in ((first, 0), (second, 1)):
            east = south if west_first else 1 - south
            ones = np.ones_like(x)
            found.append(np.stack([x, y, around[pixel][saddle], east * ones, south * ones], axis=1))
    corner = np.concatenate(found)
    return corner[:, :2], corner[:, 2], corner[:, [1, 0, 3]], corner[:, [0, 1, 4]]


def _partners(keys: Int[np.ndarray, "n 3"]) -> Int[np.ndarray, " n"]:
    """The corner at the other end: in the order of the keys, the first two belong together, and so on."""
    order = np.lexsort(keys.T[::-1])
    partner = np.empty(len(keys), np.int64)
    partner[order[::2]], partner[order[1::2]] = order[1::2], order[::2]
    return partner


def _cycles(level: Int[np.ndarray, " n"], upright: Int[np.ndarray, " n"]) -> list[list[int]]:
    """The corners of each outline in turn: level and upright stretches alternate."""
    across, down = level.tolist(), upright.tolist()
    seen = bytearray(len(across))
    found = []
    for start in range(len(across)):
        cycle, at = [], start
        while not seen[at]:
            other = across[at]
            seen[at] = seen[other] = 1
            cycle += [at, other]
            at = down[other]
        if cycle:
            found.append(cycle)
    return found


def _area(ring: Ring) -> int:
    x, y = ring.T
    inner = int(x[:-1] @ y[1:]) - int(x[1:] @ y[:-1])
    return (inner + int(x[-1] * y[0] - x[0] * y[-1])) // 2


def _tied(outer: Ring, others: Sequence[Ring]) -> Ring:
    """One closed outline; each other ring is entered and left at the corner that is nearest to ``outer``."""
    if not others:
        return outer
    distance, nearest = cKDTree(outer).query(np.concatenate(others))
    inserted: dict[int, list[Ring]] = {}
    start = 0
    for ring in others:
        own = start + int(np.argmin(distance[start : start + len(ring)]))
        first = own - start
        loop = np.concatenate([ring[first:], ring[: first + 1]])
        inserted.setdefault(int(nearest[own]), []).append(loop)
        start += len(ring)
    pieces, done = [], 0
    for index in sorted(inserted):
        pieces.append(outer[done : index + 1])
        for loop in inserted[index]:
            pieces += [loop, outer[index : index + 1]]
        done = index + 1
    pieces.append(outer[done:])
    return np.concatenate(pieces)
