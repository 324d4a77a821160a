"""The result every matcher returns."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Diagnostics(NamedTuple):
    """How far a result can be trusted; vmapped matchers add leading axes.

    Attributes:
        converged: ``[]``, false when an iteration stopped short of its tolerance; true for closed forms.
        iterations: ``[]``, iterations taken; 0 for closed forms.
        error: ``[]``, estimated error, 0 where the method is exact. What it measures is the method's to
            say: a marginal's L1 error for Sinkhorn, a total variation for random features.
    """

    converged: Bool[Array, ""]
    iterations: Int[Array, ""]
    error: Float[Array, ""]


def closed_form(dtype: jnp.dtype) -> Diagnostics:
    """Diagnostics of a result that is exact."""
    return Diagnostics(jnp.asarray(True), jnp.asarray(0, jnp.int32), jnp.zeros((), dtype))


class MatchMap(NamedTuple):
    """Where in one target the reference is found; vmapped matchers add leading axes.

    Attributes:
        log_probability: ``[T]``, log-probability over target patches; sums to 1 over the valid
            ones and is ``-inf`` on the others.
        log_evidence: ``[]``, log of the mean unnormalised match over the valid patches. The
            softmax forgets its normaliser; this is it, and it tells "present" from "absent".
        score: ``[T]``, the logits: ``log_probability`` up to a constant, ``-inf`` where invalid.
        diagnostics: Convergence and error.
    """

    log_probability: Float[Array, " T"]
    log_evidence: Float[Array, ""]
    score: Float[Array, " T"]
    diagnostics: Diagnostics


def match_map(
    score: Float[Array, " T"],
    valid: Bool[Array, " T"] | None = None,
    diagnostics: Diagnostics | None = None,
) -> MatchMap:
    """Normalises logits over the valid target patches, ``p_t = exp(score_t) / sum_u exp(score_u)``.

    Args:
        score: ``[T]``, logits.
        valid: ``[T]``, false on padding; all true when ``None``.
        diagnostics: Those of an exact result when ``None``.
    """
    if diagnostics is None:
        diagnostics = closed_form(score.dtype)
    if valid is None:
        log_count = jnp.log(jnp.asarray(score.shape[0], score.dtype))
    else:
        score = jnp.where(valid, score, -jnp.inf)
        log_count = jnp.log(jnp.sum(valid, dtype=score.dtype))
    log_normaliser = jax.nn.logsumexp(score)
    return MatchMap(score - log_normaliser, log_normaliser - log_count, score, diagnostics)
