from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _strict(strict_jax):
    """All of the mathematics runs without silent broadcasting and promotion."""


@pytest.fixture
def pair():
    """Features of 9 reference and 13 target patches, of no particular length."""
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=(n, 5)) * 3, jnp.float32) for n in (9, 13))
