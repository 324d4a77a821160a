"""A tiny data set of discs on disk, and methods that answer without a model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax.data.annotating import Annotator
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.data.episodes import ClassLists, Sample
from softmatch_jax.data.truths import ThresholdTruth
from softmatch_jax.evaluation.running import EvaluationProtocol
from softmatch_jax.imaging import write_image, write_indexed_mask

GREY = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)


def disc(x: float, y: float, radius: float, size=(48, 64)) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    return np.hypot(rows - y, columns - x) < radius


def write_discs(root: Path, classes=("red", "blue"), pictures: int = 4) -> ClassLists:
    """``<class>/<n>.png`` with ``<n>_mask.png``: a disc of the class's colour on green."""
    samples = {}
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        of_class = []
        for n in range(pictures):
            mask = disc(16 + 9 * n, 20 + 2 * n, 8 + n)
            colour = (210, 40, 40) if number == 0 else (40, 40, 210)
            image = np.where(mask[..., None], colour, (60, 130, 60)).astype(np.uint8)
            path, truth = root / name / f"{n}.png", root / name / f"{n}_mask.png"
            write_image(path, image)
            write_indexed_mask(truth, mask.astype(np.uint8), GREY)
            of_class.append(Sample(name=f"{name}/{n}", image=path, truth=ThresholdTruth(truth)))
        samples[name] = tuple(of_class)
    return ClassLists(name="discs", samples=samples)


def disc_protocol(root: Path, *, shots: int = 1, raster=None, **changes) -> EvaluationProtocol:
    lists = write_discs(root, **changes)
    return EvaluationProtocol(
        episodes=CorrectedEpisodes(lists, shots), annotate=Annotator(kind="mask", mode="fixed"), raster=raster
    )


class Found(NamedTuple):
    mask: np.ndarray
    absent: bool = False
    reason: str | None = None


class ByColour:
    """Finds what is not green, all of it or the left part; sees the key in one pixel."""

    def __init__(self, name: str = "by colour", cut: int | None = None, seconds: float = 0.0) -> None:
        self.name, self.cut, self.seconds = name, cut, seconds
        self.asked: list[tuple[int, int]] = []

    @property
    def settings(self):
        return {"cut": self.cut}

    def __call__(self, target, references, *, key):
        import jax

        self.asked.append((len(references), int(jax.random.bits(key))))
        time.sleep(self.seconds)
        mask = target[..., 1] < 100
        if self.cut is not None:
            mask[:, self.cut :] = False
        return Found(mask, absent=not mask.any())


class Refuses(ByColour):
    """Fails on pictures with blue discs."""

    def __call__(self, target, references, *, key):
        if target[..., 2].max() > 200:
            raise InputError("blue pictures cannot be used; expected red ones.")
        return super().__call__(target, references, key=key)
