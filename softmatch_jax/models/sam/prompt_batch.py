"""From prompts in the user's coordinates to arrays of labelled points for SAM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from softmatch_jax.models.sam.prompt_encoder import NOT_A_POINT, point_tokens
from softmatch_jax.prompting import Prompt

TOKEN_STEPS = (2, 4, 8, 16, 32, 64)
"""Lengths that prompts are padded to, so that few programs are compiled; beyond, multiples of the last."""


def model_tokens(prompt: Prompt, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A prompt as labelled points in the square that the model sees.

    Ours lie at ``+0.5`` in a pixel's centre and are scaled; SAM's are pixel indices, to which it adds the
    half itself.
    """
    box = None if prompt.box is None else (np.reshape(prompt.box, (2, 2)) * ratio - 0.5).ravel()
    return point_tokens(prompt.points * ratio - 0.5, prompt.positive, box)


def padded_length(labels: np.ndarray) -> int:
    """The length that a prompt with these labels is padded to."""
    last = TOKEN_STEPS[-1]
    return next((step for step in TOKEN_STEPS if step >= len(labels)), -(-len(labels) // last) * last)


def pad_tokens(
    tokens: Sequence[tuple[np.ndarray, np.ndarray]], count: int
) -> tuple[Float[np.ndarray, "P n 2"], Int[np.ndarray, "P n"], Bool[np.ndarray, "P n"]]:
    """Labelled points of several prompts, padded to ``count`` prompts and to one of few lengths."""
    length = max(padded_length(labels) for _, labels in tokens)
    xy = np.zeros((count, length, 2), np.float32)
    labels = np.full((count, length), NOT_A_POINT, np.int32)
    valid = np.zeros((count, length), bool)
    for row, (points, kinds) in enumerate(tokens):
        xy[row, : len(points)], labels[row, : len(points)] = points, kinds
        valid[row, : len(points)] = True
    return xy, labels, valid
