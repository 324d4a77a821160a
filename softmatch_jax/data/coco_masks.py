"""Class masks painted from the instances of COCO.

A pixel has one class in a mask, but the instances of COCO overlap a little. How the masks of the published
code were painted is not known; here crowds are painted first, so that they never hide an object, and objects
after them in the order of the file (``last``: the usual loop) or from the largest to the smallest
(``smallest``: what lies on a table is not hidden by it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax._types import IndexedMask, Mask, Size
from softmatch_jax.data.coco_instances import CocoPicture, Instance
from softmatch_jax.data.outlines import decode_rle, polygon_mask

Overlap: TypeAlias = Literal["last", "smallest"]
"""Which of two overlapping objects a pixel belongs to: the later in the file, or the smaller."""


@dataclass
class Tally:
    """What was met while masks were painted.

    Attributes:
        painted: Masks that were written.
        kept: Masks that were there already.
        missing: Annotated pictures that are not in the folder; they are left out.
        clipped: Polygons that reach outside their picture by more than a pixel.
        outside: Polygons wholly outside, which paint nothing.
        degenerate: Polygons of fewer than three points, which paint nothing.
    """

    painted: int = 0
    kept: int = 0
    missing: int = 0
    clipped: int = 0
    outside: int = 0
    degenerate: int = 0


def paint_classes(picture: CocoPicture, overlap: Overlap, tally: Tally) -> IndexedMask:
    """Paints the class mask of a picture.

    Args:
        picture: With its objects.
        overlap: See :data:`Overlap`.
        tally: Polygons that are not inside are counted here.

    Returns:
        ``uint8 [H, W]``: 0 for background, 1 to 80 for the classes.

    Raises:
        InputError: A segmentation cannot be used.
    """
    layers = [(instance, _region(picture, instance, tally)) for instance in picture.instances]
    if overlap == "smallest":
        layers.sort(key=lambda layer: -int(np.count_nonzero(layer[1])))
    layers.sort(key=lambda layer: not layer[0].crowd)  # keeps the order among crowds and among objects
    labels = np.zeros(picture.size, np.uint8)
    for instance, region in layers:
        labels[region] = instance.number
    return labels


def _region(picture: CocoPicture, instance: Instance, tally: Tally) -> Mask:
    """The pixels of one instance: its polygons together, or its runs."""
    segmentation = instance.segmentation
    try:
        if isinstance(segmentation, dict) and "counts" in segmentation:
            if segmentation.get("size", list(picture.size)) != list(picture.size):
                raise InputError(f"its run lengths are for the size {segmentation['size']}.")
            return decode_rle(segmentation["counts"], picture.size)
        if not isinstance(segmentation, list):
            raise InputError("its segmentation is neither polygons nor run lengths.")
        region = np.zeros(picture.size, bool)
        for polygon in segmentation:
            if isinstance(polygon, list) and len(polygon) < 6:
                tally.degenerate += 1
                continue
            region |= polygon_mask(polygon, picture.size)
            _count_outside(polygon, picture.size, tally)
        return region
    except InputError as error:
        height, width = picture.size
        raise InputError(
            f"Annotation {instance.id} of {picture.name}, {width}x{height} pixels, cannot be used (mend or "
            f"delete it): {error}"
        ) from None


def _count_outside(polygon: list[float], size: Size, tally: Tally) -> None:
    """Counts a polygon that is partly or wholly outside its picture."""
    x, y = np.asarray(polygon[::2]), np.asarray(polygon[1::2])
    height, width = size
    if x.max() <= 0 or y.max() <= 0 or x.min() >= width or y.min() >= height:
        tally.outside += 1
    elif x.min() < -1 or y.min() < -1 or x.max() > width + 1 or y.max() > height + 1:
        tally.clipped += 1
