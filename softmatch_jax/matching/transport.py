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

Solved by ott-jax's Sinkhorn, and differentiated as a fixed point by the implicit function theorem.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from softmatch_jax._checks import InputError, check_positive
from softmatch_jax.matching._features import (
    Patches,
    as_patches,
    check_pair,
    check_weights,
    normalised_weights,
    safe_log,
    unit,
)
from softmatch_jax.matching._match_map import Diagnostics, MatchMap, match_map
from softmatch_jax.matching._statistics import Rows, mask_of, nothing_shared, rows_of

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
        diagnostics: Iterations, and the L1 distance of the plan's row masses from ``a``, its columns being
            optimal.
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
        tolerance: L1 error of the plan's marginals at which to stop.
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
    return _to_columns(geometry, potential + settings.epsilon * safe_log(share))


def _to_columns(geometry: Any, potential: Float[Array, " R"]) -> Float[Array, " T"]:
    start = jnp.zeros(geometry.shape[1], geometry.dtype)
    return -geometry.apply_lse_kernel(potential, start, geometry.epsilon, axis=0)[0]


def _log_floored(weights: Float[Array, " n"]) -> Float[Array, " n"]:
    """Logarithm of weights, those of zero raised to far below the rounding of the others' sum.

    A marginal of exactly zero would leave the implicit derivative 0 / 0, of padding too.
    """
    floor = 0.01 * np.finfo(weights.dtype).eps / weights.shape[0]
    return jnp.log(jnp.maximum(weights, floor))


def _solve(
    rows: Patches,
    share: Float[Array, " R"],
    target: Patches,
    valid: Bool[Array, " T"] | None,
    settings: Sinkhorn,
) -> Transport:
    """Everything but the iteration itself, as a function of the optimal reference potential."""
    geometry, epsilon, relaxation = _geometry(rows, target, settings), settings.epsilon, settings.relaxation
    used = mask_of(target, valid)
    even = used.astype(share.dtype) / jnp.sum(used, dtype=share.dtype)
    log_a, log_b = _log_floored(share), _log_floored(even)
    potential, iterations = _optimal(geometry, log_a, log_b, settings)
    soft_cost, raw_g = _columns(geometry, potential, log_b, relaxation)
    again = _rows(geometry, raw_g, log_a)
    error = jnp.sum(share * jnp.abs(jnp.expm1((potential - again) / epsilon)))
    diagnostics = Diagnostics(error <= settings.tolerance, iterations, error)
    f = jnp.where(share > 0, potential - epsilon * log_a, 0)
    level = jnp.sum(share * f)
    mass = jnp.where(used, jnp.exp((raw_g - soft_cost) / epsilon), 0)
    g = jnp.where(used, raw_g - epsilon * log_b, 0)
    value = level
    if math.isinf(relaxation):
        value = level + jnp.sum(even * g)
    elif relaxation > 0:
        # raw_g carries the uniform log b once more than g does; the other potential makes up for it.
        value = level - epsilon * jnp.max(log_b)
    f, g = jnp.where(share > 0, f - level, 0), jnp.where(used, g + level, 0)
    return Transport(f, g, soft_cost + level, mass, value, diagnostics)


def _columns(
    geometry: Any, potential: Float[Array, " R"], log_b: Float[Array, " T"], relaxation: float
) -> tuple[Float[Array, " T"], Float[Array, " T"]]:
    """Soft-min costs of the columns, and their optimal potential given that of the rows."""
    soft_cost, epsilon = _to_columns(geometry, potential), geometry.epsilon
    hold = 1.0 if math.isinf(relaxation) else relaxation / (relaxation + epsilon)
    free = epsilon * log_b  # no price at all
    return soft_cost, free if relaxation == 0 else hold * (free + soft_cost)


def _rows(geometry: Any, potential: Float[Array, " T"], log_a: Float[Array, " R"]) -> Float[Array, " R"]:
    """Optimal potential of the rows given that of the columns."""
    start = jnp.zeros(geometry.shape[0], geometry.dtype)
    return geometry.epsilon * log_a - geometry.apply_lse_kernel(start, potential, geometry.epsilon, axis=1)[0]


def _optimal(
    geometry: Any, log_a: Float[Array, " R"], log_b: Float[Array, " T"], settings: Sinkhorn
) -> tuple[Float[Array, " R"], Int[Array, ""]]:
    """Row potential ``f`` of the plan ``exp((f + g - C) / epsilon)``, and the iterations taken.

    It is a fixed point of one round of Sinkhorn, and differentiated as one: no iteration is unrolled.
    ott's own implicit derivative did not survive single precision on balanced problems.
    """
    if settings.relaxation == 0:  # the columns are free: no iteration
        return _rows(geometry, settings.epsilon * log_b, log_a), jnp.asarray(1, jnp.int32)
    found, iterations = _iterate(*jax.lax.stop_gradient((geometry, log_a, log_b)), settings)
    return _fixed_point(settings.relaxation, found, geometry, log_a, log_b), iterations


def _away(
    relaxation: float,
    potential: Float[Array, " R"],
    geometry: Any,
    log_a: Float[Array, " R"],
    log_b: Float[Array, " T"],
) -> Float[Array, " R"]:
    """How far a row potential is from its fixed point: zero at the optimum."""
    again = _rows(geometry, _columns(geometry, potential, log_b, relaxation)[1], log_a)
    if math.isinf(relaxation):
        # A constant may move from f to g; taking it out leaves the linear system below regular.
        share = jnp.exp(log_a)
        again = again - (share @ (again - potential)) / jnp.sum(share) - share @ potential
    return potential - again


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fixed_point(
    relaxation: float,
    found: Float[Array, " R"],
    geometry: Any,
    log_a: Float[Array, " R"],
    log_b: Float[Array, " T"],
) -> Float[Array, " R"]:
    """The potential that was found, as a differentiable function of the problem."""
    return found


def _fixed_point_forward(relaxation: float, *given: Any) -> tuple[Array, Any]:
    return given[0], given


def _fixed_point_backward(relaxation: float, given: Any, cotangent: Array) -> Any:
    """The implicit function theorem: one symmetric linear system, whatever the iterations were."""
    found, *problem = given
    # A round's Jacobian is self-adjoint in the inner product that the row masses weigh.
    half = jnp.exp(problem[1] / 2)

    def system(scaled: Float[Array, " R"]) -> Float[Array, " R"]:
        def away(potential: Float[Array, " R"]) -> Float[Array, " R"]:
            return _away(relaxation, potential, *problem)

        return half * jax.jvp(away, (found,), (scaled / half,))[1]

    tolerance = 10 * float(np.finfo(cotangent.dtype).eps)
    solve: Any = jax.scipy.sparse.linalg.cg
    adjoint = half * solve(system, cotangent / half, tol=tolerance, maxiter=1000)[0]
    _, pull = jax.vjp(lambda *problem: _away(relaxation, found, *problem), *problem)
    return (jnp.zeros_like(found), *pull(-adjoint))


_fixed_point.defvjp(_fixed_point_forward, _fixed_point_backward)


def _iterate(
    geometry: Any, log_a: Float[Array, " R"], log_b: Float[Array, " T"], settings: Sinkhorn
) -> tuple[Float[Array, " R"], Int[Array, ""]]:
    """Runs ott-jax's Sinkhorn."""
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
    return solved.f, jnp.asarray(solved.n_iters, jnp.int32)
