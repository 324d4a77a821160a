"""A trained prompt encoder at work: an annotated reference and a target become prompts, and prompts masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from softmatch_jax._checks import InputError, check_mask, check_shape
from softmatch_jax._types import Image, Mask
from softmatch_jax.models.prosam.config import DistributionConfig, PromptEncoderConfig, ToGrid
from softmatch_jax.models.prosam.distribution import PromptDistribution
from softmatch_jax.models.prosam.encoder import PromptEncoder
from softmatch_jax.models.prosam.frozen_sam import EncodedScene, FrozenSam, Scene
from softmatch_jax.models.prosam.pseudo_mask import pseudo_mask
from softmatch_jax.models.protocols import FeatureExtractor
from softmatch_jax.models.sam.static_graph import split
from softmatch_jax.prompting import PatchGrid, pool_mask


@runtime_checkable
class Deepens(Protocol):
    """A feature extractor whose likeness is measured with features that lie deeper than its own."""

    def deepen(self, values: Float[Array, "h w c"], mask: Float[Array, "h w"] | None) -> Array:
        """High-level features ``[h, w, d]``, on the same grid.

        Args:
            values: What the extractor returned for one picture.
            mask: Of a reference: the features are masked before they go deeper. ``None`` for a target.
        """


@dataclass(frozen=True, eq=False)
class PictureFeatures:
    """Features of one picture.

    Attributes:
        values: ``float32 [h, w, c]``.
        valid: ``bool [h, w]``, false in the padding.
        grid: Where the cells lie in the picture.
    """

    values: Float[Array, "h w c"]
    valid: Bool[np.ndarray, "h w"]
    grid: PatchGrid


@dataclass(frozen=True, eq=False)
class PromptReference:
    """An annotated reference as the encoder takes it.

    Attributes:
        features: Of the picture.
        mask: ``float32 [h, w]``, the annotation on the grid of the features.
        deep: ``float32 [h, w, d]``, high-level features under the mask.
    """

    features: PictureFeatures
    mask: Float[np.ndarray, "h w"]
    deep: Float[Array, "h w d"]


def mask_to_grid(mask: Mask, grid: PatchGrid, mode: ToGrid) -> Float[np.ndarray, "h w"]:
    """Brings an annotation to the grid of features.

    Args:
        mask: ``bool [H, W]``, the annotated pixels.
        grid: Of the features.
        mode: ``nearest`` looks at the first pixel of each cell, as VRP-SAM's code does by way of torch's
            ``nearest``; ``area`` is the annotated share of the cell; ``any`` is 1 where that is above 0.

    Returns:
        Values in 0..1; 0 in the padding.

    Raises:
        InputError: ``mask`` is not ``bool`` of the grid's picture, or there is no such mode.
    """
    check_mask("mask", mask, grid.image_size)
    if mode == "area":
        return pool_mask(mask, grid)
    if mode == "any":
        return (pool_mask(mask, grid) > 0).astype(np.float32)
    if mode != "nearest":
        raise InputError(f"mode is {mode!r}; expected 'nearest', 'area' or 'any'.")
    places = []
    for axis in (0, 1):
        # The corner of the cell: offset is its centre. First to the input's pixels, then to the picture's.
        corners = np.floor(grid.offset + grid.stride * (np.arange(grid.shape[axis]) - 0.5)).astype(np.int64)
        length = grid.image_size[axis]
        pixels = corners * length // grid.input_size[axis]
        places.append(np.clip(pixels, 0, length - 1))
    cells = mask[np.ix_(*places)].astype(np.float32)
    valid: Float[np.ndarray, "h w"] = cells * grid.valid()
    return valid


class Predictor:
    """Feature extractor, prompt encoder and frozen SAM put together. Holds no state; threads may share one.

    Attributes:
        features: What the encoder sees pictures with.
        sam: What the prompts are for.
        config: Sizes and choices of the encoder.
        distribution: What its prompts are drawn from.
    """

    def __init__(
        self,
        features: FeatureExtractor,
        sam: FrozenSam,
        encoder: PromptEncoder,
        distribution: DistributionConfig | None = None,
    ) -> None:
        """Puts a predictor together.

        Args:
            features: A frozen extractor.
            sam: A frozen SAM.
            encoder: The trained encoder.
            distribution: What it was trained with; the paper's when ``None``, and none for a VRP-SAM.

        Raises:
            InputError: The encoder is for features or prompts of another dimension.
        """
        self.features, self.sam, self.config = features, sam, encoder.config
        self.distribution = distribution or encoder.config.usual_distribution
        check_fit(encoder.config, features, sam)
        self._graph, self._state = split(encoder)

    def see(self, image: Image) -> PictureFeatures:
        """Features of one picture, computed once for any number of pairs.

        Raises:
            InputError: ``image`` is not ``uint8 [H, W, 3]``.
        """
        return see(self.features, image)

    def reference(self, features: PictureFeatures, mask: Mask) -> PromptReference:
        """A reference, computed once for any number of targets.

        Args:
            features: From :meth:`see`.
            mask: ``bool [H, W]``, the annotated pixels of the picture.

        Raises:
            InputError: The mask has another size.
        """
        cells = mask_to_grid(mask, features.grid, self.config.to_grid)
        return PromptReference(features, cells, deepen(self.features, features.values, cells))

    def pseudo(self, reference: PromptReference, target: PictureFeatures) -> Float[Array, "h w"]:
        """Where the target looks like the annotated part of the reference; see :func:`pseudo_mask`."""
        deep = deepen(self.features, target.values, None)
        return pseudo(
            reference.deep, reference.mask, deep, jnp.asarray(target.valid), likeness=self.config.likeness
        )

    def prompts(
        self,
        reference: PromptReference,
        target: PictureFeatures,
        pseudo: Float[Array, "h w"] | None = None,
    ) -> PromptDistribution:
        """The distribution of the prompts of one reference for a target, ``[prompts, dim]``.

        Args:
            reference: From :meth:`reference`.
            target: From :meth:`see`.
            pseudo: From :meth:`pseudo` of the two; computed here when ``None``.
        """
        predicted: PromptDistribution = _predict(
            self._graph,
            self._state,
            reference.features.values,
            jnp.asarray(reference.mask),
            target.values,
            self.pseudo(reference, target) if pseudo is None else pseudo,
            jnp.asarray(reference.features.valid),
            jnp.asarray(target.valid),
        )
        return predicted

    def decode(
        self, scene: EncodedScene, prompts: Float[Array, "K n dim"], *, chunk: int = 1
    ) -> Float[Array, "K side side"]:
        """Logits of the masks of several sets of prompts.

        Args:
            scene: The target, from ``sam.encode``.
            prompts: ``K`` sets, each of the embeddings of one reference or of several in a row.
            chunk: Sets that are decoded at a time, which bounds the memory.

        Raises:
            InputError: There is no set, the prompts are of another dimension, or ``chunk`` is below 1.
        """
        check_shape("prompts", prompts, (None, None, self.sam.dim), "sets, prompts, the SAM's channels")
        if chunk < 1 or not len(prompts):
            raise InputError(
                f"chunk is {chunk} for {len(prompts)} sets of prompts; expected at least 1 each."
            )
        return _decode(self.sam, self.sam.weights, scene.scene, prompts, chunk=chunk)


def see(extractor: FeatureExtractor, image: Image) -> PictureFeatures:
    """Features of one picture."""
    made = extractor(image[None])
    return PictureFeatures(made.values[0], np.asarray(made.valid), made.grid)


def deepen(extractor: FeatureExtractor, values: Array, mask: Any | None) -> Array:
    """The features that likeness is measured with: the extractor's own where it has no deeper ones."""
    return extractor.deepen(values, mask) if isinstance(extractor, Deepens) else values


