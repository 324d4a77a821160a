"""Where the object is more likely than its surroundings, without a threshold (GF-SAM, arXiv 2410.06964)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from softmatch_jax.pipelines.baselines.scenes import Scene


@dataclass(frozen=True, eq=False)
class Contrast:
    """Maps over the target's patches.

    Attributes:
        hot: ``[T]`` in ``[0, 1]``, mean times highest similarity to the object, both scaled to the picture;
            0 where the surroundings are the likelier.
        gain: ``[T]``, what a mask wins by a patch: likeness to the object squared, less that to the
            surroundings.
    """

    hot: Float[np.ndarray, " T"]
    gain: Float[np.ndarray, " T"]


def contrast(scene: Scene) -> Contrast:
    """The maps of a scene; those of several references are averaged."""
    mean, highest = _similarities(scene, scene.coverage)
    rest, _ = _similarities(scene, 1 - scene.coverage)
    both = _scaled(mean * highest)
    hot = np.where(_scaled(rest) > both, 0, both)
    # Below zero nothing is like the object, though the square says so; learned features are hardly there.
    likeness = np.maximum(mean, 0)
    halfway = (mean.max() + mean.min()) / 2
    gain = np.where(mean > 0, likeness**2 - rest * halfway, -np.abs(rest * halfway))
    return Contrast(hot, gain)


def hottest(hot: Float[np.ndarray, " T"], most: int) -> Int[np.ndarray, " p"]:
    """As many of the hottest patches as the map adds up to, in their order; one where it is not all zero."""
    total = float(hot.sum())
    count = min(max(int(total), 1), most) if total > 0 else 0
    return np.sort(np.argsort(-hot, kind="stable")[:count])


def _similarities(
    scene: Scene, weights: Float[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """Weighted mean and highest weighted similarity to each reference's patches, averaged over references."""
    means, highest = [], []
    for shot in np.unique(scene.shots):
        own = scene.shots == shot
        weighted = scene.similarity[own] * weights[own, None]
        means.append(weighted.sum(axis=0) / max(float(weights[own].sum()), 1e-6))
        highest.append(weighted.max(axis=0))
    return np.mean(means, axis=0), np.mean(highest, axis=0)


def _scaled(values: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """Brought to ``[0, 1]``."""
    return (values - values.min()) / max(float(np.ptp(values)), 1e-6)
