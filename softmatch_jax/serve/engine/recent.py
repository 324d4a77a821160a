"""What was made lately, up to so many bytes."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar

from softmatch_jax._checks import check_positive

Made = TypeVar("Made")


class Recent(Generic[Made]):
    """Remembers values by key; what was not asked for longest goes first. For one thread.

    Attributes:
        limit: Most bytes of arrays that are kept. The newest is kept whatever its size.
        bytes: How many there are.
    """

    def __init__(self, limit: int) -> None:
        """Remembers nothing yet.

        Raises:
            InputError: ``limit`` is not positive.
        """
        check_positive("limit", limit)
        self.limit, self.bytes = limit, 0
        self._kept: OrderedDict[Hashable, tuple[Made, int]] = OrderedDict()

    def get(self, key: Hashable) -> Made | None:
        """What is remembered under a key, if anything is."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def get_or_make(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What is remembered under a key, or else is made now; not remembered where making fails."""
        known = self.get(key)
        return self.put(key, make()) if known is None else known

    def put(self, key: Hashable, value: Made) -> Made:
        """Remembers a value, and forgets others where they are too many."""
        self.bytes -= self._kept.pop(key, (None, 0))[1]
        size = array_bytes(value)
        self._kept[key] = value, size
        self.bytes += size
        while self.bytes > self.limit and len(self._kept) > 1:
            self.bytes -= self._kept.popitem(last=False)[1][1]
        return value

    def __len__(self) -> int:
        """How many values are kept."""
        return len(self._kept)


def array_bytes(value: Any) -> int:
    """Bytes of all arrays in a value of dataclasses, tuples and mappings."""
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    if dataclasses.is_dataclass(value):
        return sum(array_bytes(getattr(value, part.name)) for part in dataclasses.fields(value))
    if isinstance(value, Mapping):
        return sum(map(array_bytes, value.values()))
    return sum(map(array_bytes, value)) if isinstance(value, (tuple, list)) else 0
