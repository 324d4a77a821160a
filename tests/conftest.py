from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import pytest
from jax import monitoring

_COMPILED = "/jax/core/compile/backend_compile_duration"


def pytest_configure(config: pytest.Config) -> None:
    """Most time goes into compiling, so that is done quickly, and once for all processes of a run.

    What the environment says counts more: ``JAX_DISABLE_MOST_OPTIMIZATIONS=0`` tests the code that users run.
    """
    wanted = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and not hasattr(config, "workerinput"):
        folder = tempfile.TemporaryDirectory(prefix="compiled", ignore_cleanup_errors=True)
        config.add_cleanup(folder.cleanup)
        wanted |= {
            "JAX_COMPILATION_CACHE_DIR": folder.name,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.02",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    # JAX was imported before, and has read the environment.
    jax.config.update("jax_disable_most_optimizations", os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] != "0")
    if (cache := os.environ.get("JAX_COMPILATION_CACHE_DIR")) is not None:
        jax.config.update("jax_compilation_cache_dir", cache)
        seconds = float(os.environ.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture
def strict_jax() -> Iterator[None]:
    """Silent broadcasting and promotion are errors."""
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def x64() -> Iterator[None]:
    """Arrays default to 64 bits."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def optimised() -> Iterator[None]:
    """Code is compiled as users run it: where rounding decides, the quick compilation rounds otherwise."""
    quick = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", quick)
        jax.clear_caches()


@pytest.fixture
def data_dir() -> Path:
    """Real pictures; see the README there."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SOFTMATCH_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real pictures at {folder}; set SOFTMATCH_DATA to a folder that holds them")
    return folder


@contextmanager
def compilations(of: str | None = None) -> Iterator[list[str]]:
    """Lists the functions that XLA compiles inside the block, or those named ``of`` only."""
    names: list[str] = []

    def listen(event: str, _: float, **what: str | int) -> None:
        name = str(what.get("fun_name", ""))
        if event == _COMPILED and of in (None, name.removeprefix("jit(").removesuffix(")")):
            names.append(name)

    monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def count_compiles():
    """``with count_compiles("f") as compiled: ...``; then ``len(compiled)``."""
    return compilations
