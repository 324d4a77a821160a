r"""Entropic optimal transport from reference to target: one family, from votes to consensus.

.. math::
    \min_{P \ge 0,\; P\mathbf 1 = a}\; \langle P, C\rangle + \epsilon\,\mathrm{KL}(P \,\|\, a b^\top)
    + \lambda\,\mathrm{KL}(P^\top\mathbf 1 \,\|\, b), \qquad C_{rt} = 1 - s_{rt}

Rows are held to the reference weights ``a``; the relaxation :math:`\lambda` says how firmly columns are
held to the uniform target marginal ``b``. With :math:`f` the optimal reference potential, every member
is read out by the same formula,

.. math::
    \text{score}_t = \frac{1 - h_t}{\tau}, \qquad
    h_t = -\epsilon\log\sum_r a_r \exp\frac{f_r - \bar f - C_{rt}}{\epsilon}, \quad \bar f = \sum_r a_r f_r ,

the soft-min cost of patch ``t``, each reference having paid its price :math:`f_r` for being easily
matched. At the corners:

- :math:`\lambda = 0` (semi-relaxed) and :math:`\tau = \epsilon`: the arithmetic mean of softmaxes;
- :math:`\lambda < \infty` and :math:`\tau = \epsilon + \lambda`: the column mass of the plan;
- :math:`\lambda = \infty` (balanced): the target's dual potential, ``score = (1 - g) / tau``. The column
  mass is ``b`` then and says nothing;
- :math:`\epsilon \to \infty`: the geometric mean at temperature :math:`\tau`, whatever :math:`\lambda`.
  This is the sense in which Softmatcher's map is optimal transport's large-regularisation limit (§3).

Solved by ott-jax's Sinkhorn, differentiable by the implicit function theorem.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from softmatch_jax._checks import InputError, check_positive
from softmatch_jax.matching._features import (
    Patches,
    as_patches,
    check_pair,
    check_weights,
    normalised_weights,
    unit,
)
from softmatch_jax.matching._match_map import Diagnostics, MatchMap, match_map
from softmatch_jax.matching._statistics import Rows, rows_of

HELD_ENTRIES = 2**24
"""Largest cost matrix that is held in memory: 64 MB in single precision."""

CHECK_EVERY = 10
"""Iterations between two looks at the error."""


class Transport(NamedTuple):
    r"""A solved transport problem; the plan is :math:`P_{rt} = a_r b_t e^{(f_r + g_t - C_{rt})/\epsilon}`.

    Attributes:
        reference_potential: ``[R]``, :math:`f`, centred on ``sum_r a_r f_r = 0``; 0 where ``a`` is.
        target_potential: ``[T]``, :math:`g`; 0 on padding.
        soft_cost: ``[T]``, :math:`h`, the soft-min cost of every target patch.
        column_mass: ``[T]``, what the plan puts on every target patch.
        value: ``[]``, the optimal value.
        diagnostics: Iterations, and the L1 distance of the column masses from what optimality asks for.
    """

    reference_potential: Float[Array, " R"]
    target_potential: Float[Array, " T"]
    soft_cost: Float[Array, " T"]
    column_mass: Float[Array, " T"]
    value: Float[Array, ""]
    diagnostics: Diagnostics


@dataclass(frozen=True, kw_only=True)
class Sinkhorn:
    """Entropic optimal transport with the columns free, held, or anything between.

    Needs the extra ``transport`` (ott-jax). With a background, object and surroundings are transported
    together and the score is the log-odds of a target patch coming from the object, times
    ``epsilon / temperature``.

    Attributes:
        epsilon: Entropic regularisation, in units of the cost ``1 - cosine``.
        relaxation: Weight lambda that holds the column masses to the uniform marginal; 0 leaves them
            free, infinity fixes them.
        iterations: Most iterations.
        tolerance: L1 error of the column masses at which to stop.
        min_iterations: Iterations before the first look at the error; equal to ``iterations``, their
            number is fixed.
        held_entries: Largest cost matrix held in memory; a larger one is recomputed in tiles at every
            iteration, which takes ``O(R + T)`` memory and far more time.
        tile: Rows recomputed at a time.
    """

    epsilon: float = 0.05
    relaxation: float = math.inf
    iterations: int = 2000
    tolerance: float = 1e-3
    min_iterations: int = 0
    held_entries: int = HELD_ENTRIES
    tile: int = 128

    needs_key: ClassVar[bool] = False
    needs_rest: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive("epsilon", self.epsilon)
        if not self.relaxation >= 0:
            raise InputError(f"relaxation is {self.relaxation}; expected 0 or more, or infinity.")
        if not self.tolerance > 0:
            raise InputError(f"tolerance is {self.tolerance}; expected a number greater than 0.")
        for name, least in (("iterations", 1), ("min_iterations", 0), ("held_entries", 0), ("tile", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least {least}.")

    def share(self, patches: Patches, weights: Array, *, temperature: Any, key: Any) -> None:
        """Nothing is shared."""

    def summarise(self, patches: Patches, weights: Array, valid: Array, *, shared: None, key: Any) -> Rows:
        """All patches."""
        return rows_of(patches, weights, valid)

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
        """Solves the transport and reads out soft-min costs."""
        if background is None:
            solved = _solve(foreground.patches, foreground.share, target, valid, self)
            return match_map((1 - solved.soft_cost) / temperature, valid, solved.diagnostics)
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), foreground, background)
        solved = _solve(both.patches, both.share, target, valid, self)
        first = jnp.arange(both.weight.shape[0]) < foreground.weight.shape[0]
        inside, outside = (
            _soft_cost(both.patches, jnp.where(side, both.share, 0), solved.reference_potential, target, self)
            for side in (first, ~first)
        )
        outside = jnp.where(jnp.isposinf(outside), 1, outside)  # no background after all
        return match_map((outside - inside) / temperature, valid, solved.diagnostics)


def sinkhorn(
    reference: Float[Array, "R d"],
    target: Float[Array, "T d"],
    *,
    weights: Float[Array, " R"] | None = None,
    valid: Bool[Array, " T"] | None = None,
    settings: Sinkhorn | None = None,
) -> Transport:
    """Transports the reference patches onto the target patches.

    Args:
        reference: ``[R, d]``, features of the reference patches; any length, unit-normed here.
        target: ``[T, d]``, features of the target patches, likewise.
        weights: ``[R]``, non-negative mass of each reference patch; uniform when ``None``.
        valid: ``[T]``, false on padding, which receives nothing.
        settings: Regularisation, relaxation and when to stop.

    Raises:
        InputError: Shapes disagree, or ott-jax is not installed.
    """
    settings = Sinkhorn() if settings is None else settings
    check_pair(reference, target, settings.epsilon)
    check_weights("weights", weights, reference)
    check_weights("valid", valid, target)
    rows = as_patches(reference)
    share = normalised_weights(weights, reference).astype(rows.scale.dtype)
    return _solve(rows, share, as_patches(target), valid, settings)


def _geometry(rows: Patches, target: Patches, settings: Sinkhorn) -> Any:
    try:
        from softmatch_jax.matching._cosine_geometry import CosineGeometry
    except ImportError as error:
        raise InputError(
            "Sinkhorn needs ott-jax, which is not installed; install softmatch-jax[transport]."
        ) from error
    return CosineGeometry.build(
        unit(rows),
        unit(target),
        epsilon=settings.epsilon,
        held_entries=settings.held_entries,
        tile=settings.tile,
    )


def _soft_cost(
    rows: Patches, share: Array, potential: Array, target: Patches, settings: Sinkhorn
) -> Float[Array, " T"]:
    """``[T]``, soft-min over references of cost less price; ``inf`` when there are none."""
    geometry = _geometry(rows, target, settings)
    return _to_columns(geometry, potential + settings.epsilon * _log(share))


def _to_columns(geometry: Any, potential: Float[Array, " R"]) -> Float[Array, " T"]:
    start = jnp.zeros(geometry.shape[1], geometry.dtype)
    return -geometry.apply_lse_kernel(potential, start, geometry.epsilon, axis=0)[0]


def _log(weights: Array) -> Array:
    """Logarithm, ``-inf`` at zero, with derivative zero there."""
    some = weights > 0
    return jnp.where(some, jnp.log(jnp.where(some, weights, 1)), -jnp.inf)


def _solve(
    rows: Patches,
    share: Float[Array, " R"],
    target: Patches,
    valid: Bool[Array, " T"] | None,
    settings: Sinkhorn,
) -> Transport:
    geometry, epsilon = _geometry(rows, target, settings), settings.epsilon
    log_a = _log(share)
    if valid is None:
        log_b = jnp.full(target.scale.shape, -math.log(target.scale.shape[0]), share.dtype)
    else:
        counted = valid.astype(share.dtype)
        log_b = _log(counted / jnp.sum(counted))
    raw_f, raw_g, iterations = _potentials(geometry, log_a, log_b, settings)
    raw_h = _to_columns(geometry, raw_f)
    mass = jnp.where(jnp.isfinite(log_b), jnp.exp((raw_g - raw_h) / epsilon), 0)
    asked = jnp.exp(log_b - raw_g / settings.relaxation) if settings.relaxation > 0 else mass
    error = jnp.sum(jnp.where(jnp.isfinite(log_b), jnp.abs(mass - asked), 0))
    f = jnp.where(share > 0, raw_f - epsilon * log_a, 0)
    level = jnp.sum(share * f)
    g = jnp.where(jnp.isfinite(log_b), raw_g - epsilon * log_b, 0)
    if math.isinf(settings.relaxation):
        value = level + jnp.sum(jnp.exp(log_b) * g)
    elif settings.relaxation > 0:
        # ott's g carries the uniform log b once more than ours; its f makes up for it.
        value = level - epsilon * jnp.max(log_b)
    else:
        value = level
    diagnostics = Diagnostics(error <= settings.tolerance, iterations, error)
    return Transport(jnp.where(share > 0, f - level, 0), g + level, raw_h + level, mass, value, diagnostics)


def _potentials(
    geometry: Any, log_a: Float[Array, " R"], log_b: Float[Array, " T"], settings: Sinkhorn
) -> tuple[Float[Array, " R"], Float[Array, " T"], Int[Array, ""]]:
    """Potentials of the plan ``exp((f + g - C) / epsilon)``, ``-inf`` where a marginal is zero."""
    if settings.relaxation == 0:  # one half-step: no column has a price
        raw_g = settings.epsilon * log_b
        start = jnp.zeros_like(log_a)
        to_rows = geometry.apply_lse_kernel(start, raw_g, settings.epsilon, axis=1)[0]
        return settings.epsilon * log_a - to_rows, raw_g, jnp.asarray(1, jnp.int32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from ott.problems.linear import linear_problem
        from ott.solvers.linear import sinkhorn as ott_sinkhorn

    total = settings.relaxation + settings.epsilon
    hold = 1.0 if math.isinf(settings.relaxation) else settings.relaxation / total
    # The library relies on promotions that a careful caller may have forbidden.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        problem = linear_problem.LinearProblem(geometry, a=jnp.exp(log_a), b=jnp.exp(log_b), tau_b=hold)
        solver = ott_sinkhorn.Sinkhorn(
            threshold=settings.tolerance,
            inner_iterations=CHECK_EVERY,
            min_iterations=min(settings.min_iterations, settings.iterations),
            max_iterations=settings.iterations,
        )
        solved = solver(problem)
    return solved.f, solved.g, jnp.asarray(solved.n_iters, jnp.int32)
