from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def mostly_slow(values: Iterable[Any], *quick: Any) -> list[Any]:
    """Values for ``parametrize``: the quick ones as they are, the others marked slow."""
    values = list(values)
    assert all(value in values for value in quick)
    made = []
    for value in values:
        many = value if isinstance(value, tuple) else (value,)
        made.append(value if value in quick else pytest.param(*many, marks=pytest.mark.slow))
    return made
