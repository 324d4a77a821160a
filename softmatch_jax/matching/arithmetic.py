r"""Arithmetic-mean matching, exact, tiled over the references.

.. math::
    q_t = \sum_r a_r \operatorname{softmax}_t(\langle f_r, g_t\rangle/\tau)

is the column mass of semi-relaxed entropic optimal transport: each reference patch spreads its mass
over the target, and unlike the geometric mean (consensus) every part of the object keeps its own
mode. It does not collapse, because the row normalisers differ. Here rows are taken a tile at a time
and folded into a running log-sum-exp, so memory is ``O(tile * T)`` and the ``[R, T]`` array is never
made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from softmatch_jax._checks import InputError
from softmatch_jax.matching._features import (
    Patches,
    as_patches,
    check_pair,
    check_share,
    check_weights,
    cosines,
    normalised_weights,
    safe_log,
)
from softmatch_jax.matching._match_map import MatchMap, match_map
from softmatch_jax.matching._statistics import Rows, count_valid, nothing_shared, rows_of

DEFAULT_TILE = 128
"""References worked on at a time. Fewer stay in cache; many more gain nothing."""


def check_tile(tile: int) -> None:
    """Raises ``InputError`` unless the tile holds a reference."""
    if tile < 1:
        raise InputError(f"tile is {tile}; expected at least 1 reference at a time.")


def _tiles(rows: Patches, weights: Float[Array, " R"], tile: int) -> tuple[Patches, Float[Array, "n tile"]]:
    """Cuts references and their weights into tiles, padded with weight zero."""
    check_tile(tile)
    tile = min(tile, weights.shape[0])
    pad = -weights.shape[0] % tile

    def cut(array: Array) -> Array:
        padded = jnp.pad(array, [(0, pad)] + [(0, 0)] * (array.ndim - 1)) if pad else array
        return padded.reshape(-1, tile, *array.shape[1:])

    return Patches(cut(rows.features), cut(rows.scale)), cut(weights)


def fold(
    rows: Patches,
    weights: Float[Array, " R"],
    target: Patches,
    temperature: float | Array,
    *,
    valid: Bool[Array, " T"] | None = None,
    tile: int = DEFAULT_TILE,
    normalise: bool,
) -> tuple[Float[Array, " T"], Float[Array, ""]]:
    """Log-sum-exp over references of weighted rows, and of their weighted row sums.

    Rows are softmaxes when ``normalise``, plain exponentials otherwise. References of weight zero are
    left out, from derivatives too; these are taken a tile at a time as well. Weights are used as they
    are.
    """
    mask = None if valid is None else valid[:, None]

    # Tiles lie as [T, tile]: reductions over the long axis then run along vectors of references.
    @jax.checkpoint
    def step(
        carry: tuple[Float[Array, " T"], Float[Array, " T"]],
        piece: tuple[Patches, Float[Array, " tile"]],
    ) -> tuple[tuple[Float[Array, " T"], Float[Array, " T"]], Float[Array, " tile"]]:
        patches, share = piece
        logits = cosines(target, Patches(patches.features, patches.scale / temperature))
        logits = logits if mask is None else jnp.where(mask, logits, -jnp.inf)
        row_sums = jax.nn.logsumexp(logits, axis=0)
        if normalise:
            logits = logits - row_sums[None, :]
        logits = jnp.where((share > 0)[None, :], logits, -jnp.inf)
        # A running sum in units of e^peak: no logarithm, hence no derivative of log 0, until the end.
        peak = jax.lax.stop_gradient(jnp.maximum(carry[0], jnp.max(logits, axis=1)))
        unit = _finite(peak)
        mass = carry[1] * jnp.exp(carry[0] - unit) + jnp.exp(logits - unit[:, None]) @ share
        return (peak, mass), row_sums

    empty = jnp.zeros_like(target.scale)
    tiles = _tiles(rows, weights, tile)
    (peak, mass), row_sums = jax.lax.scan(step, (empty - jnp.inf, empty), tiles)
    total = jax.nn.logsumexp(row_sums, b=tiles[1])
    return _finite(peak) + safe_log(mass), total


def _finite(peak: Float[Array, " T"]) -> Float[Array, " T"]:
    return jnp.where(jnp.isneginf(peak), jnp.zeros_like(peak), peak)


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """The mean of softmaxed cosine maps, exactly, a tile of references at a time.

    Every part of the object keeps its own mode. ``O(R T d)`` time, ``O(tile * T)`` memory. With a
    background the score is the log-ratio of the two kernel densities.

    Attributes:
        tile: References worked on at a time.
    """

    tile: int = DEFAULT_TILE

    needs_key: ClassVar[bool] = False
    needs_rest: ClassVar[bool] = False

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
        """Folds the rows, each normalised over the target, into a running log-sum-exp."""
        if background is None:
            return _arithmetic(foreground, target, temperature, valid, self.tile)
        inside, outside = (
            fold(rows.patches, rows.share, target, temperature, tile=self.tile, normalise=False)[0]
            for rows in (foreground, background)
        )
        return match_map(inside - _or_zero(outside), valid)


def _arithmetic(
    rows: Rows, target: Patches, temperature: float | Array, valid: Bool[Array, " T"] | None, tile: int
) -> MatchMap:
    columns, total = fold(
        rows.patches, rows.share, target, temperature, valid=valid, tile=tile, normalise=True
    )
    count = count_valid(target.scale.shape[0], valid, total.dtype)
    return match_map(columns, valid)._replace(log_evidence=total - jnp.log(count))


def _or_zero(log_density: Float[Array, " T"]) -> Float[Array, " T"]:
    """No background at all: what is left is the object's own density."""
    return jnp.where(jnp.isneginf(log_density), jnp.zeros_like(log_density), log_density)


