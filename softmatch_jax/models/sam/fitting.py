"""How a picture is brought to the square that SAM sees."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

from softmatch_jax._types import Image, Size
from softmatch_jax.imaging import fit_longest
from softmatch_jax.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, normalise, resize_picture
from softmatch_jax.models.sam.aligned import aligned_corners

SamFit = Literal["aspect", "published"]
"""``aspect`` is SAM's own way: the longer side fills the square. ``published`` is that of VRP-SAM's code, on
which ProSAM builds: the picture is squashed to half the square's side, standardised, and enlarged bilinearly
with aligned corners."""


def input_size(image_size: Size, side: int, fit: SamFit) -> Size:
    """``(h, w)`` that a picture gets in a square of ``side`` pixels."""
    return (side, side) if fit == "published" else fit_longest(image_size, side)


def square_pixels(image: Image, side: int, fit: SamFit) -> Float[np.ndarray, "1 3 S S"]:
    """A picture in its square, standardised, with zeros beyond it.

    Args:
        image: ``uint8 [H, W, 3]``.
        side: Of the square; even.
        fit: In which way.
    """
    if fit == "published":
        squashed = resize_picture(image, (side // 2, side // 2), resample="bilinear")[None]
        matrix = aligned_corners(side // 2, side)
        return np.asarray(matrix @ normalise(squashed, IMAGENET_MEAN, IMAGENET_STD) @ matrix.T)
    height, width = input_size((image.shape[0], image.shape[1]), side, fit)
    resized = resize_picture(image, (height, width), resample="bilinear")[None]
    margins = [(0, 0), (0, 0), (0, side - height), (0, side - width)]
    return np.pad(normalise(resized, IMAGENET_MEAN, IMAGENET_STD), margins)
