"""How well proposals agree with the match map, and which of them stay (Softmatcher §3, step 3)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from softmatch_jax.models import Proposals
from softmatch_jax.pipelines.config import DecisionConfig


class MapScores(NamedTuple):
    r"""Agreement of masks with the match map, ``n`` masks; areas are counted on the generator's raster.

    With :math:`p` the map's probability and :math:`s = [p > 1/2]` what it sees of the object:

    Attributes:
        coverage: ``[n]``, :math:`|m \cap s| / |s|`, the part of the seen that the mask holds.
        purity: ``[n]``, :math:`|m \cap s| / |m|`, the part of the mask that is seen.
        evidence: ``[n]``, mean of :math:`p` over the mask.
    """

    coverage: Float[np.ndarray, " n"]
    purity: Float[np.ndarray, " n"]
    evidence: Float[np.ndarray, " n"]

    @property
    def agreement(self) -> Float[np.ndarray, " n"]:
        r""":math:`(|m \cap s| - |m \setminus s|) / |s|`: what a mask holds of the seen, less what it adds.

        One for the seen itself; negative where most of the mask is not seen. Unlike purity it favours the
        whole over its part.
        """
        return np.where(self.purity > 0, self.coverage * (2 - 1 / np.maximum(self.purity, 1e-6)), -1.0)


def map_scores(masks: Bool[np.ndarray, "n h w"], probability: Float[np.ndarray, "h w"]) -> MapScores:
    """Measures masks against a map on the same raster; empty masks score zero."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    seen = (probability > 0.5).ravel().astype(np.float32)
    area = flat.sum(axis=1)
    inside, weight = flat @ seen, flat @ probability.ravel().astype(np.float32)
    some = np.maximum(area, 1)
    return MapScores(inside / max(float(seen.sum()), 1.0), inside / some, weight / some)


def best_of_each_prompt(proposals: Proposals, scores: MapScores) -> Int[np.ndarray, " k"]:
    """The mask of each prompt that agrees best with the map, weighed by the model's own estimate.

    An ambiguous prompt is answered by a whole, a part and a subpart; the map says which was meant.
    """
    agreement = scores.agreement
    worth = np.where(agreement > 0, agreement * np.maximum(proposals.scores, 1e-3), agreement)
    order = np.lexsort((-worth, proposals.prompts))
    first = np.ones(len(order), bool)
    first[1:] = np.diff(proposals.prompts[order]) != 0
    return order[first]


def discarded(
    proposals: Proposals, scores: MapScores, decision: DecisionConfig, *, by_map: bool = True
) -> dict[str, Bool[np.ndarray, " n"]]:
    """For each bar of the settings, which proposals are below it.

    Args:
        proposals: The proposals.
        scores: Their agreement with the map.
        decision: The bars.
        by_map: Whether to judge each by the map; not where groups of them will be.
    """
    values = {"min_score": proposals.scores, "min_stability": proposals.stability}
    if by_map:
        values |= bars_of_map(scores)
    return {name: value < getattr(decision, name) for name, value in values.items()}


def bars_of_map(scores: MapScores) -> dict[str, Float[np.ndarray, " n"]]:
    """The agreement with the map, by the name of the setting it is held against."""
    return {
        "min_purity": scores.purity,
        "min_coverage": scores.coverage,
        "min_evidence": scores.evidence,
    }


def confidence_raster(proposals: Proposals, worth: Float[np.ndarray, " n"]) -> Float[np.ndarray, "h w"]:
    r"""How sure it is of each pixel: :math:`\max_k w_k\, \sigma(\text{logit}_k)` over the proposals.

    Args:
        proposals: Those that were kept.
        worth: ``[n]`` in ``[0, 1]``, how far each is trusted.
    """
    logits = np.clip(proposals.logits - proposals.threshold, -30, 30)
    return np.max(np.clip(worth, 0, 1)[:, None, None] / (1 + np.exp(-logits)), axis=0)
