"""Regions of pictures that are asked for one by one, with a box, a point in the middle and any point of each.

Everything drawn is a function of the seed and the name of the picture alone, so fewer pictures mean the same
questions, only fewer of them.

The drawing of :func:`draw_regions`: of the regions that cover 1 to 60 % of the picture, up to four, each set
of them as likely as any other.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import cv2
import numpy as np
from jaxtyping import Bool, Float, Integer

from softmatch_jax._checks import InputError, check_image, check_mask, check_rank
from softmatch_jax._types import Image, Mask
from softmatch_jax.prompting import Prompt

PromptKind: TypeAlias = Literal["box", "centre", "point"]
"""The tight box, the place deepest inside the region, or a pixel of it with all as likely."""

PROMPT_KINDS: tuple[PromptKind, ...] = get_args(PromptKind)

_REGIONS, _POINTS = 0, 1  # streams of random numbers


@dataclass(frozen=True, eq=False, kw_only=True)
class RegionItem:
    """A picture and regions of it that are asked for one by one.

    Attributes:
        name: Of the picture, unique among the items.
        image: ``uint8 [H, W, 3]``.
        regions: Names of the ``n`` regions.
        masks: ``bool [n, H, W]``, none of them empty.
        boxes: ``float32 [n, 4]``, ``(x0, y0, x1, y1)`` along the outer edges of the outermost pixels.
        centres: ``float32 [n, 2]``, the pixel that is farthest from all that is not the region, beyond the
            picture included; of equals the first in reading order.
        points: ``float32 [n, 2]``, a random pixel of the region.
    """

    name: str
    image: Image
    regions: tuple[str, ...]
    masks: Bool[np.ndarray, "n H W"]
    boxes: Float[np.ndarray, "n 4"]
    centres: Float[np.ndarray, "n 2"]
    points: Float[np.ndarray, "n 2"]

    def prompts(self, kind: PromptKind) -> tuple[Prompt, ...]:
        """A prompt for each region."""
        if kind == "box":
            none, of_none = np.zeros((0, 2), np.float32), np.zeros(0, np.bool_)
            return tuple(Prompt(none, of_none, box=tuple(box)) for box in self.boxes.tolist())
        places = {"centre": self.centres, "point": self.points}[kind]
        return tuple(Prompt(xy[None], np.ones(1, np.bool_)) for xy in places)


def region_item(
    name: str, image: Image, masks: Sequence[Mask], *, regions: Sequence[str] | None = None, seed: int = 0
) -> RegionItem:
    """Makes the prompts for some regions of a picture.

    Args:
        name: Of the picture.
        image: ``uint8 [H, W, 3]``.
        masks: ``bool [H, W]`` each; may be none at all.
        regions: Their names; their numbers by default.
        seed: Of the random pixel.

    Raises:
        InputError: A mask is empty or does not fit the picture, or there is not a name for each.
    """
    check_image(name, image)
    names = tuple(map(str, range(len(masks)))) if regions is None else tuple(regions)
    if len(names) != len(masks):
        raise InputError(f"{name} has {len(masks)} masks but {len(names)} names; expected one for each.")
    size = (image.shape[0], image.shape[1])
    for region, mask in zip(names, masks, strict=True):
        check_mask(f"{region} of {name}", mask, size)
        if not mask.any():
            raise InputError(f"{region} of {name} is empty; expected at least one pixel (leave it out).")
    rng = _generator(seed, name, _POINTS)
    return RegionItem(
        name=name,
        image=image,
        regions=names,
        masks=np.array(masks, np.bool_).reshape(-1, *size),
        boxes=np.array([_box(mask) for mask in masks], np.float32).reshape(-1, 4),
        centres=np.array([_centre(mask) for mask in masks], np.float32).reshape(-1, 2),
        points=np.array([_any_pixel(mask, rng) for mask in masks], np.float32).reshape(-1, 2),
    )


def draw_regions(
    name: str,
    image: Image,
    labels: Integer[np.ndarray, "H W"],
    *,
    area: tuple[float, float] = (0.01, 0.6),
    most: int = 4,
    seed: int = 0,
) -> RegionItem:
    """Makes an item of a picture that somebody cut into regions.

    Args:
        name: Of the picture.
        image: ``uint8 [H, W, 3]``.
        labels: The number of the region of every pixel, 0 where there is none.
        area: Least and greatest size of a region, as fractions of the picture, both allowed.
        most: How many of them are drawn, at most; without repetition, and in the order of their numbers.
        seed: Of the draw and of the random pixels.

    Raises:
        InputError: The map is not one of whole numbers of the picture's size, or the bounds are no fractions.
    """
    check_image(name, image)
    check_rank(f"the regions of {name}", labels, 2, "[H, W]")
    if labels.shape != image.shape[:2] or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise InputError(
            f"The regions of {name} are {labels.dtype} {list(labels.shape)}; expected whole numbers from 0, "
            f"{list(image.shape[:2])} as the picture."
        )
    low, high = area
    if not 0 <= low <= high <= 1 or most < 1:
        raise InputError(
            f"area is {area} and most {most}; expected fractions from 0 to 1, in order, and 1 or more."
        )
    shares = np.bincount(labels.ravel()) / labels.size
    shares[0] = 0  # no region
    numbers = np.flatnonzero((shares > 0) & (shares >= low) & (shares <= high))
    numbers = np.sort(_generator(seed, name, _REGIONS).permutation(numbers)[:most])
    masks = [labels == number for number in numbers]
    return region_item(name, image, masks, regions=list(map(str, numbers)), seed=seed)


def _box(mask: Mask) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _centre(mask: Mask) -> tuple[float, float]:
    padded = np.pad(mask, 1).astype(np.uint8)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    row, column = divmod(int(depth.argmax()), mask.shape[1])
    return column + 0.5, row + 0.5


def _any_pixel(mask: Mask, rng: np.random.Generator) -> tuple[float, float]:
    row, column = divmod(int(rng.choice(np.flatnonzero(mask))), mask.shape[1])
    return column + 0.5, row + 0.5


def _generator(seed: int, name: str, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode(errors="surrogateescape")), stream])
