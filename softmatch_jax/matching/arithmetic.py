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

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from softmatch_jax._checks import InputError
from softmatch_jax.matching._features import (
    check_pair,
    check_share,
    check_weights,
    normalised_weights,
    unit_norm,
)
from softmatch_jax.matching._match_map import MatchMap, match_map

DEFAULT_TILE = 256


def _tiles(
    reference: Float[Array, "R d"], weights: Float[Array, " R"], tile: int
) -> tuple[Float[Array, "n tile d"], Float[Array, "n tile"]]:
    """Cuts references and their weights into tiles, padded with weight zero."""
    if tile < 1:
        raise InputError(f"tile is {tile}; expected at least 1 reference at a time.")
    tile = min(tile, reference.shape[0])
    pad = -reference.shape[0] % tile
    rows = jnp.pad(reference, ((0, pad), (0, 0)))
    return rows.reshape(-1, tile, reference.shape[1]), jnp.pad(weights, (0, pad)).reshape(-1, tile)


def _fold(
    reference: Float[Array, "R d"],
    target: Float[Array, "T d"],
    weights: Float[Array, " R"],
    temperature: float,
    valid: Bool[Array, " T"] | None,
    tile: int,
    normalise: bool,
) -> tuple[Float[Array, " T"], Float[Array, ""]]:
    """Log-sum-exp over references of weighted rows, and of their weighted row sums.

    Both inputs have unit norm. Rows are softmaxes when ``normalise``, plain exponentials otherwise.
    References of weight zero are left out, from derivatives too.
    """
    mask = jnp.ones(target.shape[:1], bool) if valid is None else valid

    def step(
        carry: tuple[Float[Array, " T"], Float[Array, " T"]],
        rows: tuple[Float[Array, "tile d"], Float[Array, " tile"]],
    ) -> tuple[tuple[Float[Array, " T"], Float[Array, " T"]], Float[Array, " tile"]]:
        features, share = rows
        logits = jnp.where(mask[None, :], features @ target.T / temperature, -jnp.inf)
        row_sums = jax.nn.logsumexp(logits, axis=1)
        if normalise:
            logits = logits - row_sums[:, None]
        logits = jnp.where((share > 0)[:, None], logits, -jnp.inf)
        # A running sum in units of e^peak: no logarithm, hence no derivative of log 0, until the end.
        peak = jax.lax.stop_gradient(jnp.maximum(carry[0], jnp.max(logits, axis=0)))
        unit = _finite(peak)
        mass = carry[1] * jnp.exp(carry[0] - unit) + share @ jnp.exp(logits - unit[None, :])
        return (peak, mass), row_sums

    empty = jnp.zeros(target.shape[:1], target.dtype)
    tiles = _tiles(reference, weights, tile)
    (peak, mass), row_sums = jax.lax.scan(step, (empty - jnp.inf, empty), tiles)
    total = jax.nn.logsumexp(row_sums, b=tiles[1])
    return _finite(peak) + _log(mass), total


def _finite(peak: Float[Array, " T"]) -> Float[Array, " T"]:
    return jnp.where(jnp.isneginf(peak), jnp.zeros_like(peak), peak)


def _log(mass: Float[Array, " T"]) -> Float[Array, " T"]:
    """Logarithm whose derivative at zero is zero."""
    positive = mass > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, mass, jnp.ones_like(mass))), -jnp.inf)


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
    columns, total = _fold(
        unit_norm(reference),
        unit_norm(target),
        normalised_weights(weights, reference),
        temperature,
        valid,
        tile,
        normalise=True,
    )
    result = match_map(columns, valid)
    count = float(target.shape[0]) if valid is None else jnp.sum(valid, dtype=total.dtype)
    return result._replace(log_evidence=total - jnp.log(count))


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
    weights = normalised_weights(weights, reference)
    columns, _ = _fold(
        unit_norm(reference), unit_norm(target), weights, temperature, None, tile, normalise=False
    )
    return columns


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
    # No background at all: fall back to the object's own density.
    mixture = jnp.where(jnp.isneginf(mixture), jnp.zeros_like(mixture), mixture)
    return match_map(inside - mixture, valid)
