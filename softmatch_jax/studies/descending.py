"""Gradient descent on the prompts themselves, until the loss gets no better (ProSAM, section 9)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from softmatch_jax.models.optional import require
from softmatch_jax.models.prosam.config import DistributionConfig
from softmatch_jax.models.prosam.distribution import PromptDistribution, sample
from softmatch_jax.models.prosam.frozen_sam import FrozenSam, Scene
from softmatch_jax.studies.curvature import prompt_loss
from softmatch_jax.studies.descent_config import DescentSettings

Loss = Callable[[Any, jax.Array], Float[Array, ""]]
"""From parameters and the key of an epoch to a number."""


class Rule(NamedTuple):
    """How parameters move and when they stop; numbers, so that other ones need no compilation.

    Attributes:
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        improvement: Only a loss that is lower by more than this counts as better.
        patience: Epochs without a better loss after which a run ends.
        epochs: Most epochs.
    """

    learning_rate: Any
    weight_decay: Any
    improvement: Any
    patience: Any
    epochs: Any

    @classmethod
    def of(cls, settings: DescentSettings) -> Rule:
        """That of the settings."""
        return cls(*(getattr(settings, name) for name in cls._fields))


class Ended(NamedTuple):
    """Where a descent ended; several have a leading axis.

    Attributes:
        params: The parameters.
        loss: Of the last epoch, before its step.
        epochs: How many there were.
        settled: Whether the loss had stopped improving; otherwise the number of epochs was at its limit.
    """

    params: Any
    loss: Float[Array, "*runs"]
    epochs: Int[Array, "*runs"]
    settled: Bool[Array, "*runs"]


class Problem(NamedTuple):
    """A picture and its true mask for a frozen SAM; arrays, handed to compiled functions.

    Attributes:
        weights: The SAM's.
        scene: Of the picture.
        truth: Share of each cell of the raster that is object.
        inside: Which cells lie in the picture.
    """

    weights: Any
    scene: Scene
    truth: Float[Array, "side side"]
    inside: Bool[Array, "side side"]


class _State(NamedTuple):
    params: Any
    moments: Any
    loss: Array
    best: Array
    since: Array
    epoch: Array


def descend(loss: Loss, start: Any, rule: Rule, *, key: jax.Array) -> Ended:
    """Runs AdamW until the loss has not been better for a while; pure and traceable.

    Args:
        loss: What to make small.
        start: The parameters at the start, a pytree.
        rule: Rate, and when to end.
        key: Of the epochs.

    Raises:
        InputError: Optax is not installed.
    """
    adamw = require("optax", extra="train").adamw(rule.learning_rate, weight_decay=rule.weight_decay)

    def goes_on(state: _State) -> Array:
        return (state.since < rule.patience) & (state.epoch < rule.epochs)

    def step(state: _State) -> _State:
        value, slope = jax.value_and_grad(loss)(state.params, jax.random.fold_in(key, state.epoch))
        moves, moments = adamw.update(slope, state.moments, state.params)
        better = value < state.best - rule.improvement
        return _State(
            params=jax.tree.map(jnp.add, state.params, moves),
            moments=moments,
            loss=value,
            best=jnp.where(better, value, state.best),
            since=jnp.where(better, 0, state.since + 1),
            epoch=state.epoch + 1,
        )

    infinite = jnp.asarray(jnp.inf, jnp.float32)
    first = _State(start, adamw.init(start), infinite, infinite, jnp.asarray(0), jnp.asarray(0))
    last = jax.lax.while_loop(goes_on, step, first)
    return Ended(last.params, last.loss, last.epoch, last.since >= rule.patience)


def starting_prompts(
    settings: DescentSettings, shape: tuple[int, int], *, key: jax.Array
) -> Float[Array, "count prompts dim"]:
    """Where the sets of prompts start, a few more of them than runs: whole chunks share one program."""
    chunk = min(settings.chunk, settings.runs)
    count = -(-settings.runs // chunk) * chunk
    return settings.std * jax.random.normal(key, (count, *shape))


def learn_prompts(
    sam: FrozenSam, problem: Problem, settings: DescentSettings, shape: tuple[int, int], *, key: jax.Array
) -> Ended:
    """Learns ``settings.runs`` sets of prompts ``[prompts, dim]``, each from a start of its own.

    A run that has ended stays as it is while others of its chunk go on.
    """
    chunk = min(settings.chunk, settings.runs)
    starts = starting_prompts(settings, shape, key=key)
    count = len(starts)
    ended = [
        jax.device_get(_learn(sam, problem, starts[first : first + chunk], Rule.of(settings)))
        for first in range(0, count, chunk)
    ]
    return jax.tree.map(lambda *parts: np.concatenate(parts)[: settings.runs], *ended)


def learn_distribution(
    sam: FrozenSam, problem: Problem, settings: DescentSettings, shape: tuple[int, int], *, key: jax.Array
) -> Ended:
    """Learns one distribution of prompts ``[prompts, dim]``, for the mean loss of K samples."""
    start_key, key = jax.random.split(key)
    mean = jnp.zeros(shape)
    if settings.mean_start == "drawn":
        mean = settings.std * jax.random.normal(start_key, shape)
    start = PromptDistribution(mean, jnp.full(shape, settings.log_sigma, mean.dtype))
    ended: Ended = _learn_distribution(
        sam,
        problem,
        start,
        Rule.of(settings),
        key,
        family=settings.distribution,
        samples=settings.samples,
    )
    return ended


@partial(jax.jit, static_argnames="sam")
def _learn(sam: FrozenSam, problem: Problem, starts: Array, rule: Rule) -> Ended:
    loss = prompt_loss(sam, *problem)
    unused = jax.random.key(0)
    return jax.vmap(lambda start: descend(lambda z, _: loss(z), start, rule, key=unused))(starts)


@partial(jax.jit, static_argnames=("sam", "family", "samples"))
def _learn_distribution(
    sam: FrozenSam,
    problem: Problem,
    start: PromptDistribution,
    rule: Rule,
    key: jax.Array,
    *,
    family: DistributionConfig,
    samples: int,
) -> Ended:
    one = jax.vmap(prompt_loss(sam, *problem))

    def loss(params: PromptDistribution, key: jax.Array) -> Array:
        return one(sample(params, family, samples, key=key)).mean()

    return descend(loss, start, rule, key=key)
