"""From one class's match map to points, prompts, proposals and a mask (Softmatcher Fig. 1, steps 2-3)."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float, Int32

from softmatch_jax._types import Map
from softmatch_jax.matching import Cut, MatchMap
from softmatch_jax.models import MaskGenerator, Proposals
from softmatch_jax.pipelines.clock import Clock
from softmatch_jax.pipelines.config import SoftmatcherConfig
from softmatch_jax.pipelines.match_step import sample_step
from softmatch_jax.pipelines.merging import Merged, merge
from softmatch_jax.pipelines.reference import Encoded
from softmatch_jax.prompting import (
    PatchGrid,
    prompts_from_clusters,
    prompts_from_points,
    unpool_map,
)


@dataclass(frozen=True, eq=False)
class Draft:
    """What one class's match map led to, before it is checked and before classes compete.

    Attributes:
        logits: ``float32 [h, w]``, of the match map, for every patch.
        probability: ``float32 [H, W]``, the match map.
        points: ``float32 [n, 2]``, ``(x, y)``.
        clusters: ``int32 [n]``, the prompt that each point went into.
        proposals: All decoded masks.
        merged: What stayed of them.
    """

    logits: Float[np.ndarray, "h w"]
    probability: Map
    points: Float[np.ndarray, "n 2"]
    clusters: Int32[np.ndarray, " n"]
    proposals: Proposals
    merged: Merged


def patch_logits(found: MatchMap, cut: Cut, grid: PatchGrid, *, sharpness: float) -> Float[np.ndarray, "h w"]:
    """Scores about the cut, ``sharpness`` per standard deviation; 0 is on the cut."""
    score = np.where(np.isfinite(found.score), found.score, 0).reshape(grid.shape)
    scale = sharpness / max(float(cut.deviation), 1e-6)
    logits: np.ndarray = ((score - float(cut.threshold)) * scale).astype(np.float32)
    return logits


def probability_map(logits: Float[np.ndarray, "h w"], grid: PatchGrid) -> Map:
    """Probability that each pixel is on the object: the logistic of the interpolated :func:`patch_logits`.

    Logits are interpolated, not probabilities, so that the contour of one half does not depend on the slope.
    """
    values = unpool_map(logits, grid)
    # exp overflows float32 past 88; a probability within 1e-13 of its limit needs no more.
    np.clip(values, -30, 30, out=values)
    # In place: new arrays of a picture's size cost as much as the arithmetic.
    np.exp(np.negative(values, out=values), out=values)
    values += 1
    return np.divide(1, values, out=values)


def propose(
    encoded: Encoded,
    found: MatchMap,
    cut: Cut,
    generator: MaskGenerator,
    *,
    config: SoftmatcherConfig,
    key: jax.Array,
    clock: Clock,
) -> Draft:
    """Samples points from a match map, groups them, decodes a proposal per group and merges.

    Args:
        encoded: The target.
        found: Match map of one class, ``[T]``.
        cut: Where its scores are cut.
        generator: Decodes the prompts.
        config: Settings.
        key: Random key.
        clock: Books the time of the stages.
    """
    grid = encoded.features.grid
    logits = patch_logits(found, cut, grid, sharpness=config.decision.sharpness)
    probability = probability_map(logits, grid)
    above = encoded.features.valid.ravel() & (found.score > cut.threshold)
    centres = grid.patch_centres().reshape(-1, 2)
    points, clusters = jax.device_get(
        sample_step(found, above, centres, key, shape=grid.shape, config=config.prompting)
    )
    xy = centres[points.indices]
    if config.prompting.prompts == "clusters":
        prompts = prompts_from_clusters(xy, clusters)
        # Clusters that lost all their points make no prompt.
        numbers = (np.cumsum(clusters.valid) - 1)[clusters.assignment[points.valid]]
    else:
        prompts = prompts_from_points(xy[points.valid])
        numbers = np.arange(len(prompts))
    clock.lap("sample")
    if prompts:
        proposals = generator.decode(encoded.embedding, prompts, prior=probability)
    else:  # a blank picture: nothing stands out, so there is nothing to ask for
        proposals = Proposals.empty(encoded.image_size)
    clock.lap("decode")
    merged = merge(proposals, prompts, probability, config.decision)
    clock.lap("merge")
    return Draft(logits, probability, xy[points.valid], numbers.astype(np.int32), proposals, merged)
