"""How the trained parameters are moved, and their running average.

AdamW is by Loshchilov and Hutter (ICLR 2019). Muon (Jordan et al. 2024) makes the steps of matrices
orthogonal and leaves everything else to AdamW, both with Nesterov's look ahead. Its steps are scaled to the
size of AdamW's (Liu et al. 2025, 2.2), so that one rate serves both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, muon

from softmatch_jax._checks import InputError
from softmatch_jax.training.config import TrainConfig
from softmatch_jax.training.task import Decays, Parameters, Task, TrainsInPart

_SMALLEST_SIDE = 16
"""Matrices that are narrower say little about orthogonality; they are left to AdamW."""

_NEWTON_SCHULZ_STEPS = 4
_ADAM_SIZE = 0.2
"""Root mean square of AdamW's steps, about, at a rate of 1."""


def learning_rate(config: TrainConfig) -> optax.Schedule:
    """Rate by the number of the step, from 0: a linear warm-up, then half a cosine, or one after another.

    The first step has ``1 / warmup_steps`` of the highest rate, so that it is not lost. With restarts step
    ``t`` after the warm-up has the rate of step ``t mod restart_every`` of a cosine of that length (SGDR by
    Loshchilov and Hutter, ICLR 2017, eq. 5, with periods of one length).
    """
    warmup = min(config.warmup_steps, config.steps)
    left = max(config.steps - warmup, 1)
    restarts = 0 < config.restart_every < left
    period = config.restart_every if restarts else left
    falling = optax.cosine_decay_schedule(config.learning_rate, period, config.final_rate)

    def rate(step: Any) -> jax.Array:
        rising = config.learning_rate * (step + 1) / max(warmup, 1)
        since = jnp.maximum(step - warmup, 0)
        lower = falling(since % period if restarts else since)
        return jnp.where(step < warmup, rising, lower).astype(jnp.float32)

    return rate


def optimiser(config: TrainConfig, decayed: Any) -> optax.GradientTransformation:
    """Clipping and AdamW or Muon at a rate of -1; the step multiplies by the rate of its own number.

    The rate is not the optimiser's, because skipped steps count for the schedule and not for the moments.

    Args:
        config: The settings.
        decayed: For each trained leaf whether weight decay applies. Of these Muon moves those that are
            matrices of some width, a convolution's kernel being one from all that it sees to its outputs.
    """
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    if config.optimiser == "muon":
        scale = muon(
            -1.0,
            ns_steps=_NEWTON_SCHULZ_STEPS,
            adam_b1=config.beta1,
            adam_b2=config.beta2,
            consistent_rms=_ADAM_SIZE,
            muon_weight_dimension_numbers=_matrices(decayed),
        )
    else:
        scale = optax.scale_by_adam(config.beta1, config.beta2)
    return optax.chain(clip, scale, optax.add_decayed_weights(config.weight_decay, decayed))


def _matrices(decayed: Any) -> Callable[[Any], Any]:
    """A function from parameters to the axes that Muon takes for rows and columns, ``None`` for other leaves.

    Optax asks it for trees without the leaves of AdamW, too; what decays is therefore looked up by path.
    """
    decays = dict(jax.tree_util.tree_leaves_with_path(decayed))

    def axes(path: tuple[Any, ...], leaf: jax.Array) -> MuonDimensionNumbers | None:
        if not decays[path] or leaf.ndim < 2:
            return None
        *inputs, outputs = leaf.shape
        if min(math.prod(inputs), outputs) < _SMALLEST_SIDE:
            return None
        return MuonDimensionNumbers(tuple(range(len(inputs))), (len(inputs),))

    return lambda params: jax.tree_util.tree_map_with_path(axes, params)


def trained_leaves(task: Task, params: Parameters) -> Any:
    """For each leaf of ``params`` whether it is trained: by default all.

    Raises:
        InputError: A leaf that is to be trained holds no floating-point numbers.
    """
    chosen = (
        task.trainable(params) if isinstance(task, TrainsInPart) else jax.tree.map(lambda _: True, params)
    )
    for (path, leaf), wanted in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(chosen), strict=True
    ):
        if wanted and not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise InputError(
                f"The parameter {jax.tree_util.keystr(path)} of {task.name} is {leaf.dtype} and cannot be "
                "trained; expected floating-point numbers (or False for it from the task's trainable)."
            )
    return jax.tree.map(bool, chosen)


def decayed_leaves(task: Task, params: Parameters) -> Any:
    """For each leaf of ``params`` whether weight decay applies: by default to two axes or more.

    These are the kernels; biases and the gains of norms have one axis.
    """
    if isinstance(task, Decays):
        return jax.tree.map(bool, task.decayed(params))
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


def split(params: Any, trained: Any) -> tuple[Any, Any]:
    """The trained leaves and the others, each with ``None`` in place of what it lacks."""
    part = jax.tree.map(lambda leaf, wanted: leaf if wanted else None, params, trained)
    rest = jax.tree.map(lambda leaf, wanted: None if wanted else leaf, params, trained)
    return part, rest


def join(part: Any, rest: Any) -> Any:
    """What :func:`split` took apart."""
    return jax.tree.map(lambda a, b: b if a is None else a, part, rest, is_leaf=lambda leaf: leaf is None)


def average(mean: Any, params: Any, decay: float, updates: jax.Array) -> Any:
    """The running average after one more update: ``mean + (1 - d) (params - mean)``.

    The memory ``d = min(decay, (1 + n) / (10 + n))`` grows with the number ``n`` of updates before, so that
    the parameters of the start are soon forgotten.
    """
    n = updates.astype(jnp.float32)
    memory = jnp.minimum(jnp.float32(decay), (1 + n) / (10 + n))
    return jax.tree.map(lambda m, p: m + (1 - memory).astype(p.dtype) * (p - m), mean, params)
