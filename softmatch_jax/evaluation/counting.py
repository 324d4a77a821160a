"""How many pixels of a picture were found, missed, invented and rightly left alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from softmatch_jax._checks import InputError, check_mask
from softmatch_jax._types import Mask


class Counts(NamedTuple):
    """Numbers of pixels, void left out; those of several pictures add up with ``+``.

    Attributes:
        tp: Object, and found.
        fp: Background, but found.
        fn: Object, but missed.
        tn: Background, and left alone.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: object) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def iou(self) -> float:
        """Intersection over union of the object; 1 when there is none and none was found.

        The published code has 0 there. Its pooled scores are in :mod:`softmatch_jax.evaluation.pooling`.
        """
        return self.tp / union if (union := self.tp + self.fp + self.fn) else 1.0

    @property
    def background_iou(self) -> float:
        """Intersection over union of the background; 1 when there is none and none was left."""
        return self.tn / union if (union := self.tn + self.fp + self.fn) else 1.0


def count(found: Mask, truth: Mask, void: Mask | None = None) -> Counts:
    """Compares two ``bool [H, W]`` masks pixel by pixel, without those in ``void``.

    Raises:
        InputError: The masks differ in size, are not bool, or ``truth`` and ``void`` overlap.
    """
    check_masks(found, truth, void)
    valid = truth.size
    if void is not None:
        found, valid = found & ~void, valid - int(np.count_nonzero(void))
    tp = int(np.count_nonzero(found & truth))
    fp, fn = int(np.count_nonzero(found)) - tp, int(np.count_nonzero(truth)) - tp
    return Counts(tp, fp, fn, valid - tp - fp - fn)


def check_masks(found: Mask, truth: Mask, void: Mask | None) -> None:
    """Raises ``InputError`` unless the masks are bool, of one size, and the truth is outside ``void``."""
    check_mask("truth", truth)
    check_mask("found", found, truth.shape)
    if void is not None:
        check_mask("void", void, truth.shape)
        if both := np.count_nonzero(truth & void):
            raise InputError(
                f"truth and void share {both} pixels; expected none (clear the void pixels of the truth)."
            )
