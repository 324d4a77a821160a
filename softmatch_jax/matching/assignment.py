"""Matching by linear assignment, the Hungarian baseline of the paper's Fig. 2.

Every object patch of the reference is assigned to a target patch of its own so that the sum of their
similarities is largest. Matcher then assigns the matched target patches back, to any patch of the
reference picture, and keeps those that return to the object (Matcher, arXiv 2305.13310, §3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from softmatch_jax.matching._features import Patches, cosines
from softmatch_jax.matching._match_map import MatchMap, match_map
from softmatch_jax.matching._statistics import Rows, mask_of, nothing_shared, rows_of


def assign(
    similarity: Float[np.ndarray, "R T"],
    object_rows: Bool[np.ndarray, " R"],
    columns: Bool[np.ndarray, " T"],
    *,
    filtered: bool = True,
) -> Bool[np.ndarray, " T"]:
    """Target patches that object patches are assigned to, forth and, when ``filtered``, back.

    Args:
        similarity: ``[R, T]``, of all patches of the reference pictures with the target's.
        object_rows: ``[R]``, true on the object.
        columns: ``[T]``, false on padding.
        filtered: Keep only matches whose way back leads to the object; all of them if none does.

    Returns:
        ``[T]``, the matched patches.
    """
    from scipy.optimize import linear_sum_assignment

    inside, usable = np.flatnonzero(object_rows), np.flatnonzero(columns)
    _, forth = linear_sum_assignment(similarity[np.ix_(inside, usable)], maximize=True)
    matched = usable[forth]
    if filtered:
        places, back = linear_sum_assignment(similarity[:, matched].T, maximize=True)
        kept = matched[places[object_rows[back]]]
        matched = kept if kept.size else matched
    chosen: np.ndarray = np.zeros(columns.shape, bool)
    chosen[matched] = True
    return chosen


@dataclass(frozen=True, kw_only=True)
class Hungarian:
    """SciPy's linear assignment, on the host; ``O(n^3)``.

    The map is a softmax of the cosines of matched patches to the object patch most like them, and zero
    elsewhere; it is meant as a baseline. The way back may lead to every patch of the reference, weight
    or none; to those that carry weight when a background is given. Weights only tell object from not.

    Attributes:
        filtered: Apply the forward-reverse filter.
    """

    filtered: bool = True

    needs_key: ClassVar[bool] = False
    needs_rest: ClassVar[bool] = True

    share = staticmethod(nothing_shared)
    summarise = staticmethod(rows_of)

    def match(
        self,
        foreground: Rows,
        background: Rows | None,
        target: Patches,
        *,
        shared: None,
        temperature: float | Array,
        valid: Bool[Array, " T"] | None,
    ) -> MatchMap:
        """Assigns on the host; gradients pass the similarities of the matches, not the assignment."""
        sides = [side for side in (foreground, background) if side is not None]
        similarity = jnp.concatenate([cosines(side.patches, target) for side in sides])
        of_object = jnp.concatenate([(side.weight > 0) & (side is foreground) for side in sides])
        present = jnp.concatenate([side.weight > 0 for side in sides])
        mask = mask_of(target, valid)

        def on_host(matrix: Any, rows: Any, inside: Any, columns: Any) -> np.ndarray:
            rows = np.asarray(rows)
            return assign(
                np.asarray(matrix)[rows],
                np.asarray(inside)[rows],
                np.asarray(columns),
                filtered=self.filtered,
            )

        matched = jax.pure_callback(
            on_host,
            jax.eval_shape(lambda mask: mask, mask),
            jnp.nan_to_num(jax.lax.stop_gradient(similarity)),  # bad features are told of afterwards
            present,
            of_object,
            mask,
            vmap_method="sequential",
        )
        best = jnp.max(jnp.where(of_object[:, None], similarity, -jnp.inf), axis=0)
        return match_map(jnp.where(matched, best / temperature, -jnp.inf), valid)
