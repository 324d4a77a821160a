from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import pytest
from jax import monitoring

_COMPILED = "/jax/core/compile/backend_compile_duration"


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
