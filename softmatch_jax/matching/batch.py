"""Many targets at once: padded to shared shapes, vmapped, and spread over devices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float

from softmatch_jax._checks import InputError, check_shape
from softmatch_jax.matching._match_map import MatchMap
from softmatch_jax.matching._values import check_result
from softmatch_jax.matching.interface import check_temperature, match_patches
from softmatch_jax.matching.state import ReferenceState, bucket


def match_batch(
    state: ReferenceState,
    targets: Float[Array, "B T d"] | Sequence[Float[Array, "_ d"]],
    *,
    temperature: float,
    valid: Bool[Array, "B T"] | None = None,
    mesh: Mesh | None = None,
    normalized: bool = False,
) -> MatchMap | list[MatchMap]:
    """Matches one prepared reference against many targets in one compiled call.

    Targets and their number are padded to buckets, so that differing sizes share few programs: at most
    eight between one power of two and the next. Padding changes no result.

    Args:
        state: From :func:`~softmatch_jax.matching.prepare` or :func:`~softmatch_jax.matching.stack`.
        targets: ``[B, T, d]``, or a sequence of ``[T_i, d]`` of different sizes.
        temperature: Softmax temperature, above 0.
        valid: ``[B, T]``, false on padding of your own; only with ``targets`` as one array.
        mesh: Devices to spread the targets over, along the mesh's first axis. Each target is matched on
            one device, so results are those of one device, to rounding.
        normalized: Promises that all features have unit norm, and saves a pass over them.

    Returns:
        One match map with a leading axis ``B``, or a list with one for each target of a sequence.

    Raises:
        InputError: As :func:`~softmatch_jax.matching.match`; the sentence names the target.
    """
    if not isinstance(state, ReferenceState):
        raise InputError("match_batch got features; expected a ReferenceState (call prepare first).")
    check_temperature(state, temperature)
    ragged = not hasattr(targets, "ndim")
    if ragged and valid is not None:
        raise InputError(
            "valid goes with one [B, T, d] array only; expected None with a sequence of targets."
        )
    shards = 1 if mesh is None else mesh.devices.shape[0]
    block, mask, sizes = _pad(state, targets, valid, shards)
    if mesh is not None:
        mesh = Mesh(mesh.devices, mesh.axis_names)  # of automatic axes, whatever they were
        spread = NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))  # type: ignore[no-untyped-call]
        block, mask = jax.device_put((block, mask), spread)
        state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))  # type: ignore[no-untyped-call]
    found, alarms = _match_many(state, block, mask, temperature, normalized=normalized)
    for number in np.flatnonzero(np.asarray(alarms)[: len(sizes)]):
        one = jax.tree.map(lambda leaf, number=number: leaf[number], found)
        check_result(one, block[number], mask[number], f"target {number}")
    if not ragged:
        return _shorten(jax.tree.map(lambda leaf: leaf[: len(sizes)], found), sizes[0])
    host = jax.device_get(found)  # cut there: on the device every size would be compiled for
    return [jax.tree.map(jnp.asarray, _crop(host, number, size)) for number, size in enumerate(sizes)]


def _pad(state: ReferenceState, targets: Any, valid: Any, shards: int) -> tuple[Any, Any, list[int]]:
    """Targets as ``[B', T', d]`` with flags, and their sizes; padding is zero and not valid."""
    count = len(targets)
    if not count:
        raise InputError("match_batch got no targets; expected at least one.")
    together = hasattr(targets, "ndim")
    if together:
        check_shape(
            "targets", targets, (None, None, state.dim), "targets by patches by the reference's dimensions"
        )
    for number, target in enumerate(targets[:1] if together else targets):
        check_shape(f"target {number}", target, (None, state.dim), "patches by the reference's dimensions")
        if not target.shape[0]:
            raise InputError(f"target {number} has shape {list(target.shape)}; expected some patches.")
    sizes = [targets.shape[1]] * count if together else [int(target.shape[0]) for target in targets]
    rows = -(-_batch_bucket(count) // shards) * shards
    columns = bucket(max(sizes))
    if together:
        flags_given = np.ones((count, sizes[0]), bool) if valid is None else np.asarray(valid)
        check_shape("valid", flags_given, (count, sizes[0]), "targets by patches")
        for empty in np.flatnonzero(~flags_given.any(axis=1)):
            raise InputError(f"target {empty} has no valid patch; expected at least one that is not padding.")
        mask = np.pad(flags_given, ((0, rows - count), (0, columns - sizes[0])))
        if (rows, columns) == targets.shape[:2]:
            return targets, jnp.asarray(mask), sizes
        pad = ((0, rows - count), (0, columns - sizes[0]), (0, 0))
        return jnp.pad(jnp.asarray(targets), pad), jnp.asarray(mask), sizes
    dtype = np.result_type(*(np.asarray(target[:0]).dtype for target in targets))
    block: np.ndarray = np.zeros((rows, columns, state.dim), dtype)
    for number, target in enumerate(targets):
        block[number, : sizes[number]] = np.asarray(target)
    flags = np.arange(columns)[None, :] < np.array([*sizes, *[0] * (rows - count)])[:, None]
    return jnp.asarray(block), jnp.asarray(flags), sizes


def _batch_bucket(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()


@partial(jax.jit, static_argnames="normalized")
def _match_many(
    state: ReferenceState, targets: Any, valid: Any, temperature: Any, *, normalized: bool
) -> tuple[MatchMap, Array]:
    """Every target against every class."""

    def one_target(target: Any, flags: Any) -> tuple[MatchMap, Array]:
        # A target of nothing but padding, which fills up the batch, is matched as if all were valid.
        used = flags | ~jnp.any(flags)
        found, alarms = match_patches(state, target, used, temperature, normalized=normalized)
        return found, jnp.zeros((), jnp.int32) if alarms is None else jnp.where(jnp.any(flags), alarms, 0)

    return jax.vmap(one_target)(targets, valid)


def _crop(found: MatchMap, number: int, size: int) -> MatchMap:
    """The result of one target, without its padding."""
    return _shorten(jax.tree.map(lambda leaf: leaf[number], found), size)


def _shorten(found: MatchMap, size: int) -> MatchMap:
    return found._replace(log_probability=found.log_probability[..., :size], score=found.score[..., :size])
