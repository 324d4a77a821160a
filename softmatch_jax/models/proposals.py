"""Masks decoded from prompts, kept small until somebody asks for them at the size of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int32

from softmatch_jax._types import Map, Size


@dataclass(frozen=True, eq=False, kw_only=True)
class Proposals:
    """Masks decoded from prompts, as logits on the generator's own raster.

    The raster is enlarged ``scale`` times, cropped to ``content`` and resized to the picture, in each
    step bilinearly between pixel centres: what SAM does with its masks.

    Attributes:
        logits: ``float32 [n, h, w]``, above ``threshold`` on the object.
        scores: ``float32 [n]``, the model's own estimate of each mask's quality, mostly in ``[0, 1]``
            (SAM's predicted IoU).
        stability: ``float32 [n]`` in ``[0, 1]``, how little each mask depends on the threshold; one where
            the generator has no say in it.
        prompts: ``int32 [n]``, which prompt each mask answers.
        image_size: ``(H, W)`` of the picture.
        content: ``(h, w)``, how much of the enlarged raster the picture covers, from the top left.
        scale: How many times the raster is enlarged first.
        threshold: Where the logits are cut.
    """

    logits: Float[np.ndarray, "n h w"]
    scores: Float[np.ndarray, " n"]
    stability: Float[np.ndarray, " n"]
    prompts: Int32[np.ndarray, " n"]
    image_size: Size
    content: Size
    scale: int = 1
    threshold: float = 0.0

    @classmethod
    def empty(cls, size: Size) -> Proposals:
        """No proposals for a picture of ``size`` ``(H, W)``."""
        none = np.zeros(0, np.float32)
        return cls(
            logits=np.zeros((0, *size), np.float32),
            scores=none,
            stability=none,
            prompts=np.zeros(0, np.int32),
            image_size=size,
            content=size,
        )

    def __len__(self) -> int:
        """Number of masks."""
        return len(self.logits)

    def __getitem__(self, chosen: np.ndarray | Sequence[int] | slice) -> Proposals:
        """Some of the masks: by a list of indices, flags or a slice."""
        names = ("logits", "scores", "stability", "prompts")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    @cached_property
    def masks(self) -> Bool[np.ndarray, "n H W"]:
        """All masks at the size of the picture."""
        full = [self.enlarge(logits) > self.threshold for logits in self.logits]
        return np.array(full, bool).reshape(-1, *self.image_size)

    @property
    def small_masks(self) -> Bool[np.ndarray, "n h w"]:
        """All masks on the raster, false in its padding."""
        return (self.logits > self.threshold) & self.inside

    @property
    def inside(self) -> Bool[np.ndarray, "h w"]:
        """Which cells of the raster have their centre in the picture; of a sliver, its first row."""
        rows, columns = (
            (np.arange(n) + 0.5) * self.scale < max(length, self.scale)
            for n, length in zip(self.logits.shape[1:], self.content, strict=True)
        )
        return rows[:, None] & columns[None]

    def enlarge(self, raster: Float[np.ndarray, "h w"]) -> Map:
        """A map on the raster, at the size of the picture."""
        height, width = raster.shape
        large: np.ndarray = raster.astype(np.float32, copy=False)
        if self.scale != 1:
            size = (width * self.scale, height * self.scale)
            large = cv2.resize(large, size, interpolation=cv2.INTER_LINEAR)
        large = large[: self.content[0], : self.content[1]]
        if large.shape == self.image_size:
            return large.copy()
        return cv2.resize(large, self.image_size[::-1], interpolation=cv2.INTER_LINEAR)

    def reduce(self, values: Map) -> Float[np.ndarray, "h w"]:
        """A map at the size of the picture, averaged over the cells of the raster; 0 in its padding."""
        shape = self.logits.shape[1:]
        covered = [-(-length // self.scale) for length in self.content]
        # Whole cells: the picture may end within the last one, and is held constant beyond.
        small: np.ndarray = values.astype(np.float32, copy=False)
        small = cv2.resize(small, self.content[::-1], interpolation=cv2.INTER_AREA)
        margins = [(0, n * self.scale - length) for n, length in zip(covered, self.content, strict=True)]
        small = np.pad(small, margins, mode="edge")
        small = cv2.resize(small, tuple(covered[::-1]), interpolation=cv2.INTER_AREA)
        result = np.zeros(shape, np.float32)
        result[: covered[0], : covered[1]] = small
        return result


def stability_scores(
    logits: Float[np.ndarray, "n h w"], inside: Bool[np.ndarray, "h w"], offset: float
) -> Float[np.ndarray, " n"]:
    """IoU of each mask at a raised and at a lowered threshold; 0 where the lowered one finds nothing.

    Args:
        logits: Cut at zero.
        inside: Which cells of the raster count.
        offset: By how much the threshold is moved either way.
    """
    strict, loose = (np.count_nonzero((logits > moved) & inside, axis=(1, 2)) for moved in (offset, -offset))
    return (strict / np.maximum(loose, 1)).astype(np.float32)
