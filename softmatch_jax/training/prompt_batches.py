"""Batches of pairs for training a prompt encoder, with all that is frozen already computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from softmatch_jax._checks import InputError, check_positive
from softmatch_jax._types import Mask
from softmatch_jax.data.episodes import checksum
from softmatch_jax.data.published_annotations import resize_nearest
from softmatch_jax.models.proposals import Proposals
from softmatch_jax.models.prosam.config import PromptEncoderConfig
from softmatch_jax.models.prosam.frozen_sam import Scene
from softmatch_jax.models.prosam.predictor import check_fit, deepen, mask_to_grid, pseudo
from softmatch_jax.training.prompt_pairs import Pair, PairSource
from softmatch_jax.training.prompt_store import Frozen, FrozenStore
from softmatch_jax.training.task import Batch

_SOURCE = 0x736F7572  # sets the draws of sources apart from others


class PromptBatches:
    """Draws batches from one or several sources of pairs. May be shared by threads.

    Attributes:
        digest: Checksum of all that decides the batches but the contents of files.
        size: Pairs of a batch.
    """

    def __init__(
        self,
        sources: Sequence[tuple[PairSource, float]],
        store: FrozenStore,
        config: PromptEncoderConfig,
        *,
        size: int = 8,
        loss_side: int | None = None,
    ) -> None:
        """Puts the sources together.

        Args:
            sources: Each with how often pairs come from it, relative to the others.
            store: The frozen models.
            config: Of the encoder: how annotations and likeness are given to it.
            size: Pairs of a batch.
            loss_side: Side of the raster that the truth is brought to; the decoder's own when ``None``.

        Raises:
            InputError: There is no source, a weight is not positive, the size is below 1, or the encoder
                is for other features or another SAM.
        """
        if not sources:
            raise InputError("There is no source of pairs; expected at least one.")
        check_positive("The size of a batch", size)
        check_fit(config, store.features, store.sam)
        for source, weight in sources:
            check_positive(f"The weight of {source.name}", weight)
        self.sources, self.size, self._store, self._config = tuple(sources), size, store, config
        self._loss_side = loss_side
        weights = np.array([weight for _, weight in sources], np.float64)
        self._shares = weights / weights.sum()
        listed = [[source.name, source.digest, weight] for source, weight in sources]
        made = [config.to_grid, config.likeness, size, loss_side]
        self.digest = checksum([listed, store.name, made])

    def batch(self, seed: int, step: int) -> Batch:
        """The batch at a step: a pure function of both. Arrays have the pairs as their leading axis.

        Returns:
            - ``reference`` and ``target``: ``float32 [B, h, w, c]``, features.
            - ``reference_valid`` and ``target_valid``: ``bool [B, h, w]``, false in the padding.
            - ``mask`` and ``pseudo``: ``float32 [B, h, w]``, annotation and likeness.
            - ``scene_rows``, and where the SAM has them ``scene_double``, ``scene_fourfold``.
            - ``truth``: ``float32 [B, s, s]``, the share of each cell of the raster that is object.
            - ``inside``: ``float32 [B, s, s]``, 1 on cells in the picture and 0 beyond.

        Raises:
            InputError: As the sources and the store do, or the pictures have grids of several shapes.
        """
        first = step * self.size
        pairs = [self.pair(seed, first + index) for index in range(self.size)]
        return stack_pairs([self.arrays(pair) for pair in pairs])

    def pair(self, seed: int, index: int) -> Pair:
        """The pair at ``index`` of the stream, from one of the sources."""
        if len(self.sources) == 1:
            return self.sources[0][0].pair(seed, index)
        rng = np.random.default_rng(np.random.SeedSequence([seed, index], spawn_key=(_SOURCE,)))
        source, _ = self.sources[int(rng.choice(len(self.sources), p=self._shares))]
        return source.pair(seed, index)

    def arrays(self, pair: Pair) -> Mapping[str, np.ndarray]:
        """The arrays of one pair, without the leading axis."""
        reference = self._store.get(pair.reference.key, pair.reference.image)
        target = self._store.get(pair.target.key, pair.target.image)
        return pair_arrays(
            self._store,
            self._config,
            reference,
            pair.reference.mask,
            target,
            pair.target.mask,
            self._loss_side,
        )


def pair_arrays(
    store: FrozenStore,
    config: PromptEncoderConfig,
    reference: Frozen,
    marked: Mask,
    target: Frozen,
    truth: Mask,
    loss_side: int | None = None,
) -> Mapping[str, np.ndarray]:
    """The arrays that :class:`PromptBatches` gives of one pair; published annotations may be of 512x512."""
    # A published annotation is squashed like its picture, so that it lies on the same grid.
    grid = replace(reference.features.grid, image_size=marked.shape)
    cells = mask_to_grid(marked, grid, config.to_grid)
    deep = deepen(store.features, reference.features.values, cells)
    other = deepen(store.features, target.features.values, None)
    alike = pseudo(deep, cells, other, target.features.valid, likeness=config.likeness)
    scene = {f"scene_{name}": a for name, a in target.scene._asdict().items() if a is not None}
    return {
        "reference": reference.features.values,
        "reference_valid": reference.features.valid,
        "mask": cells,
        "target": target.features.values,
        "target_valid": target.features.valid,
        "pseudo": np.asarray(alike),
        **scene,
        **truth_arrays(target.raster, truth, loss_side),
    }


def truth_arrays(
    raster: Proposals, truth: Mask, loss_side: int | None
) -> dict[str, Float[np.ndarray, "s s"]]:
    """``truth`` and ``inside`` on the raster of the loss.

    Raises:
        InputError: There is a ``loss_side``, and the picture does not fill the raster.
    """
    if loss_side is None:
        return {
            "truth": raster.reduce(truth.astype(np.float32)),
            "inside": raster.inside.astype(np.float32),
        }
    if not raster.inside.all():
        raise InputError(
            f"prompts.loss_side is {loss_side}, but a picture of {truth.shape[1]}x{truth.shape[0]} does not "
            "fill the raster of the SAM; expected a SAM that stretches pictures (or leave it out)."
        )
    # As published: the mask squashed by the nearest pixels, and every cell counts.
    return {
        "truth": resize_nearest(truth, (loss_side, loss_side)).astype(np.float32),
        "inside": np.ones((loss_side, loss_side), np.float32),
    }


def stack_pairs(pairs: Sequence[Mapping[str, np.ndarray]]) -> Batch:
    """Arrays of several pairs with a leading axis.

    Raises:
        InputError: They differ in shape.
    """
    for name in pairs[0]:
        shapes = sorted({pair[name].shape for pair in pairs})
        if len(shapes) > 1:
            raise InputError(
                f"{name} has the shapes {shapes} within a batch; expected one (take a feature extractor "
                "whose grid is the same for all pictures, or batches of 1)."
            )
    return {name: np.stack([pair[name] for pair in pairs]) for name in pairs[0]}


def scene_of(batch: Mapping[str, Any]) -> Scene:
    """The scene that a batch, or a pair of it, holds."""
    return Scene(batch["scene_rows"], batch.get("scene_double"), batch.get("scene_fourfold"))
