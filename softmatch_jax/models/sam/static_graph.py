"""A module's structure as an argument of compiled functions."""

from __future__ import annotations

from typing import Any

from flax import nnx


class StaticGraph:
    """The structure of an nnx module, hashed once; hashing it in every call takes over a millisecond.

    Attributes:
        graph: What ``nnx.split`` returned beside the state.
    """

    def __init__(self, graph: nnx.GraphDef[Any]) -> None:
        self.graph = graph
        self._hash = hash(graph)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, StaticGraph) and self.graph == other.graph)

    def merge(self, state: Any) -> Any:
        """The module with a state."""
        return nnx.merge(self.graph, state)


def split(module: nnx.Module) -> tuple[StaticGraph, Any]:
    """Structure and state of a module."""
    graph, state = nnx.split(module)
    return StaticGraph(graph), state