def arithmetic_mean(
    reference: Float[Array, "R d"],
    target: Float[Array, "T d"],
    *,
    temperature: float,
    weights: Float[Array, " R"] | None = None,
    valid: Bool[Array, " T"] | None = None,
    tile: int = DEFAULT_TILE,
) -> MatchMap:
    r"""Matches by the arithmetic mean of softmaxed cosine maps, exactly, in ``O(R T d)`` time.

    :math:`q_t = \sum_r a_r \operatorname{softmax}_t(\langle f_r, g_t\rangle/\tau)`; ``log_evidence`` is
    :math:`\log \sum_r a_r \tfrac1T \sum_t e^{\langle f_r, g_t\rangle/\tau}`.

    Args:
        reference: ``[R, d]``, features of the reference patches; any length, unit-normed here.
        target: ``[T, d]``, features of the target patches, likewise.
        temperature: :math:`\tau > 0`; towards zero the map becomes nearest-neighbour votes.
        weights: ``[R]``, non-negative; uniform when ``None``.
        valid: ``[T]``, false on padding.
        tile: References worked on at a time; memory is ``O(tile * T)``.

    Raises:
        InputError: Shapes disagree or the temperature is not positive.
    """
    check_pair(reference, target, temperature)
    check_weights("weights", weights, reference)
    check_weights("valid", valid, target)
    share = normalised_weights(weights, reference)
    rows = rows_of(as_patches(reference), share, share > 0)
    return _arithmetic(rows, as_patches(target), temperature, valid, tile)


def log_density(
    reference: Float[Array, "R d"],
    target: Float[Array, "T d"],
    *,
    temperature: float,
    weights: Float[Array, " R"] | None = None,
    tile: int = DEFAULT_TILE,
) -> Float[Array, " T"]:
    r"""Log kernel density of the references at each target patch.

    :math:`\log \sum_r a_r e^{\langle f_r, g_t\rangle/\tau}`: up to a constant, the log-density of a
    mixture of von Mises-Fisher distributions of concentration :math:`1/\tau` centred on the
    references. ``-inf`` when all weights are zero. Arguments as in :func:`arithmetic_mean`; returns
    ``[T]``.
    """
    check_pair(reference, target, temperature)
    check_weights("weights", weights, reference)
    rows, columns = as_patches(reference), as_patches(target)
    share = normalised_weights(weights, reference)
    return fold(rows, share, columns, temperature, tile=tile, normalise=False)[0]


def arithmetic_contrast(
    reference: Float[Array, "R d"],
    target: Float[Array, "T d"],
    *,
    temperature: float,
    foreground: Float[Array, " R"],
    background: Float[Array, " R"],
    target_share: float | Float[Array, ""] = 0.0,
    valid: Bool[Array, " T"] | None = None,
    tile: int = DEFAULT_TILE,
) -> MatchMap:
    r"""Matches by the log-ratio of two kernel densities, the object's over its surroundings'.

    .. math::
        \text{score}_t = \log\sum_r a_r e^{s_{rt}/\tau}
        - \log\Big((1-\beta)\sum_r b_r e^{s_{rt}/\tau}
        + \beta\,\tfrac1T\sum_u e^{\langle g_u, g_t\rangle/\tau}\Big)

    Arguments as in :func:`~softmatch_jax.matching.geometric_contrast`, and ``tile`` as in
    :func:`arithmetic_mean`.

    Raises:
        InputError: Shapes disagree, the temperature is not positive or the share not in ``[0, 1]``.
    """
    check_pair(reference, target, temperature)
    check_weights("foreground", foreground, reference)
    check_weights("background", background, reference)
    check_share(target_share)
    check_weights("valid", valid, target)
    inside = log_density(reference, target, temperature=temperature, weights=foreground, tile=tile)
    outside = log_density(reference, target, temperature=temperature, weights=background, tile=tile)
    mixture = outside
    if isinstance(target_share, jax.Array) or target_share > 0:  # the T x T part is left out where it may be
        counted = None if valid is None else valid.astype(target.dtype)
        itself = log_density(target, target, temperature=temperature, weights=counted, tile=tile)
        mixture = jnp.logaddexp(outside + jnp.log1p(-target_share), itself + jnp.log(target_share))
    return match_map(inside - _or_zero(mixture), valid)