def check_fit(config: PromptEncoderConfig, features: FeatureExtractor, sam: FrozenSam) -> None:
    """Raises ``InputError`` unless an encoder's sizes are those of its features and of its SAM."""
    if config.channels != features.dim:
        raise InputError(
            f"The prompt encoder takes features of {config.channels} channels, but {features.name} has "
            f"{features.dim}; expected the features it was trained on."
        )
    if config.dim != sam.dim:
        raise InputError(
            f"The prompt encoder makes prompts of {config.dim} numbers, but {sam.name} takes {sam.dim}; "
            "expected the SAM it was trained with."
        )


@partial(jax.jit, static_argnames="likeness")
def pseudo(reference: Array, mask: Array, target: Array, valid: Array, *, likeness: Any) -> Array:
    """:func:`pseudo_mask`, compiled."""
    return pseudo_mask(reference, mask, target, likeness=likeness, target_valid=valid)


@partial(jax.jit, static_argnames="graph")
def _predict(
    graph: Any,
    state: Any,
    reference: Array,
    mask: Array,
    target: Array,
    pseudo: Array,
    reference_valid: Array,
    target_valid: Array,
) -> PromptDistribution:
    encoder: PromptEncoder = graph.merge(state)
    return encoder(
        reference, mask, target, pseudo, reference_valid=reference_valid, target_valid=target_valid
    )


@partial(jax.jit, static_argnames=("sam", "chunk"))
def _decode(sam: FrozenSam, weights: Any, scene: Scene, prompts: Array, *, chunk: int) -> Array:
    def one(each: Array) -> Array:
        return sam.logits(weights, scene, each)

    return jax.lax.map(one, prompts, batch_size=min(chunk, len(prompts)))
