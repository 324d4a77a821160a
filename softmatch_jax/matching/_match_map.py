"""The result every matcher returns."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class MatchMap(NamedTuple):
    """Where in one target the reference is found; vmapped matchers add leading axes.

    Attributes:
        log_probability: ``[T]``, log-probability over target patches; sums to 1 over the valid
            ones and is ``-inf`` on the others.
        log_evidence: ``[]``, log of the mean unnormalised match over the valid patches. The
            softmax forgets its normaliser; this is it, and it tells "present" from "absent".
        score: ``[T]``, the logits: ``log_probability`` up to a constant, ``-inf`` where invalid.
    """

    log_probability: Float[Array, " T"]
    log_evidence: Float[Array, ""]
    score: Float[Array, " T"]


def match_map(score: Float[Array, " T"], valid: Bool[Array, " T"] | None = None) -> MatchMap:
    """Normalises logits over the valid target patches, ``p_t = exp(score_t) / sum_u exp(score_u)``.

    Args:
        score: ``[T]``, logits.
        valid: ``[T]``, false on padding; all true when ``None``.
    """
    if valid is None:
        valid = jnp.ones(score.shape, bool)
    score = jnp.where(valid, score, -jnp.inf)
    log_normaliser = jax.nn.logsumexp(score)
    log_count = jnp.log(jnp.sum(valid, dtype=score.dtype))
    return MatchMap(score - log_normaliser, log_normaliser - log_count, score)
