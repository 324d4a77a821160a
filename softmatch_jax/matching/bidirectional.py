r"""Bidirectional matching: the forward and the reverse softmax together.

A patch of the target matches when the references point at it *and* it points back at them rather than
at anything else in their pictures:

.. math::
    \text{score}_t = \sum_r a_r\big[\log\operatorname{softmax}_t(s_{rt}/\tau)
    + \log\operatorname{softmax}_{r'}(s_{r't}/\tau)\big]
    = \frac{2\langle\bar f, g_t\rangle}{\tau} - L_t + \text{const},
    \qquad L_t = \log\sum_{r'} e^{s_{r't}/\tau} .

The forward half collapses (:mod:`softmatch_jax.matching.geometric`). The reverse half runs over *all*
patches of the reference pictures, ``r'``, object or not; its normaliser :math:`L_t` is a log-sum-exp
over them and is taken in tiles. The variant is that of Intel's Geti Instant Learn, which makes two
dense arrays of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from softmatch_jax.matching._features import Patches, project
from softmatch_jax.matching._match_map import MatchMap, match_map
from softmatch_jax.matching._statistics import Rows, mean_of, nothing_shared, rows_of
from softmatch_jax.matching.arithmetic import DEFAULT_TILE, check_tile, fold


@dataclass(frozen=True, kw_only=True)
class Bidirectional:
    """Forward and reverse log-softmaxes, ``O(R T d)`` time and ``O(tile * T)`` memory.

    The reverse softmax runs over every patch of the reference, weight or none; over those that carry
    weight as object or background when a background is given.

    Attributes:
        tile: References worked on at a time.
    """

    tile: int = DEFAULT_TILE

    needs_key: ClassVar[bool] = False
    needs_rest: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_tile(self.tile)

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
        """The collapsed forward term less the mean of the reverse normaliser."""
        mean = mean_of(foreground.patches, foreground.share).total
        log_sums = [
            self._log_sum(rows, target, temperature) for rows in (foreground, background) if rows is not None
        ]
        log_sum = log_sums[0] if len(log_sums) == 1 else jnp.logaddexp(*log_sums)
        count = sum(
            jnp.sum(rows.weight > 0, dtype=log_sum.dtype)
            for rows in (foreground, background)
            if rows is not None
        )
        # The mean in place of the sum: the same map, and an evidence that does not fall with the number
        # of reference patches.
        reverse = log_sum - jnp.log(count)
        return match_map(2 * project(target, mean / temperature) - reverse, valid)

    def _log_sum(self, rows: Rows, target: Patches, temperature: float | Array) -> Float[Array, " T"]:
        once = (rows.weight > 0).astype(rows.weight.dtype)
        return fold(rows.patches, once, target, temperature, tile=self.tile, normalise=False)[0]
