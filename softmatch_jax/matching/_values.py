"""Looks at values, where they are known: features without direction, weights that cannot be."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from softmatch_jax._checks import InputError
from softmatch_jax.matching._features import as_patches
from softmatch_jax.matching._match_map import MatchMap


class ConvergenceWarning(UserWarning):
    """An iteration stopped short of its tolerance; the result is what it had reached."""


def check_weight_values(weights: Any, background: Any) -> None:
    """Raises ``InputError`` for weights that are not non-negative numbers, or none on the object."""
    for name, given in (("weights", weights), ("background", background)):
        if given is None:
            continue
        values = np.asarray(given, np.float64)
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise InputError(f"{name} has negative, NaN or infinite entries; expected numbers of 0 or more.")
        if name == "weights" and not values.sum() > 0:
            raise InputError("weights sum to 0; expected at least one patch on the object.")


def in_use(features: Any, *weights: Any) -> np.ndarray:
    """Which patches carry weight; the first weights are all one when ``None``, others all zero."""
    used: np.ndarray = np.full(features.shape[0], weights[0] is None)
    for given in weights:
        used |= False if given is None else np.asarray(given) > 0
    return used


def check_directions(name: str, features: Any, used: np.ndarray) -> None:
    """Raises ``InputError`` when a patch in use is a zero vector or holds NaN or infinity."""
    scale = np.asarray(_scales(features))
    bad = np.flatnonzero(used & ~((scale > 0) & np.isfinite(scale)))
    if bad.size:
        first = np.asarray(features[int(bad[0])], np.float64)
        what = "is a zero vector" if not first.any() else "holds NaN, infinite or far too large numbers"
        raise InputError(
            f"{bad.size} of {used.size} {name} patches have no direction, the first being number {bad[0]}, "
            f"which {what}; expected finite features that are not all zero (give such patches no weight, or "
            "mark them as padding)."
        )


@jax.jit
def _scales(features: Float[Array, "n d"]) -> Float[Array, " n"]:
    return as_patches(features).scale


def check_result(found: MatchMap, target: Any, valid: Any, name: str) -> None:
    """Says what is wrong with a result: features without direction, or iterations that did not end."""
    used: np.ndarray = np.ones(target.shape[0], bool) if valid is None else np.asarray(valid)
    if not used.any():
        raise InputError(f"{name} has no valid patch; expected at least one that is not padding.")
    check_directions(name, target, used)
    if np.isnan(np.asarray(found.log_evidence)).any():
        raise InputError(f"{name} gave scores that are not numbers; expected finite features of unit norm.")
    warn_unless_converged(found)


def warn_unless_converged(found: MatchMap) -> None:
    """Issues a :class:`ConvergenceWarning` when an iteration stopped short."""
    if not np.asarray(found.diagnostics.converged).all():
        iterations = np.asarray(found.diagnostics.iterations).max()
        error = np.asarray(found.diagnostics.error).max()
        warnings.warn(
            f"Matching stopped after {iterations} iterations with an error of {error:.2g}, above its "
            "tolerance; expected convergence (raise iterations, epsilon or tolerance).",
            ConvergenceWarning,
            stacklevel=4,
        )
