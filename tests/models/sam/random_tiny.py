"""The tiny model with random weights, made without running an initialiser."""

from __future__ import annotations

import numpy as np

from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.flat_weights import expected_shapes


def random_weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in expected_shapes(SamConfig.tiny()).items():
        fan_in = max(1, int(np.prod(shape[:-1])))
        values = rng.normal(0, fan_in**-0.5, shape) + name.endswith("scale")
        weights[name] = values.astype(np.float32)
    return weights
