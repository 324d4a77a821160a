"""What a training asks for: a task that has a loss, and a source of batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import numpy as np

Batch: TypeAlias = dict[str, np.ndarray[Any, Any]]
"""Arrays with the pictures of the batch as their leading axis. Shapes and keys may change with the step; each
variant is compiled once."""

Parameters: TypeAlias = Any
"""A pytree of arrays; float32 where they are trained."""


class Weighted(NamedTuple):
    """A metric of some pictures or regions only, such as the IoU of those that a box asks for.

    Attributes:
        total: The sum of the values, each times its weight, over the pictures of the batch or their mean.
        weight: That of the weights, zero if the metric says nothing of this batch.
    """

    total: jax.Array
    weight: jax.Array


Metrics: TypeAlias = dict[str, jax.Array | Weighted]
"""By name: scalars, whose mean over steps is told, and :class:`Weighted`, whose totals are set against their
weights."""


class Task(Protocol):
    """What is learned. A task may also be a :class:`TrainsInPart`, :class:`Decays` or :class:`Described`.

    Attributes:
        name: Of the task and its preset; a checkpoint of another name is refused.
    """

    name: str

    def init(self, key: jax.Array) -> Parameters:
        """The parameters to start from."""
        ...

    def loss(
        self, params: Parameters, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """The loss, a mean over the pictures of the batch, and metrics. Traced by JAX."""
        ...


@runtime_checkable
class TrainsInPart(Protocol):
    """A task whose parameters hold buffers."""

    def trainable(self, params: Parameters) -> Any:
        """For each leaf of ``params`` whether it is trained; the others keep their values."""
        ...


@runtime_checkable
class Decays(Protocol):
    """A task that says itself where weight decay applies; by default on leaves of two axes and more."""

    def decayed(self, params: Parameters) -> Any:
        """For each leaf of ``params`` whether it decays."""
        ...


@runtime_checkable
class Described(Protocol):
    """A task with settings, which a checkpoint must share.

    Attributes:
        settings: What JSON can hold.
    """

    settings: Mapping[str, Any]


class BatchSource(Protocol):
    """Where the batches come from.

    Attributes:
        digest: What the data and their settings are; a checkpoint of other data is refused.
    """

    digest: str

    def batch(self, seed: int, step: int) -> Batch:
        """The batch of a step: the same arrays for the same seed and step, whatever was asked before.

        Called from other threads, from several at once with ``TrainConfig.workers`` above 1.
        """
        ...
