"""The front door of matching: :func:`prepare` a reference once, :func:`match` it against targets.

This is where the mathematics is compiled. The functions may also be called inside ``jit``, ``vmap`` and
``grad``; what depends on values (checks, leaving out patches without weight) is then skipped.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from softmatch_jax._checks import InputError, check_positive, check_rank
from softmatch_jax.matching._features import as_patches, check_weights, wide
from softmatch_jax.matching._match_map import MatchMap
from softmatch_jax.matching._statistics import Method, is_traced, mask_of
from softmatch_jax.matching._values import check_directions, check_result, check_weight_values, in_use
from softmatch_jax.matching.arithmetic import Arithmetic
from softmatch_jax.matching.assignment import Hungarian
from softmatch_jax.matching.bidirectional import Bidirectional
from softmatch_jax.matching.cumulant import Cumulant
from softmatch_jax.matching.geometric import Geometric, GeometricDense
from softmatch_jax.matching.quadratic import Quadratic
from softmatch_jax.matching.random_feature_matching import RandomFeatures
from softmatch_jax.matching.random_features import FeatureMap
from softmatch_jax.matching.state import ReferenceState, bucket
from softmatch_jax.matching.transport import Sinkhorn

METHODS: dict[str, Method] = {
    "geometric": Geometric(),
    "geometric_dense": GeometricDense(),
    "quadratic": Quadratic(),
    "arithmetic": Arithmetic(),
    "cumulant": Cumulant(),
    "bidirectional": Bidirectional(),
    "random_features": RandomFeatures(),
    "sinkhorn": Sinkhorn(),
    "hungarian": Hungarian(),
}
"""Every method by name, with its default settings."""


def prepare(
    reference: Float[Array, "R d"],
    *,
    method: str | Method = "geometric",
    weights: Float[Array, " R"] | None = None,
    background: Float[Array, " R"] | None = None,
    temperature: float | Array | None = None,
    key: jax.Array | None = None,
    like: ReferenceState | FeatureMap | None = None,
    normalized: bool = False,
) -> ReferenceState:
    """Boils a reference set down to what a method needs of it.

    Args:
        reference: ``[R, d]``, features of the patches of one or more reference pictures; any length.
        method: A name in :data:`METHODS`, or settings such as ``Sinkhorn(epsilon=0.1)``.
        weights: ``[R]``, non-negative: how much each patch is part of the object, for instance the share
            that the mask covers. All one when ``None``. They are not normalised, so that in a sum of
            states every reference counts by its total weight.
        background: ``[R]``, non-negative: how much each patch is part of what surrounds the object.
        temperature: Needed by ``random_features`` only, whose features depend on it.
        key: Random key, for the methods that need one (``cumulant``, ``random_features``).
        like: The random features to use, in place of drawing some: a state to which this one is to be
            added, or what :func:`make_feature_map` made with anchors of your own.
        normalized: Promises that the features have unit norm, and saves a pass over them.

    Returns:
        The state; see :class:`ReferenceState` for what can be done with it.

    Raises:
        InputError: Wrong shapes, no patches, NaN or zero vectors of positive weight, weights that are
            negative or sum to zero, an unknown method, or no key where one is needed.
    """
    method = _method(method)
    check_rank("reference", reference, 2, "[patches, d]")
    if 0 in reference.shape:
        raise InputError(
            f"reference has shape {list(reference.shape)}; expected at least one patch and dimension."
        )
    check_weights("weights", weights, reference)
    check_weights("background", background, reference)
    shared = _shared_of(like, method)
    _check_randomness(method, shared, temperature, key)
    rest = background
    if method.needs_rest and background is None and weights is not None:
        rest = ~jnp.asarray(weights).astype(bool)
    sides: list[Any]
    if is_traced(reference, weights, background):
        sides = [_all_rows(reference, weights), None if rest is None else _all_rows(reference, rest)]
    else:
        check_weight_values(weights, background)
        sides = [
            _weighted_rows(reference, weights),
            None if rest is None else _weighted_rows(reference, rest),
        ]
    state, faults = _prepare(*sides, shared, temperature, key, method=method, normalized=normalized)
    if not is_traced(faults) and int(faults):
        check_directions("reference", reference, in_use(reference, weights, background))
    return state


def match(
    reference: Float[Array, "R d"] | ReferenceState,
    target: Float[Array, "T d"],
    *,
    method: str | Method | None = None,
    temperature: float | Array,
    weights: Float[Array, " R"] | None = None,
    background: Float[Array, " R"] | None = None,
    valid: Bool[Array, " T"] | None = None,
    key: jax.Array | None = None,
    normalized: bool = False,
) -> MatchMap:
    """Finds the reference in a target: log-probabilities over target patches, evidence, diagnostics.

    Args:
        reference: ``[R, d]`` features, or what :func:`prepare` made of them. A stacked state matches all
            its classes and gives every result a leading axis.
        target: ``[T, d]``, features of the target patches; any length.
        method: A name in :data:`METHODS` or settings; geometric when ``None``. Left out with a state,
            which carries its own.
        temperature: Softmax temperature, above 0.
        weights: ``[R]``, as in :func:`prepare`; left out with a state.
        background: ``[R]``, likewise. With it the score is the log-ratio of object to surroundings.
        valid: ``[T]``, false on padding.
        key: Random key for the methods that need one; left out with a state.
        normalized: Promises that all features have unit norm, which saves a pass over them and the wait
            for the look at what came out.

    Returns:
        The match map. Diagnostics tell whether an iteration converged; if it did not, a
        :class:`ConvergenceWarning` is issued as well, except under ``jit``, ``vmap`` and ``grad``.

    Raises:
        InputError: As :func:`prepare`, and for dimensions that differ, a temperature that is not
            positive, NaN or zero vectors among the valid target patches, or arguments that a state
            already answers.
    """
    state = _as_state(reference, method, temperature, weights, background, key, normalized)
    check_temperature(state, temperature)
    found, alarms = match_patches(state, target, valid, temperature, normalized=normalized)
    if alarms is not None and not is_traced(alarms) and int(alarms):
        check_result(found, target, valid, "target")
    return found


def _as_state(
    reference: Any, method: Any, temperature: Any, weights: Any, background: Any, key: Any, normalized: bool
) -> ReferenceState:
    """The state as given, or one prepared from features."""
    if isinstance(reference, ReferenceState) and method is weights is background is key is None:
        return reference
    if not isinstance(reference, ReferenceState):
        method = "geometric" if method is None else method
        return prepare(
            reference,
            method=method,
            weights=weights,
            background=background,
            temperature=temperature,
            key=key,
            normalized=normalized,
        )
    given = {"weights": weights, "background": background, "key": key}
    if method is not None and _method(method) != reference.method:
        given["method"] = method
    extra = [name for name, value in given.items() if value is not None]
    if extra:
        raise InputError(
            f"match got a prepared state and also {', '.join(extra)}; expected these in prepare alone."
        )
    return reference


def _method(method: str | Method) -> Method:
    if isinstance(method, str):
        if method not in METHODS:
            raise InputError(f"method is {method!r}; expected one of {', '.join(METHODS)}.")
        return METHODS[method]
    if not isinstance(method, tuple(type(one) for one in METHODS.values())):
        raise InputError(
            f"method is {method!r}; expected a name ({', '.join(METHODS)}) or settings such as Sinkhorn()."
        )
    return method


def _shared_of(like: ReferenceState | FeatureMap | None, method: Method) -> FeatureMap | None:
    """The random features asked for."""
    if isinstance(like, ReferenceState):
        if like.method != method:
            raise InputError(f"like was prepared for {like.method}; expected {method}.")
        return like.shared
    if like is not None and not isinstance(method, RandomFeatures):
        raise InputError(f"{_name(method)} uses no random features; expected no feature map as like.")
    return like


def _check_randomness(method: Method, shared: Any, temperature: Any, key: Any) -> None:
    """Raises ``InputError`` when a method cannot draw what it needs."""
    if method.needs_key and key is None and shared is None:
        raise InputError(f"{_name(method)} draws random numbers; expected key=jax.random.key(seed).")
    if isinstance(method, RandomFeatures) and method.mean == "arithmetic" and shared is None:
        if temperature is None:
            raise InputError(
                "Random features depend on the temperature; expected temperature=... in prepare."
            )
        if not is_traced(temperature):
            check_positive("temperature", float(temperature))


def _name(method: Method) -> str:
    return next(name for name, one in METHODS.items() if type(one) is type(method))


def _all_rows(reference: Array, weights: Array | None) -> tuple[Array, Array | None, Array | None]:
    """Features, weights and validity of every row; ``None`` for all one and all true."""
    return reference, None if weights is None else jnp.asarray(weights).astype(wide(reference.dtype)), None


def _weighted_rows(
    reference: Array, weights: Array | None
) -> tuple[Array, Array | np.ndarray | None, np.ndarray | None]:
    """The rows of positive weight, padded to a bucket; all of them, as they are, when they fill it."""
    count = reference.shape[0]
    if weights is None and bucket(count) == count:
        return reference, None, None
    given: np.ndarray = np.ones(count) if weights is None else np.asarray(weights)
    chosen = np.flatnonzero(given > 0)
    size = bucket(max(len(chosen), 1))
    places: np.ndarray = np.zeros(size, np.int32)
    places[: len(chosen)] = chosen
    valid: np.ndarray = np.arange(size) < len(chosen)
    kept = np.where(valid, given[places], 0).astype(wide(reference.dtype))
    return _gather(jnp.asarray(reference), places, valid), kept, valid


@jax.jit
def _gather(features: Array, places: Array, valid: Array) -> Array:
    return jnp.where(valid[:, None], features[places], jnp.zeros((), features.dtype))


def _check_target(state: ReferenceState, target: Any, valid: Any) -> None:
    """Raises ``InputError`` unless target and flags have shapes that go with the state."""
    check_rank("target", target, 2, "[patches, d]")
    check_weights("valid", valid, target)
    if 0 in target.shape:
        raise InputError(f"target has shape {list(target.shape)}; expected some patches and dimensions.")
    if target.shape[-1] != state.dim:
        raise InputError(
            f"reference features have {state.dim} dimensions and target features {target.shape[-1]}; "
            "expected the same (use one feature extractor for both)."
        )


def check_temperature(state: ReferenceState, temperature: Any) -> None:
    """Raises ``InputError`` unless the temperature is positive and the one of the random features."""
    if isinstance(temperature, jax.core.Tracer):
        return
    if not 0 < temperature < math.inf:
        check_positive("temperature", float(temperature))
    fixed = isinstance(state.method, RandomFeatures) and state.method.mean == "arithmetic"
    if fixed and not is_traced(state.shared):
        drawn = float(state.shared.temperature)
        if not np.isclose(drawn, float(temperature), rtol=1e-5):
            raise InputError(
                f"temperature is {temperature}, but the random features were drawn for {drawn:.6g}; expected "
                "the same (prepare the reference again)."
            )


@partial(jax.jit, static_argnames=("method", "normalized"))
def _prepare(
    foreground: Any,
    background: Any,
    shared: Any,
    temperature: Any,
    key: Any,
    *,
    method: Method,
    normalized: bool,
) -> tuple[ReferenceState, Array]:
    """Statistics of both sides, and the number of patches in use that have no direction."""
    sides = [_measured(side, normalized) for side in (foreground, background)]
    keys = [None] * 3 if key is None else list(jax.random.split(key, 3))
    if shared is None:
        shared = method.share(*sides[0][:2], temperature=temperature, key=keys[0])
    inside = method.summarise(*sides[0], shared=shared, key=keys[1])
    if isinstance(method, Cumulant) and sides[1] is not None:
        sides[1] = _in_turn(sides[1], inside.factor)
    outside = None if sides[1] is None else method.summarise(*sides[1], shared=shared, key=keys[2])
    state = ReferenceState(
        method=method, dim=foreground[0].shape[1], foreground=inside, background=outside, shared=shared
    )
    faults = sum(jnp.sum((patches.scale <= 0) & (weights > 0)) for patches, weights, _ in filter(None, sides))
    return state, jnp.asarray(faults)


def _in_turn(side: Any, done: Array) -> Any:
    """One side of the reference, not to be touched before the other is ``done``.

    Two batched factorisations at once wait for each other's threads on a CPU of few cores, forever. Only a
    dependence of the data keeps the compiler from running them together.
    """
    patches, weights, valid = side
    nothing = jnp.minimum(jnp.abs(jnp.nan_to_num(jax.lax.stop_gradient(done.ravel()[0]))), 0)
    return patches, weights + nothing, valid


def _measured(side: Any, normalized: bool) -> Any:
    """Patches, weights and validity, with what was left out filled in."""
    if side is None:
        return None
    features, weights, valid = side
    patches = as_patches(features, normalized=normalized)
    weights = jnp.ones_like(patches.scale) if weights is None else weights
    return patches, weights, jnp.ones(patches.scale.shape, bool) if valid is None else valid


@partial(jax.jit, static_argnames="normalized")
def match_patches(
    state: ReferenceState, target: Any, valid: Any, temperature: Any, *, normalized: bool
) -> tuple[MatchMap, Array | None]:
    """Matches one target, every class of a stacked state.

    Returns:
        The match map, and a count of what must be looked into: target patches without direction,
        evidences that are not numbers, iterations that did not end. One number, so that nothing else
        has to come back from the device; ``None`` when unit norm is promised and nothing can stop short.
    """
    _check_target(state, target, valid)  # at tracing, so that calls of a known shape do not pay for it
    if valid is not None:  # whatever padding holds: nothing times NaN is NaN
        target = jnp.where(valid[:, None], target, jnp.zeros_like(target))
    patches = as_patches(target, normalized=normalized)

    def one_class(foreground: Any, background: Any) -> MatchMap:
        return state.method.match(
            foreground, background, patches, shared=state.shared, temperature=temperature, valid=valid
        )

    match_all = jax.vmap(one_class) if state.classes else one_class
    found = match_all(state.foreground, state.background)
    if normalized and not isinstance(state.method, Sinkhorn):
        return found, None
    alarms = jnp.sum(jnp.isnan(found.log_evidence)) + jnp.sum(~found.diagnostics.converged)
    return found, alarms + jnp.sum((patches.scale <= 0) & mask_of(patches, valid))
