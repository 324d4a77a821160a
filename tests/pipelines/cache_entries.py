"""Entries of the feature cache, and processes that use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from softmatch_jax.pipelines import cache_files
from softmatch_jax.pipelines.feature_cache import CacheConfig, FeatureCache

ROOT = Path(cache_files.__file__).resolve().parents[2]
KEYS = [f"{i:02x}" * 32 for i in range(20)]
KEY = KEYS[1]


def arrays(seed=0, size=100):
    return {"features": np.random.default_rng(seed).standard_normal(size).astype(np.float32)}


def same(first, second):
    assert first is not None and first.keys() == second.keys()
    return all(
        first[k].dtype == second[k].dtype
        and first[k].shape == second[k].shape
        and first[k].tobytes() == second[k].tobytes()
        for k in first
    )


def on_disk(folder, **settings):
    """A cache that keeps nothing in memory, so that every answer is from a file."""
    return FeatureCache(CacheConfig(folder=folder, memory_bytes=0, **settings))


def files(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())


def never():
    pytest.fail("computed although it was stored")


def python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
