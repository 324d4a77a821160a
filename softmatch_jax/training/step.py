"""One step of a training: gradient, update, running average; compiled as a whole, its state donated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from softmatch_jax.training.config import TrainConfig
from softmatch_jax.training.optimisation import (
    average,
    decayed_leaves,
    join,
    learning_rate,
    optimiser,
    split,
    trained_leaves,
)
from softmatch_jax.training.sharding import dealt_parts, replicated
from softmatch_jax.training.task import Metrics, Parameters, Task

DeviceBatch: TypeAlias = Mapping[str, jax.Array]

_INIT = 2**32 - 1
"""Folded into the key for the parameters; no step has this number."""


class TrainState(NamedTuple):
    """All that a step changes.

    Attributes:
        trained: The trained leaves of the parameters, ``None`` elsewhere.
        fixed: The other leaves.
        average: Running average of the trained leaves.
        moments: State of the optimiser.
        step: Number of the next step.
        skipped: Steps that were not finite.
        in_a_row: How many of them were the last.
    """

    trained: Any
    fixed: Any
    average: Any
    moments: Any
    step: jax.Array
    skipped: jax.Array
    in_a_row: jax.Array

    @property
    def params(self) -> Parameters:
        """The parameters as the task made them."""
        return join(self.trained, self.fixed)

    @property
    def averaged(self) -> Parameters:
        """The parameters with their running average in place of what is trained."""
        return join(self.average, self.fixed)


class Outcome(NamedTuple):
    """What one step says; all scalars, on the device.

    Attributes:
        values: The loss, the norm of the gradient before clipping as ``grad_norm``, and the task's metrics.
        learning_rate: The rate.
        finite: Whether loss and gradient were finite; if not, nothing was updated.
        skipped: Steps so far that were not finite.
        in_a_row: How many of them were the last.
    """

    values: Metrics
    learning_rate: jax.Array
    finite: jax.Array
    skipped: jax.Array
    in_a_row: jax.Array


Step: TypeAlias = Callable[[TrainState, DeviceBatch], tuple[TrainState, Outcome]]


def start_state(task: Task, config: TrainConfig, mesh: Mesh) -> TrainState:
    """The state before the first step, on every device of ``mesh``.

    Raises:
        InputError: A leaf that is to be trained holds no floating-point numbers.
    """
    params = jax.tree.map(jnp.asarray, task.init(jax.random.fold_in(jax.random.key(config.seed), _INIT)))
    part, rest = split(params, trained_leaves(task, params))
    moments = _optimiser(task, config, params).init(part)
    # Counters and average of their own: a donated array must not be there twice.
    state = TrainState(part, rest, part, moments, jnp.int32(0), jnp.int32(0), jnp.int32(0))
    return jax.tree.map(lambda leaf: jax.device_put(jnp.array(leaf), replicated(mesh)), state)


def make_step(task: Task, config: TrainConfig, mesh: Mesh) -> Step:
    """The step of ``task``, compiled once for each variant of the batch; it consumes the state it is given.

    The batch is shared by the devices of ``mesh`` along its leading axis, the state is on each. A batch is
    cut into ``config.accumulate`` parts, one after the other, whose losses and gradients are averaged. The
    keys are ``fold_in(key(seed), step)``, with the number of the part folded in where there are several.
    """
    rate = learning_rate(config)
    root = jax.random.key(config.seed)

    def step(state: TrainState, batch: DeviceBatch) -> tuple[TrainState, Outcome]:
        def loss(part: Any, batch: DeviceBatch, key: jax.Array) -> tuple[jax.Array, Metrics]:
            return task.loss(join(part, state.fixed), batch, key)

        key = jax.random.fold_in(root, state.step)
        gradient, mean, metrics = _gradient(loss, state.trained, batch, key, config.accumulate, mesh)
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(mean) & jnp.isfinite(norm)
        pace = rate(state.step)
        updated = _update(task, config, state, gradient, pace)
        # One program for both cases: the old values are chosen where the new ones are worthless.
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)
        state = kept._replace(
            step=state.step + 1,
            skipped=state.skipped + (~finite).astype(jnp.int32),
            in_a_row=jnp.where(finite, 0, state.in_a_row + 1),
        )
        values: Metrics = {"loss": mean, **metrics, "grad_norm": norm}
        return state, Outcome(values, pace, finite, state.skipped, state.in_a_row)

    return jax.jit(step, donate_argnums=0)


def _update(task: Task, config: TrainConfig, state: TrainState, gradient: Any, rate: jax.Array) -> TrainState:
    """The state after a finite step, its counters untouched."""
    directions, moments = _optimiser(task, config, state.params).update(
        gradient, state.moments, state.trained
    )
    trained = jax.tree.map(lambda p, d: p - (rate * d).astype(p.dtype), state.trained, directions)
    mean = average(state.average, trained, config.ema_decay, state.step - state.skipped)
    return state._replace(trained=trained, average=mean, moments=moments)


def _optimiser(task: Task, config: TrainConfig, params: Parameters) -> optax.GradientTransformation:
    trained = trained_leaves(task, params)
    decayed, _ = split(decayed_leaves(task, params), trained)
    return optimiser(config, decayed)


def _gradient(
    loss: Callable[..., Any],
    params: Any,
    batch: DeviceBatch,
    key: jax.Array,
    accumulate: int,
    mesh: Mesh,
) -> tuple[Any, jax.Array, Metrics]:
    """Gradient, loss and metrics, as means over the parts of the batch."""

    def one(batch: DeviceBatch, key: jax.Array) -> tuple[Any, jax.Array, Metrics]:
        (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(params, batch, key)
        return gradient, value, metrics

    if accumulate == 1:
        return one(batch, key)

    def parted(array: jax.Array) -> jax.Array:
        # Every n-th picture makes a part, so that each device cuts up what it has.
        return dealt_parts(jnp.moveaxis(array.reshape(-1, accumulate, *array.shape[1:]), 1, 0), mesh)

    def add(total: Any, part: tuple[DeviceBatch, jax.Array]) -> tuple[Any, None]:
        pictures, number = part
        new = one(pictures, jax.random.fold_in(key, number))
        return jax.tree.map(lambda a, b: a + b / accumulate, total, new), None

    parts = (jax.tree.map(parted, dict(batch)), jnp.arange(accumulate, dtype=jnp.uint32))
    shapes = jax.eval_shape(one, jax.tree.map(lambda a: a[0], parts[0]), key)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, parts)
    return total
