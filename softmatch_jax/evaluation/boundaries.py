"""How well the outline of a mask agrees with the true one.

Areas hide outlines: a large object is found with an IoU of 0.95 by a blob. Two published measures look at
outlines alone. Void pixels are cleared from both masks first, so that nothing found there counts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from softmatch_jax._checks import check_positive
from softmatch_jax._types import Mask
from softmatch_jax.evaluation.counting import check_masks

BAND = 0.02
"""Width of the band of the boundary IoU, in diagonals of the picture (Cheng et al., CVPR 2021)."""

TOLERANCE = 0.008
"""Greatest distance of matching outlines, in diagonals of the picture (DAVIS: Perazzi et al., CVPR 2016)."""

_Picture = UInt8[np.ndarray, "H W"]


class BoundaryCounts(NamedTuple):
    """Numbers of pixels along outlines, void left out; those of several pictures add up with ``+``.

    Attributes:
        intersection: In the inner bands of both masks.
        union: In the inner band of either.
        found: On the outline of the mask that was found.
        found_near: Of these, those near the true outline.
        truth: On the true outline.
        truth_near: Of these, those near the outline that was found.
    """

    intersection: int = 0
    union: int = 0
    found: int = 0
    found_near: int = 0
    truth: int = 0
    truth_near: int = 0

    def __add__(self, other: object) -> BoundaryCounts:
        if not isinstance(other, BoundaryCounts):
            return NotImplemented
        return BoundaryCounts(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def iou(self) -> float:
        """Boundary IoU: that of the bands; 1 when both are empty."""
        return self.intersection / self.union if self.union else 1.0

    @property
    def precision(self) -> float:
        """Share of the outline found that is near the true one; 1 when none was found."""
        return self.found_near / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Share of the true outline that was found; 1 when there is none."""
        return self.truth_near / self.truth if self.truth else 1.0

    @property
    def f(self) -> float:
        """Harmonic mean of precision and recall; 1 without any outline, 0 with only one of the two."""
        if not (self.found and self.truth):
            return float(self.found == self.truth)
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def count_boundaries(
    found: Mask, truth: Mask, void: Mask | None = None, *, band: float = BAND, tolerance: float = TOLERANCE
) -> BoundaryCounts:
    """Compares the outlines of two ``bool [H, W]`` masks as published.

    The band is what an erosion by ``round(band * diagonal)`` pixels takes from a mask, at least 1; the
    picture's border erodes too. The outline is where the 2x2 window of a pixel and its neighbours right and
    below holds both values; the picture's border is none. Near is within ``ceil(tolerance * diagonal)``.

    Args:
        found: What was found.
        truth: The object.
        void: Pixels that do not count, disjoint from the object.
        band: Width in diagonals of the picture.
        tolerance: Distance in diagonals of the picture.

    Raises:
        InputError: The masks differ in size, are not bool, ``truth`` and ``void`` overlap, or a length is not
            greater than 0.
    """
    check_masks(found, truth, void)
    check_positive("band", band)
    check_positive("tolerance", tolerance)
    diagonal = math.hypot(*truth.shape)
    if void is not None:
        found = found & ~void
    pair = _around_objects(found, truth)
    bands = [_inner_band(mask, max(1, round(band * diagonal))) for mask in pair]
    intersection = cv2.countNonZero(bands[0] & bands[1])
    outlines = [_outline(mask) for mask in pair]
    radius = math.ceil(tolerance * diagonal)
    lengths = [cv2.countNonZero(outline) for outline in outlines]
    near = [
        cv2.countNonZero(outline & _around(other, radius)) for outline, other in (outlines, outlines[::-1])
    ]
    union = sum(map(cv2.countNonZero, bands)) - intersection
    return BoundaryCounts(intersection, union, lengths[0], near[0], lengths[1], near[1])


def _around_objects(*masks: Mask) -> list[_Picture]:
    """Returns where the masks hold anything, and a pixel more: the rest of a large picture is but slow."""
    pair = [np.ascontiguousarray(mask).view(np.uint8) for mask in masks]
    x, y, width, height = cv2.boundingRect(pair[0] | pair[1])
    return [mask[max(y - 1, 0) : y + height + 1, max(x - 1, 0) : x + width + 1] for mask in pair]


def _inner_band(mask: _Picture, width: int) -> _Picture:
    # One erosion by a large square is the published series of small ones on a padded mask.
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    inside = cv2.erode(mask, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask - inside


def _outline(mask: _Picture) -> _Picture:
    window = np.ones((2, 2), np.uint8)
    return cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, window, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)


def _around(outline: _Picture, radius: int) -> _Picture:
    """Returns the pixels whose centres are within ``radius`` of those of an outline."""
    # A disc is the union of the rectangles in it, and a rectangle is by far the faster to dilate with.
    heights = {math.isqrt(radius**2 - height**2): height for height in range(radius + 1)}
    near = np.zeros_like(outline)
    for width, height in heights.items():
        near |= cv2.dilate(outline, np.ones((2 * height + 1, 2 * width + 1), np.uint8))
    return near
