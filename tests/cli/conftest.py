"""Small pictures of a red disc on green ground, and the command line called in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from softmatch_jax import Softmatcher
from softmatch_jax.cli.main import main
from softmatch_jax.imaging import write_image, write_indexed_mask
from softmatch_jax.models import DenseDescriptor, DescriptorConfig, GrabCut

SIDE = 96
GREY = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def disc(x: float, y: float, radius: float = 18, side: int = SIDE) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] + 0.5
    return np.hypot(rows - y, columns - x) < radius


def picture(mask: np.ndarray, seed: int, colour=(210, 40, 40)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 12, (*mask.shape, 3))
    base = np.where(mask[..., None], colour, (60, 130, 60))
    return np.clip(base + noise, 0, 255).astype(np.uint8)


@pytest.fixture(autouse=True)
def small_model(monkeypatch):
    """Pictures are described at a quarter of the usual size, to compile and run in a tenth of the time."""

    def embedded(config, **models):
        return Softmatcher(DenseDescriptor(DescriptorConfig(longest=128)), GrabCut(), config)

    monkeypatch.setattr(Softmatcher, "embedded", embedded)


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """Reference a.png with mask a-mask.png; targets t0.png to t2.png; b.png has a blue disc."""
    folder = tmp_path_factory.mktemp("made")
    mask = disc(40, 50)
    write_image(folder / "a.png", picture(mask, 0))
    write_indexed_mask(folder / "a-mask.png", mask.astype(np.uint8), GREY)
    for index, (x, y) in enumerate([(60, 40), (30, 30), (50, 66)]):
        write_image(folder / f"t{index}.png", picture(disc(x, y), index + 1))
    write_image(folder / "b.png", picture(disc(30, 60), 7, colour=(40, 60, 220)))
    write_indexed_mask(folder / "b-mask.png", disc(30, 60).astype(np.uint8), GREY)
    return folder


@pytest.fixture
def shown(made) -> list[str]:
    """The words of a good reference."""
    return ["--reference", f"{made}/a.png", "--mask", f"{made}/a-mask.png", "--class-name", "disc"]


@pytest.fixture
def command(capsys) -> Callable[..., Ended]:
    """Calls ``softmatch`` with words, which may be paths."""

    def call(*words: object) -> Ended:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Ended(code, *capsys.readouterr())

    return call


def untimed(document: Any) -> Any:
    """A document without its entries called timings."""
    if isinstance(document, dict):
        return {key: untimed(value) for key, value in document.items() if key != "timings"}
    return [untimed(value) for value in document] if isinstance(document, list) else document


@pytest.fixture
def contents() -> Callable[[Path], dict[str, Any]]:
    """All files of an output folder by name, documents without their timings."""

    def read(folder: Path) -> dict[str, Any]:
        return {
            path.relative_to(folder).as_posix(): (
                json.dumps(untimed(json.loads(path.read_text())))
                if path.suffix == ".json"
                else path.read_bytes()
            )
            for path in folder.rglob("*")
            if path.is_file()
        }

    return read
