"""Objects of one picture pasted into a view of another, so that few pictures make many scenes.

What is pasted is a region with its true outline; it keeps its own light, and hides what lies beneath it in
the label map, too (Ghiasi et al. 2021).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from softmatch_jax._types import Image
from softmatch_jax.training.augmenting import Labels
from softmatch_jax.training.region_config import Pasting


def paste(
    rng: np.random.Generator,
    image: Image,
    labels: Labels,
    other: Image,
    other_labels: Labels,
    pasting: Pasting,
) -> tuple[Image, Labels]:
    """Pastes some regions of one view into another, each where it is.

    Args:
        rng: Decides.
        image: The view, ``uint8 [h, w, 3]``.
        labels: Its label map, ``uint16 [s h, s w]`` with a whole ``s``.
        other: The view that regions are taken from, of any size.
        other_labels: Its label map.
        pasting: How many, and how large.

    Returns:
        Image and label map with the regions in them, as regions of numbers that were not in use.
    """
    height, width = (min(image.shape[axis], other.shape[axis]) for axis in (0, 1))
    scale = labels.shape[0] // image.shape[0]
    taken = other_labels[: height * scale, : width * scale]
    areas = np.bincount(taken.ravel())
    areas[0] = 0
    low, high = (share * other_labels.size for share in (pasting.min_area, pasting.max_area))
    numbers = np.flatnonzero((areas >= max(low, 1)) & (areas <= high))
    if not len(numbers):
        return image, labels
    count = int(rng.integers(1, pasting.most + 1))
    chosen = rng.permutation(numbers)[:count]
    labels = labels.copy()
    window = labels[: height * scale, : width * scale]
    free = int(labels.max()) + 1
    for offset, number in enumerate(chosen.tolist()):
        window[taken == number] = free + offset
    inside = np.isin(taken, chosen).view(np.uint8) * np.float32(1)
    cover: Any = cv2.resize(inside, (width, height), interpolation=cv2.INTER_AREA)[..., None]
    image = image.copy()
    part = image[:height, :width]
    image[:height, :width] = np.rint(part + cover * (other[:height, :width].astype(np.float32) - part))
    return image, labels
