"""How good given sets of prompts are for one picture: IoU, and the cross entropy of the paper's section 9."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from softmatch_jax.models.prosam.frozen_sam import FrozenSam
from softmatch_jax.studies.descending import Problem
from softmatch_jax.studies.question import Question


@dataclass(frozen=True, kw_only=True)
class PromptScores:
    """How good sets of prompts are.

    Attributes:
        iou: Of each set, at the picture's size.
        bce: Binary cross entropy of each in nats per cell of the decoder's raster.
    """

    iou: tuple[float, ...]
    bce: tuple[float, ...]

    def quartiles(self, name: str) -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile of ``iou`` or ``bce``."""
        low, middle, high = np.quantile(getattr(self, name), [0.25, 0.5, 0.75])
        return float(low), float(middle), float(high)


def score_prompts(
    sam: FrozenSam, question: Question, problem: Problem, prompts: Float[Array, "K n dim"], *, chunk: int
) -> PromptScores:
    """IoU and binary cross entropy of sets of prompts, decoded ``chunk`` at a time."""
    logits, bce = _decode(sam, problem, jnp.asarray(prompts), chunk=min(chunk, len(prompts)))
    tp, fp, fn, _ = question.counts(np.asarray(logits)).T
    # A question is only taken where its object has a pixel, so that the union has one.
    iou = tp / np.maximum(tp + fp + fn, 1)
    return PromptScores(iou=tuple(iou.tolist()), bce=tuple(np.asarray(bce, np.float64).tolist()))


@partial(jax.jit, static_argnames=("sam", "chunk"))
def _decode(sam: FrozenSam, problem: Problem, prompts: Array, *, chunk: int) -> tuple[Array, Array]:
    counted = jnp.asarray(problem.inside, prompts.dtype)

    def one(each: Array) -> tuple[Array, Array]:
        logits = sam.logits(problem.weights, problem.scene, each)
        surprise = jax.nn.softplus(logits) - logits * problem.truth
        return logits, jnp.sum(surprise * counted) / counted.sum()

    return jax.lax.map(one, prompts, batch_size=chunk)
