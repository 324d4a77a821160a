"""From proposals to one mask per class, its instances, and one indexed mask for all classes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Int32

from softmatch_jax._types import IndexedMask, Map, Mask
from softmatch_jax.models import Proposals
from softmatch_jax.pipelines.segmentation import Instance


def merge(proposals: Proposals, *, min_score: float, size: tuple[int, int]) -> Mask:
    """Union of the proposals that score at least ``min_score`` (Softmatcher Fig. 1, step 3)."""
    kept = proposals.masks[proposals.scores >= min_score]
    return np.any(kept, axis=0) if len(kept) else np.zeros(size, bool)


def resolve_classes(masks: Sequence[Mask], maps: Sequence[Map]) -> IndexedMask:
    """Gives each pixel to the class of highest probability among those whose mask holds it.

    Args:
        masks: One ``bool [H, W]`` per class.
        maps: One probability map ``[H, W]`` per class.

    Returns:
        ``uint8 [H, W]``; 0 is background and class ``i`` of the sequence is ``i + 1``. A tie goes to the
        earlier class.
    """
    labels = np.zeros(masks[0].shape, np.uint8)
    best = np.full(masks[0].shape, -np.inf, np.float32)
    for index, (mask, probability) in enumerate(zip(masks, maps, strict=True), start=1):
        wins = mask & (probability > best)
        labels[wins] = index
        best[wins] = probability[wins]
    return labels


def split_instances(
    mask: Mask, probability: Map, *, min_area: float
) -> tuple[Int32[np.ndarray, "H W"], tuple[Instance, ...]]:
    """Separates a mask into its connected components (8-neighbours), best first.

    Args:
        mask: ``bool [H, W]``.
        probability: ``[H, W]``, averaged over each component for its score.
        min_area: Components smaller than this fraction of the picture are dropped.

    Returns:
        Labels ``int32 [H, W]``, 0 where there is no instance, and the instances.
    """
    count, pieces, stats, centroids = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    totals = np.bincount(pieces.ravel(), weights=probability.ravel(), minlength=count)
    found = []
    for piece in range(1, count):
        x, y, width, height, area = (int(v) for v in stats[piece])
        if area < min_area * mask.size:
            continue
        instance = Instance(
            score=float(totals[piece] / area),
            area=area,
            box=(x, y, x + width, y + height),
            centroid=(float(centroids[piece][0] + 0.5), float(centroids[piece][1] + 0.5)),
        )
        found.append((instance, piece))
    found.sort(key=lambda pair: (-pair[0].score, pair[1]))
    names = np.zeros(count, np.int32)
    for rank, (_, piece) in enumerate(found, start=1):
        names[piece] = rank
    return names[pieces], tuple(instance for instance, _ in found)
