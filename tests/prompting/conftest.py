from __future__ import annotations

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_jax():
    """Silent broadcasting and promotion are errors."""
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield
