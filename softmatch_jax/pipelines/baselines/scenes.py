"""What the baselines compare: the patches of references and target, on a grid no finer than theirs was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from softmatch_jax import matching
from softmatch_jax._types import Map
from softmatch_jax.models import PatchFeatures
from softmatch_jax.pipelines.config import DecisionConfig
from softmatch_jax.pipelines.match_step import cut_step, picture_moments
from softmatch_jax.pipelines.one_class import settings_of
from softmatch_jax.pipelines.proposing import patch_logits, probability_map
from softmatch_jax.pipelines.reference import Encoded, Reference
from softmatch_jax.pipelines.softmatcher import Softmatcher
from softmatch_jax.prompting import PatchGrid, pool_mask

MOST_PATCHES = 40
"""Patches along a side of the grid; the publications have 37. Assignment costs the cube of their number."""


@dataclass(frozen=True, eq=False)
class Scene:
    """References and a target, patch by patch, padding left out: ``N`` and ``T`` patches.

    Attributes:
        grid: Where the target's patches are.
        features: ``[T, d]``, the target's, of unit norm.
        similarity: ``[N, T]``, cosine of each patch of the references with each of the target.
        coverage: ``[N]``, the share of each patch that is on the object.
        shots: ``int [N]``, which reference each patch is from.
        area: Mean fraction of the pictures that the object covers on the references.
    """

    grid: PatchGrid
    features: Float[np.ndarray, "T d"]
    similarity: Float[np.ndarray, "N T"]
    coverage: Float[np.ndarray, " N"]
    shots: Int[np.ndarray, " N"]
    area: float

    @property
    def touched(self) -> Bool[np.ndarray, " N"]:
        """Patches of the references with any of the object on them, as Matcher counts them."""
        # Pooling rounds: a patch beside the object may be covered by a millionth.
        return self.coverage > 1e-5

    @property
    def filled(self) -> Bool[np.ndarray, " N"]:
        """Those of which the object covers one half; of an object too thin for it, the fullest."""
        filled: np.ndarray = self.coverage >= min(0.5, float(self.coverage.max()))
        return filled

    @property
    def centres(self) -> Float[np.ndarray, "T 2"]:
        """``(x, y)`` of the target's patches in its picture."""
        return self.grid.patch_centres()[self.grid.valid()]

    @property
    def likeness(self) -> Float[np.ndarray, " T"]:
        """Mean cosine to the object's patches: the cosine to their mean, times its length."""
        mean: np.ndarray = self.similarity[self.filled].mean(axis=0)
        return mean

    def prior(self, decision: DecisionConfig) -> Map:
        """The likeness as a probability, for generators that need one; cut as our pipeline does."""
        valid = self.grid.valid()
        full = np.zeros(valid.shape, np.float32)
        full[valid] = self.likeness
        usable = jnp.asarray(valid.ravel())
        found = jax.tree.map(lambda leaf: leaf[None], matching.match_map(jnp.asarray(full.ravel()), usable))
        area, factor = jnp.full(1, self.area, jnp.float32), jnp.float32(decision.size_factor)
        made, cut = jax.tree.map(lambda leaf: leaf[0], jax.device_get(cut_step(found, usable, area, factor)))
        return probability_map(patch_logits(made, cut, self.grid, sharpness=decision.sharpness), self.grid)


def prior_for(matcher: Softmatcher, scene: Scene) -> Map | None:
    """The likeness as a prior, where the mask generator needs one."""
    return None if matcher.masks.promptable else scene.prior(matcher.config.decision)


def baseline_settings(matcher: Softmatcher, own: Mapping[str, Any]) -> Mapping[str, Any]:
    """All that decides a baseline's results: its own settings, those of the pipeline, and the models."""
    return settings_of(matcher, {"patches": MOST_PATCHES, **own, "pipeline": asdict(matcher.config)})


def look(matcher: Softmatcher, references: Sequence[Reference], target: Encoded) -> Scene:
    """Compares references with a target, on whitened features where the pipeline's settings ask for it.

    Args:
        matcher: Its settings.
        references: One or more.
        target: The picture to search.
    """
    settings = matcher.config.matching
    sides = [coarsen(encoded.features) for encoded in (*(one.encoded for one in references), target)]
    flat = [side.flat()[jnp.asarray(side.valid.ravel())] for side in sides]
    if settings.whiten:
        statistics = [picture_moments(side.flat(), jnp.asarray(side.valid.ravel())) for side in sides]
        # As in our pipeline the references count as much as the target, however many they are.
        mean = jax.tree.map(lambda *parts: sum(parts) / len(parts), *statistics[:-1])
        both = jax.tree.map(jnp.add, mean, statistics[-1])
        transform = matching.whitening(both, shrinkage=settings.shrinkage)
        unit = [np.asarray(matching.whiten(transform, rows)) for rows in flat]
    else:
        unit = [np.asarray(matching.unit_norm(rows)) for rows in flat]
    shares = [
        pool_mask(one.mask, side.grid)[side.valid] for one, side in zip(references, sides[:-1], strict=True)
    ]
    return Scene(
        grid=sides[-1].grid,
        features=unit[-1],
        similarity=np.concatenate(unit[:-1]) @ unit[-1].T,
        coverage=np.concatenate(shares),
        shots=np.repeat(np.arange(len(shares)), [len(share) for share in shares]),
        area=float(np.mean([one.mask.mean() for one in references])),
    )


def coarsen(features: PatchFeatures, most: int = MOST_PATCHES) -> PatchFeatures:
    """Features of one picture averaged over square blocks, so that a side has ``most`` patches at most."""
    grid = features.grid
    factor = -(-max(grid.shape) // most)
    # Of a sliver of a picture some block must have its centre within.
    while factor > 1 and grid.offset + grid.stride * (factor - 1) / 2 >= min(grid.input_size):
        factor -= 1
    if factor == 1:
        return features
    shape = (-(-grid.shape[0] // factor), -(-grid.shape[1] // factor))
    margins = [(0, n * factor - length) for n, length in zip(shape, grid.shape, strict=True)]
    weight = np.pad(features.valid.astype(np.float32), margins)[..., None]
    values = np.pad(np.asarray(features.values[0]), [*margins, (0, 0)]) * weight
    blocks = [
        part.reshape(shape[0], factor, shape[1], factor, -1).sum(axis=(1, 3)) for part in (values, weight)
    ]
    coarse = replace(
        grid,
        stride=grid.stride * factor,
        offset=grid.offset + grid.stride * (factor - 1) / 2,
        shape=shape,
    )
    return PatchFeatures(jnp.asarray(blocks[0] / np.maximum(blocks[1], 1))[None], coarse.valid(), coarse)
