"""Reference states: what a reference set is boiled down to, once, and how sets are put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax.matching._statistics import Method, is_traced

STEPS_PER_OCTAVE = 8
"""Buckets between one power of two and the next: padding costs at most an eighth."""

SMALLEST_BUCKET = 32


def bucket(count: int) -> int:
    """The padded length for ``count`` rows, so that differing counts share few compiled programs."""
    if count <= SMALLEST_BUCKET:
        return SMALLEST_BUCKET
    step = 1 << max((count - 1).bit_length() - 1 - (STEPS_PER_OCTAVE - 1).bit_length(), 0)
    return -(-count // step) * step


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, kw_only=True)
class ReferenceState:
    """Sufficient statistics of a reference set, made by :func:`~softmatch_jax.matching.prepare`.

    States of one method add and subtract: ``prepare(a) + prepare(b)`` matches as the two sets together
    would, and subtracting ``prepare(b)`` takes it out again. Sums are added up; methods that need every
    patch keep rows, which are put together, and taken out by finding them. :func:`stack` gives states a
    leading axis of classes.

    Attributes:
        method: The method and its settings.
        dim: Dimensions of the features it was made of.
        foreground: Statistics of the object.
        background: Statistics of its surroundings, or ``None``.
        shared: What states must have in common to be added: a random-feature map, or ``None``.
        classes: Number of classes of a stacked state, 0 for a single one.
    """

    method: Method = field(metadata={"static": True})
    dim: int = field(metadata={"static": True})
    foreground: Any
    background: Any
    shared: Any
    classes: int = field(default=0, metadata={"static": True})

    def __add__(self, other: ReferenceState) -> ReferenceState:
        """Both reference sets together."""
        self._check_partner(other)
        sides = (_combine(getattr(self, side), getattr(other, side), _join) for side in SIDES)
        return replace(self, **dict(zip(SIDES, sides, strict=True)))

    def __sub__(self, other: ReferenceState) -> ReferenceState:
        """This reference set without the other, which must be part of it."""
        self._check_partner(other)
        sides = (_combine(getattr(self, side), getattr(other, side), _remove) for side in SIDES)
        return replace(self, **dict(zip(SIDES, sides, strict=True)))

    def _check_partner(self, other: ReferenceState) -> None:
        if not isinstance(other, ReferenceState):
            raise InputError(
                f"Cannot combine a ReferenceState with {type(other).__name__}; prepare it first."
            )
        if self.dim != other.dim:
            raise InputError(
                f"States hold features of {self.dim} and {other.dim} dimensions; expected the same (use one "
                "feature extractor for both)."
            )
        if self.method != other.method:
            raise InputError(
                f"States were prepared for {self.method} and {other.method}; expected one method with the "
                "same settings."
            )
        if self.classes or other.classes:
            raise InputError("Stacked states do not add; add the states of each class, then stack.")
        if not _same(self.shared, other.shared):
            raise InputError(
                "States were prepared with different random features; expected one key and the same anchors "
                "(pass like=first_state to prepare)."
            )


SIDES = ("foreground", "background")


def _same(first: Any, second: Any) -> bool:
    """Whether two trees hold the same values; traced ones are taken to."""
    if is_traced(first, second):
        return True
    one, two = jax.tree.leaves(first), jax.tree.leaves(second)
    return len(one) == len(two) and all(map(np.array_equal, one, two))


def _has_rows(statistics: Any) -> bool:
    return "valid" in statistics._fields


def _combine(first: Any, second: Any, rows: Any) -> Any:
    """Applies ``rows`` to two sets of rows, or adds or subtracts sums; ``None`` is the empty set."""
    taking = rows is _remove
    if second is None:
        return first
    if first is None:
        if taking:
            raise InputError(
                "The state to take out has a background and the other has none; it is no part of it."
            )
        return second
    if _has_rows(first):
        return rows(first, second)
    return jax.tree.map(jnp.subtract if taking else jnp.add, first, second)


def _join(first: Any, second: Any) -> Any:
    """Rows of both; without padding in between when values are known."""
    if is_traced(first, second):
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
    joined = jax.tree.map(lambda a, b: np.concatenate([np.asarray(a), np.asarray(b)]), first, second)
    return select_rows(joined, np.flatnonzero(joined.valid))


def _remove(first: Any, second: Any) -> Any:
    """The rows of the first without those of the second, each found by its bytes."""
    if is_traced(first, second):
        raise InputError(
            "A state that keeps rows was subtracted under jit, vmap or grad; expected known values (subtract "
            "outside)."
        )
    wanted = Counter(_fingerprints(second))
    keep = []
    # From the end, so that what was put in last is taken out first.
    places = np.flatnonzero(np.asarray(first.valid))
    for place, print_ in zip(places[::-1], _fingerprints(first)[::-1], strict=True):
        if wanted[print_] > 0:
            wanted[print_] -= 1
        else:
            keep.append(place)
    missing = wanted.total()
    if missing:
        raise InputError(
            f"{missing} of {int(np.sum(second.valid))} rows to take out are not in the state; expected one "
            "that was added before, prepared from the same features and weights."
        )
    return select_rows(first, np.array(keep[::-1], int))


def _fingerprints(rows: Any) -> list[bytes]:
    valid = np.asarray(rows.valid)
    columns = [np.ascontiguousarray(np.asarray(leaf)[valid]) for leaf in jax.tree.leaves(rows)]
    return [b"".join(column[row].tobytes() for column in columns) for row in range(int(valid.sum()))]


def select_rows(rows: Any, places: np.ndarray) -> Any:
    """Some rows of a set, padded to a bucket with rows that are not valid and weigh nothing."""
    pad = bucket(len(places)) - len(places)

    def take(leaf: Any) -> jax.Array:
        leaf = np.asarray(leaf)
        chosen = leaf if np.array_equal(places, np.arange(len(leaf))) else leaf[places]
        return jnp.asarray(
            np.concatenate([chosen, np.zeros((pad, *leaf.shape[1:]), leaf.dtype)]) if pad else chosen
        )

    return jax.tree.map(take, rows)


def stack(states: Sequence[ReferenceState]) -> ReferenceState:
    """States of several classes as one, with a leading axis of classes.

    Matching it matches every class at once; where the statistics are means, that is one matrix product.

    Raises:
        InputError: There are none, they are of different methods, or only some have a background.
    """
    if not states:
        raise InputError("stack got no states; expected one for each class.")
    first = states[0]
    for other in states[1:]:
        first._check_partner(other)
        if (first.background is None) != (other.background is None):
            raise InputError("Some classes have a background and some have none; expected all or none.")
    sides = (_stack_side([getattr(state, side) for state in states]) for side in SIDES)
    return replace(first, classes=len(states), **dict(zip(SIDES, sides, strict=True)))


def _stack_side(statistics: Sequence[Any]) -> Any:
    if statistics[0] is None:
        return None
    if _has_rows(statistics[0]):
        longest = max(one.valid.shape[0] for one in statistics)
        statistics = [_lengthen(one, longest) for one in statistics]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *statistics)


def _lengthen(rows: Any, length: int) -> Any:
    def pad(leaf: jax.Array) -> jax.Array:
        return jnp.pad(leaf, [(0, length - leaf.shape[0])] + [(0, 0)] * (leaf.ndim - 1))

    return jax.tree.map(pad, rows)
