"""GF-SAM (Zhang et al., NeurIPS 2024, arXiv 2410.06964): no thresholds but those of the maps themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from softmatch_jax._checks import InputError
from softmatch_jax._types import Image
from softmatch_jax.models import Proposals
from softmatch_jax.pipelines.baselines.contrast import Contrast, contrast, hottest
from softmatch_jax.pipelines.baselines.gating import consistent, grow
from softmatch_jax.pipelines.baselines.rasters import patch_shares, union
from softmatch_jax.pipelines.baselines.scenes import Scene, baseline_settings, look, prior_for
from softmatch_jax.pipelines.grouping import group_by_graph
from softmatch_jax.pipelines.one_class import Encodings, Found
from softmatch_jax.pipelines.scoring import best_of_each_prompt, map_scores
from softmatch_jax.pipelines.softmatcher import Softmatcher
from softmatch_jax.prompting import Annotation, Prompt, prompts_from_points, unpool_map


@dataclass(frozen=True, kw_only=True)
class GfSamConfig:
    """Settings of GF-SAM, which has but one.

    Attributes:
        points: Most points.
    """

    points: int = 128

    def __post_init__(self) -> None:
        if self.points < 1:
            raise InputError(f"GfSamConfig.points is {self.points}; expected at least 1.")


@dataclass(frozen=True, eq=False)
class GfSam:
    """GF-SAM, as an :class:`~softmatch_jax.pipelines.one_class.OneClass`.

    The similarity to the object, less where the surroundings are likelier, says how many points there are
    and where; each is decoded on its own. Masks and the points in them make a graph, whose weakly connected
    parts are groups. In each a mask stays if what it adds is more object than not and its point looks most
    like its own group; what stays is united. If nothing does, the mask that adds most is taken.

    What differs from the publication: pictures keep their aspect, and grids finer than the published 37
    patches are averaged to at most 40 a side; a patch unlike the object (mean cosine below 0) never counts as
    object, where the published square may make it one; references are weighed by the share of each patch that
    is object; a generator that answers a point with several masks (our SAM gives three, where the publication
    asks for its single one) has the one taken that agrees best with the map; and if nothing stays each mask
    counts by its own gain, not by that of the last one of its group. Generators that take no points alone
    (GrabCut) also get the likeness to the object's mean as a prior, and give one mask for all points on one
    piece.

    Attributes:
        matcher: Holds the models, and the settings of completion and whitening.
        config: Settings.
        encodings: Remembers pictures.
    """

    matcher: Softmatcher
    config: GfSamConfig = field(default_factory=GfSamConfig)
    encodings: Encodings = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "encodings", Encodings(self.matcher))

    @property
    def name(self) -> str:
        """The method."""
        return "gf-sam"

    @property
    def settings(self) -> Mapping[str, Any]:
        """Models and all settings."""
        return baseline_settings(self.matcher, asdict(self.config))

    def __call__(
        self, target: Image, references: Sequence[tuple[Image, Annotation]], *, key: jax.Array
    ) -> Found:
        """See :class:`~softmatch_jax.pipelines.one_class.OneClass`; nothing is drawn by the key."""
        encoded = self.encodings.encode(target)
        scene = look(self.matcher, self.encodings.references(references, self.matcher.reference), encoded)
        maps = contrast(scene)
        places = hottest(maps.hot, self.config.points)
        nothing = np.zeros(encoded.image_size, bool)
        if not len(places):
            return Found(nothing, True, "no part of the target is more like the object than its surroundings")
        prompts = prompts_from_points(scene.centres[places])
        generator = self.matcher.masks
        prior = prior_for(self.matcher, scene)
        proposals = _one_each(generator.decode(encoded.embedding, prompts, prior=prior), scene, maps)
        if not len(proposals):
            return Found(nothing, True, "no point was answered by a mask")
        mask = union(proposals, _chosen(proposals, prompts, places, scene, maps))
        return Found(mask, not mask.any(), None if mask.any() else "the masks that stayed are empty")


def _one_each(proposals: Proposals, scene: Scene, maps: Contrast) -> Proposals:
    """One mask for each point that was answered, of several the one that agrees best with the map."""
    proposals = proposals[np.flatnonzero(proposals.small_masks.any(axis=(1, 2)))]
    if len(np.unique(proposals.prompts)) == len(proposals):
        return proposals
    full = np.zeros(scene.grid.shape, np.float32)
    full[scene.grid.valid()] = maps.gain > 0
    scores = map_scores(proposals.small_masks, proposals.reduce(unpool_map(full, scene.grid)))
    return proposals[best_of_each_prompt(proposals, scores)]


def _chosen(
    proposals: Proposals, prompts: Sequence[Prompt], places: np.ndarray, scene: Scene, maps: Contrast
) -> Int[np.ndarray, " k"]:
    """The masks that are united."""
    groups = group_by_graph(proposals, proposals.small_masks, prompts)
    shares = patch_shares(proposals, scene.grid)
    stays, added = grow(shares, maps.gain, groups)
    cells = np.argwhere(scene.grid.valid())
    own = consistent(shares, places[proposals.prompts], groups, scene.features, cells)
    if (stays & own).any():
        return np.flatnonzero(stays & own)
    # Those that passed one test of the two come before those that passed none.
    candidates = stays | own if (stays | own).any() else np.ones(len(stays), bool)
    return np.array([np.argmax(np.where(candidates, added, -np.inf))])
