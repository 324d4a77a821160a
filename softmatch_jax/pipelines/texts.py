"""Text prompts: a phrase for a class, compared with the target by CLIP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Array, Float, UInt8

from softmatch_jax._checks import InputError
from softmatch_jax._types import Size
from softmatch_jax.imaging import resize_map
from softmatch_jax.models import PatchFeatures
from softmatch_jax.pipelines.config import MatchingConfig
from softmatch_jax.pipelines.locating import TextFactor
from softmatch_jax.prompting import PatchGrid


class TextModel(Protocol):
    """Puts pictures and texts into one space (CLIP)."""

    @property
    def name(self) -> str:
        """Identifies the model and its settings in results and caches."""

    def grid(self, image_size: Size) -> PatchGrid:
        """Where the patches of a picture lie."""

    def __call__(self, images: UInt8[np.ndarray, "B H W 3"]) -> PatchFeatures:
        """Features of every patch."""

    def text_embeddings(self, texts: Sequence[str]) -> Float[Array, "n dim"]:
        """Unit-norm embeddings of phrases."""


def text_factor(
    texts: Mapping[str, str],
    names: Sequence[str],
    model: TextModel,
    seen: PatchFeatures,
    grid: PatchGrid,
    config: MatchingConfig,
) -> TextFactor:
    """The maps of text prompts on the target's patches.

    Args:
        texts: A phrase for some of the classes.
        names: All classes, in order.
        model: Embeds the phrases.
        seen: The target's patches in the model's space, a batch of one.
        grid: The patches that references are matched with, to which the maps are brought.
        config: Temperature and weight.

    Raises:
        InputError: A text is for a class without a reference, or empty.
    """
    for name, text in texts.items():
        if name not in names:
            known = ", ".join(map(repr, names))
            raise InputError(
                f"The text {text!r} is for the class {name!r}, which has no reference; expected one of "
                f"{known} (text refines what a reference shows, it does not replace it)."
            )
    logits = np.zeros((len(names), grid.shape[0] * grid.shape[1]), np.float32)
    weight = np.zeros(len(names), np.float32)
    embedded = np.asarray(model.text_embeddings(list(texts.values())), np.float32)
    values = np.asarray(seen.values[0], np.float32)
    values = values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)
    rows, columns = seen.grid.valid_slices()
    inner_rows, inner_columns = grid.valid_slices()
    for name, embedding in zip(texts, embedded, strict=True):
        similarity = (values @ embedding)[rows, columns]
        on_grid = np.zeros(grid.shape, np.float32)
        shape = (inner_rows.stop - inner_rows.start, inner_columns.stop - inner_columns.start)
        # Both grids tile the whole picture, so one is the other resized.
        on_grid[inner_rows, inner_columns] = resize_map(np.ascontiguousarray(similarity), shape)
        index = list(names).index(name)
        logits[index] = on_grid.ravel() / config.text_temperature
        weight[index] = config.text_weight
    return TextFactor(logits, weight)
