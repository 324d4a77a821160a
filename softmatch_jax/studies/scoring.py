"""Pixels of decoded masks against the truth, and the published metrics of them under weights of the episodes.

``miou`` is the figure of the papers' tables: over all episodes of a class the sum of intersections over the
sum of unions, and of these the mean over the classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from softmatch_jax._types import Mask
from softmatch_jax.studies.resampling import weighted_mean


def count_pixels(masks: Bool[np.ndarray, "K H W"], truth: Mask, void: Mask | None) -> Int[np.ndarray, "K 4"]:
    """Pixels that are object and found, background but found, object but missed, background and left alone.

    Args:
        masks: Found, several for one picture.
        truth: The object.
        void: Pixels that do not count.
    """
    counted = np.ones_like(truth) if void is None else ~void
    kinds = [(m & t & counted).sum(axis=(1, 2)) for t in (truth, ~truth) for m in (masks, ~masks)]
    tp, fn, fp, tn = kinds
    return np.stack([tp, fp, fn, tn], axis=1).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Scores:
    """Pixels of every episode, decoded in several ways or with several draws.

    Attributes:
        counts: ``[E, K, 4]``, see :func:`count_pixels`.
        classes: Class of each episode.
    """

    counts: Int[np.ndarray, "E K 4"]
    classes: tuple[str, ...]

    def only(self, chosen: slice) -> Scores:
        """Some of the ``K`` decodings."""
        return Scores(self.counts[:, chosen], self.classes)

    @property
    def iou(self) -> Float[np.ndarray, " E"]:
        """Intersection over union of each episode, a mean over the decodings; 1 where both are empty."""
        tp, union = self.counts[..., 0], self.counts[..., :3].sum(axis=-1)
        return np.where(union > 0, tp / np.maximum(union, 1), 1.0).mean(axis=1)

    def miou(self, weights: Float[np.ndarray, "R E"]) -> Float[np.ndarray, " R"]:
        """The metric of the papers, a mean over the decodings; a class of empty unions has 0, as there."""
        per_class, present = [], []
        names = np.array(self.classes)
        for name in np.unique(names):
            members = names == name
            sums = _sums(weights[:, members], self.counts[members])
            per_class.append(_ratio(sums[..., 0], sums[..., :3].sum(axis=-1)).mean(axis=1))
            present.append(weights[:, members].sum(axis=1) > 0)
        there = np.stack(present, axis=1)
        return np.sum(np.stack(per_class, axis=1) * there, axis=1) / there.sum(axis=1)

    def mean_iou(self, weights: Float[np.ndarray, "R E"]) -> Float[np.ndarray, " R"]:
        """Mean over the episodes of the IoU of each."""
        return weighted_mean(weights, self.iou)

    def fb_iou(self, weights: Float[np.ndarray, "R E"]) -> Float[np.ndarray, " R"]:
        """Mean of the IoU of object and background, each of sums over all episodes."""
        tp, fp, fn, tn = np.moveaxis(_sums(weights, self.counts), -1, 0)
        return (_ratio(tp, tp + fp + fn) + _ratio(tn, tn + fp + fn)).mean(axis=1) / 2

    def part(
        self, weights: Float[np.ndarray, "R E"], kind: int, whole: tuple[int, ...]
    ) -> Float[np.ndarray, " R"]:
        """Pixels of a kind out of those of several, of sums over all episodes; NaN where there are none."""
        sums = _sums(weights, self.counts)
        return _ratio(sums[..., kind], sums[..., list(whole)].sum(axis=-1), empty=np.nan).mean(axis=1)


def _sums(weights: np.ndarray, counts: np.ndarray) -> Float[np.ndarray, "R K 4"]:
    episodes, decodings, kinds = counts.shape
    flat = weights @ counts.reshape(episodes, decodings * kinds)
    return flat.reshape(len(weights), decodings, kinds)


def _ratio(part: np.ndarray, whole: np.ndarray, *, empty: float = 0.0) -> np.ndarray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), empty)
