"""From the label map of a view to objects: which regions, their masks, and the prompts that ask for them.

Masks have half the side of the view. A view's label map is sampled ``SAMPLES`` times along each side of a
pixel of the mask; the pixel is in a region if half of the samples are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np

from softmatch_jax._types import Mask, Size
from softmatch_jax.training.augmenting import Labels
from softmatch_jax.training.region_config import Drawing

SAMPLES = 4
"""Samples of the label map along each side of a pixel of a mask."""

_Floats: TypeAlias = np.ndarray[Any, np.dtype[np.floating[Any]]]

_THINNEST = 2.0  # side of a box in pixels of the view


@dataclass(frozen=True, eq=False)
class Drawn:
    """An object of a view, and prompts for it in pixels of the view, whose side is twice the mask's.

    Attributes:
        mask: ``bool [h, w]``.
        centre: ``float64 [2]``, ``x, y`` of the pixel deepest inside.
        point: ``float64 [2]``, the centre of any pixel of the view inside.
        box: ``float64 [4]``, ``x0, y0, x1, y1``, jittered.
    """

    mask: Mask
    centre: _Floats
    point: _Floats
    box: _Floats


def sample_size(content: Size) -> Size:
    """Size ``(H, W)`` of the label map that :func:`draw_objects` needs for a view of ``content``."""
    return (content[0] // 2 * SAMPLES, content[1] // 2 * SAMPLES)


def draw_objects(
    rng: np.random.Generator, labels: Labels, side: int, count: int, drawing: Drawing
) -> list[Drawn]:
    """Draws objects of a view, no region twice as the first of an object.

    Args:
        rng: Decides.
        labels: Of the view, of :func:`sample_size`.
        side: Of the view.
        count: Objects to draw at most; fewer if there are no more of the right size and none is drawn again.
        drawing: How.
    """
    low, high = (share * labels.size for share in (drawing.min_area, drawing.max_area))
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    numbers = np.flatnonzero((areas >= max(low, 1)) & (areas <= high))
    # The smallest of exponentials by their rates is a draw without replacement (Efraimidis and Spirakis).
    times = rng.standard_exponential(len(numbers)) * areas[numbers] ** drawing.flatness
    found: list[Drawn] = []
    regions: list[Any] = []
    for number in numbers[np.argsort(times)].tolist():
        if len(found) == count:
            break
        region = (labels == number).view(np.uint8)
        if rng.random() < drawing.merge:
            region = _with_neighbour(rng, labels, region, high)
        mask = _majority(region)
        if max(drawing.min_area * mask.size, 1) <= np.count_nonzero(mask) <= drawing.max_area * mask.size:
            found.append(_prompted(rng, region, mask, side, drawing))
            regions.append(region)
    for index in range((count - len(found)) if drawing.again and found else 0):
        place = index % len(regions)
        found.append(_prompted(rng, regions[place], found[place].mask, side, drawing))
    return found


def _with_neighbour(rng: np.random.Generator, labels: Labels, region: Any, most: float) -> Any:
    """The region with one that touches it, if there is one and both are not too large."""
    x, y, width, height = cv2.boundingRect(region)
    window = (slice(max(y - 1, 0), y + height + 1), slice(max(x - 1, 0), x + width + 1))
    near = cv2.dilate(region[window], np.ones((3, 3), np.uint8)) > region[window]
    contact = np.bincount(labels[window][near])
    if not contact[1:].any():
        return region
    contact[0] = 0
    neighbour = int(rng.choice(len(contact), p=contact / contact.sum()))
    both = region | (labels == neighbour).view(np.uint8)
    return both if np.count_nonzero(both) <= most else region


def _majority(region: Any) -> Mask:
    """``bool [H/4, W/4]``: where half of the samples ``uint8 [H, W]`` are 1."""
    size = (region.shape[1] // SAMPLES, region.shape[0] // SAMPLES)
    # 240 keeps the means of 16 samples whole, so that ties do not hang on rounding.
    return cv2.resize(region * np.uint8(240), size, interpolation=cv2.INTER_AREA) >= 120


def _prompted(rng: np.random.Generator, region: Any, mask: Mask, side: int, drawing: Drawing) -> Drawn:
    pixels = np.flatnonzero(mask)
    place = int(pixels[rng.integers(len(pixels))])
    y, x = divmod(place, mask.shape[1])
    point = 2 * np.array([x, y]) + (rng.random(2) < 0.5) + 0.5
    return Drawn(
        mask, deepest_point(mask), point, _jittered(rng, tight_box(region), mask.shape, side, drawing)
    )


def deepest_point(mask: Mask) -> _Floats:
    """``x, y`` in pixels of the view of the mask's pixel farthest from all outside, the border included."""
    padded = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.uint8)
    padded[1:-1, 1:-1] = mask
    depths = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    y, x = divmod(int(depths.argmax()), padded.shape[1])
    return 2 * (np.array([x, y]) - 0.5)


def tight_box(region: Any) -> _Floats:
    """``x0, y0, x1, y1`` in pixels of the view of the samples ``uint8 [H, W]`` that are not 0."""
    x, y, width, height = cv2.boundingRect(region)
    return np.array([x, y, x + width, y + height]) * (2 / SAMPLES)


def _jittered(rng: np.random.Generator, box: _Floats, size: Size, side: int, drawing: Drawing) -> _Floats:
    """The box with every edge moved, within the picture of which ``size`` is half, and not too thin."""
    sides = np.tile(box[2:] - box[:2], 2)
    most = drawing.most_jitter * side
    shifts = np.clip(rng.standard_normal(4) * drawing.jitter * sides, -most, most)
    limits = 2 * np.array(size[::-1])
    low, high = (np.clip(corner, 0, limits) for corner in ((box + shifts)[:2], (box + shifts)[2:]))
    middle = np.clip((low + high) / 2, _THINNEST / 2, limits - _THINNEST / 2)
    thin = high - low < _THINNEST
    low, high = np.where(thin, middle - _THINNEST / 2, low), np.where(thin, middle + _THINNEST / 2, high)
    return np.concatenate([low, high])
