"""Matcher (Liu et al., ICLR 2024, arXiv 2305.13310) in its settings for FSS-1000."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from softmatch_jax._checks import InputError
from softmatch_jax._types import Image
from softmatch_jax.models import Proposals
from softmatch_jax.pipelines.baselines.correspondence import centres_of, match_patches, subsets, trim
from softmatch_jax.pipelines.baselines.rasters import holds, patch_shares, union
from softmatch_jax.pipelines.baselines.scenes import Scene, baseline_settings, look, prior_for
from softmatch_jax.pipelines.one_class import Encodings, Found
from softmatch_jax.pipelines.softmatcher import Softmatcher
from softmatch_jax.prompting import Annotation, Prompt


@dataclass(frozen=True, kw_only=True)
class MatcherConfig:
    """Settings of Matcher; the defaults are those published for FSS-1000.

    Attributes:
        keep: Of more matches than this the better half is kept.
        centres: Most points that prompts are made of, at most 8: all their subsets are asked for.
        sizes: Fewest and most points of a prompt.
        alpha: Weight of the transport in a mask's score.
        beta: Weight of purity and coverage.
        exponent: Power of the coverage.
        merged: Most masks that are united.
        merged_of_more: The same with more than one reference.
        least: Share of the best score below which a mask is not united with the others.
        samples: Patches that stand for each side of the transport.
    """

    keep: int = 40
    centres: int = 8
    sizes: tuple[int, int] = (4, 6)
    alpha: float = 0.8
    beta: float = 0.2
    exponent: float = 1.0
    merged: int = 10
    merged_of_more: int = 5
    least: float = 0.7
    samples: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.centres <= 8 or not 1 <= self.sizes[0] <= self.sizes[1]:
            raise InputError(
                f"MatcherConfig has centres={self.centres} and sizes={self.sizes}; expected 1 to 8 centres, "
                "and sizes from 1 in ascending order."
            )
        if min(self.keep, self.merged, self.merged_of_more, self.samples) < 1 or not 0 <= self.least < 1:
            raise InputError(f"{self} is out of range; expected counts of at least 1 and least in [0, 1).")


class MaskScores(NamedTuple):
    """How well masks fit the matches; areas are in patches.

    Attributes:
        transport: ``[n]``, one less the cost of moving the object's patches onto the mask's.
        purity: ``[n]``, matched points in the mask over its area.
        coverage: ``[n]``, matched points in the mask over all of them.
    """

    transport: Float[np.ndarray, " n"]
    purity: Float[np.ndarray, " n"]
    coverage: Float[np.ndarray, " n"]

    def total(self, config: MatcherConfig) -> Float[np.ndarray, " n"]:
        r""":math:`\alpha\,t + \beta\,p\,c^e`."""
        return config.alpha * self.transport + config.beta * self.purity * self.coverage**config.exponent


def transport_cost(cost: Float[np.ndarray, "n m"], samples: int) -> float:
    """The earth mover's distance of two uniform sets of patches, by assignment of equally many of each.

    Both are sampled evenly in their order, to as many patches as are a multiple of either number, which is
    exact, or to ``samples`` if that is fewer: with 256 it was 0.002 too high in the mean and 0.009 at most on
    photographs, where the distance ranged from 0.14 to 0.51.

    Args:
        cost: ``[n, m]``, of moving one onto another.
        samples: Most patches of either side.
    """
    count = min(samples, math.lcm(*cost.shape))
    rows, columns = (((np.arange(count) + 0.5) / count * length).astype(int) for length in cost.shape)
    thinned = cost[np.ix_(rows, columns)]
    return float(thinned[linear_sum_assignment(thinned)].mean())


def score_masks(
    cost: Float[np.ndarray, "R T"],
    inside: Bool[np.ndarray, "n T"],
    held: Bool[np.ndarray, "n m"],
    samples: int,
) -> MaskScores:
    """Scores masks by what they hold.

    Args:
        cost: ``[R, T]``, of moving a patch of the object onto one of the target.
        inside: Patches that each mask touches, at least one.
        held: Matched points that each mask holds.
        samples: See :func:`transport_cost`.
    """
    points = held.sum(axis=1)
    # Many prompts have one answer, and transport is what takes the time.
    distinct, which = np.unique(inside, axis=0, return_inverse=True)
    transport = np.array([1 - transport_cost(cost[:, own], samples) for own in distinct])[which.ravel()]
    return MaskScores(transport, points / np.maximum(inside.sum(axis=1), 1), points / held.shape[1])


def best_masks(scores: Float[np.ndarray, " n"], most: int, least: float) -> Int[np.ndarray, " k"]:
    """The best masks, at most ``most``, of which each has more than ``least`` of the best score."""
    order = np.argsort(-scores, kind="stable")[:most]
    chosen: np.ndarray = order[scores[order] > least * scores[order[0]]]
    return chosen


@dataclass(frozen=True, eq=False)
class Matcher:
    """Matcher, as an :class:`~softmatch_jax.pipelines.one_class.OneClass`.

    Object patches are assigned to target patches and back; the matches that return to the object are
    grouped about 8 centres, of which all subsets of 4 to 6 are prompts (154). Masks are scored by transport,
    purity and coverage, and the best are united.

    What differs from the publication: features are those of the extractor as it is set (the published ones
    are DINOv2's before its last normalisation); pictures keep their aspect and grids finer than the published
    37 patches are averaged to at most 40 a side; masks that touch no patch are dropped; the transport is
    exact for sets whose least common multiple is at most ``samples``, and of so many samples of either side
    otherwise; points are not rounded to whole pixels. Generators that take no points alone (GrabCut) also get
    the likeness to the object's mean as a prior, and give one mask for all prompts on one piece.

    Attributes:
        matcher: Holds the models, and the settings of completion and whitening.
        config: Settings.
        encodings: Remembers pictures.
    """

    matcher: Softmatcher
    config: MatcherConfig = field(default_factory=MatcherConfig)
    encodings: Encodings = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "encodings", Encodings(self.matcher))

    @property
    def name(self) -> str:
        """The method."""
        return "matcher"

    @property
    def settings(self) -> Mapping[str, Any]:
        """Models and all settings."""
        return baseline_settings(self.matcher, asdict(self.config))

    def __call__(
        self, target: Image, references: Sequence[tuple[Image, Annotation]], *, key: jax.Array
    ) -> Found:
        """See :class:`~softmatch_jax.pipelines.one_class.OneClass`."""
        config = self.config
        encoded = self.encodings.encode(target)
        scene = look(self.matcher, self.encodings.references(references, self.matcher.reference), encoded)
        matches = trim(match_patches(scene.similarity, scene.touched), config.keep)
        points = scene.centres[matches.places]
        centres = centres_of(points, config.centres, key=key)
        prompts = [
            Prompt(centres[list(subset)], np.ones(len(subset), bool))
            for subset in subsets(len(centres), config.sizes)
        ]
        generator = self.matcher.masks
        prior = prior_for(self.matcher, scene)
        proposals = generator.decode(encoded.embedding, prompts, prior=prior)
        inside = patch_shares(proposals, scene.grid) > 1e-6
        some = np.flatnonzero(inside.any(axis=1))
        if not len(some):
            return Found(np.zeros(encoded.image_size, bool), True, "no prompt was answered by a mask")
        chosen = self._chosen(scene, proposals[some], inside[some], points, len(references))
        mask = union(proposals[some], chosen)
        return Found(mask, not mask.any(), None if mask.any() else "the best masks are empty")

    def _chosen(
        self, scene: Scene, proposals: Proposals, inside: np.ndarray, points: np.ndarray, shots: int
    ) -> Int[np.ndarray, " k"]:
        """The masks that are united."""
        config = self.config
        cost = (1 - scene.similarity[scene.touched]) / 2
        scores = score_masks(cost, inside, holds(proposals, points), config.samples).total(config)
        return best_masks(scores, config.merged if shots == 1 else config.merged_of_more, config.least)
