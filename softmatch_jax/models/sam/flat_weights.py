"""A model's weights as a flat dictionary, by dotted name: what is trained, saved and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias, cast

import jax
import numpy as np
from flax import nnx

from softmatch_jax._checks import InputError
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.layers import Buffer
from softmatch_jax.models.sam.static_graph import StaticGraph
from softmatch_jax.models.sam.tiny import TinySamModel

Weights: TypeAlias = dict[str, jax.Array]


def flatten(state: Any) -> Weights:
    """The arrays of an nnx state by dotted path."""
    return {_name(path): leaf[...] for path, leaf in nnx.to_flat_state(state)}


def initial_weights(config: SamConfig, key: jax.Array) -> Weights:
    """Weights of the tiny model before training."""
    _, state = nnx.split(TinySamModel(config, rngs=nnx.Rngs(key)))
    return flatten(state)


def expected_shapes(config: SamConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every array of the tiny model."""
    _, blank = _blank(config)
    return {_name(path): tuple(leaf.shape) for path, leaf in blank}


def buffers(config: SamConfig) -> frozenset[str]:
    """Names of the arrays that are no parameters."""
    _, blank = _blank(config)
    return frozenset(_name(path) for path, leaf in blank if isinstance(leaf, Buffer))


def structure(config: SamConfig) -> StaticGraph:
    """The tiny model without its arrays, for pictures of ``config.image_size``."""
    graph, _ = _blank(config)
    return graph


def merge(config: SamConfig, weights: Mapping[str, Any]) -> TinySamModel:
    """The tiny model with its arrays.

    Args:
        config: Its sizes; ``image_size`` may differ from that which the weights were trained at.
        weights: All arrays by name.

    Raises:
        InputError: One is missing or has another shape.
    """
    shapes = expected_shapes(config)
    wrong = [name for name in shapes if name not in weights or np.shape(weights[name]) != shapes[name]]
    if wrong:
        raise InputError(
            f"{len(wrong)} of {len(shapes)} arrays of the tiny model are missing or of another shape "
            f"({wrong[0]}); expected all as initial_weights makes them."
        )
    graph, blank = _blank(config)
    filled = [(path, leaf.replace(weights[_name(path)])) for path, leaf in blank]
    model: TinySamModel = graph.merge(nnx.from_flat_state(filled))
    return model


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


@lru_cache(maxsize=8)
def _blank(config: SamConfig) -> tuple[StaticGraph, tuple[tuple[tuple[Any, ...], Any], ...]]:
    """Structure, and variables by path with shapes in place of values; not to be changed."""
    rngs = cast(nnx.Rngs, _OneKey())
    graph, state = nnx.split(nnx.eval_shape(lambda: TinySamModel(config, rngs=rngs)))
    return StaticGraph(graph), tuple(nnx.to_flat_state(state))


class _OneKey:
    """Stands in for ``nnx.Rngs`` where values do not matter: to trace its counters takes most of a second."""

    def __init__(self) -> None:
        self._key = jax.random.key(0)

    def params(self) -> jax.Array:
        return self._key

    __call__ = params
