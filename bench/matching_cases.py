"""Inputs of ``bench/matching.py``: features of two pictures, and the exact maps in double precision."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from softmatch_jax import matching
from softmatch_jax.imaging import read_image, read_mask, resize_image, resize_map
from softmatch_jax.models.embedded import DenseDescriptor, DescriptorConfig

PATCH, DIM, BEST = 14, 768, 40
PARTS, OBJECT_AREA = 6, 0.25


@dataclass(frozen=True, eq=False)
class Case:
    """One problem: unit-norm ``float32`` features of two pictures, and the reference patches that count."""

    picture: np.ndarray
    kept: np.ndarray
    target: np.ndarray
    temperature: float
    size: int
    share: float
    features: str = "synthetic"

    @cached_property
    def reference(self) -> np.ndarray:
        """The patches that count, ``[R, d]``."""
        return self.picture[self.kept]

    @cached_property
    def arrays(self) -> tuple[jax.Array, jax.Array]:
        """Reference and target on the device."""
        return jnp.asarray(self.reference), jnp.asarray(self.target)

    @cached_property
    def exact(self) -> dict[str, np.ndarray]:
        """Both maps in float64, a tile of references at a time."""
        reference, target = (unit(x.astype(np.float64)) for x in (self.reference, self.target))
        mass = np.zeros(len(target))
        for start in range(0, len(reference), 256):
            rows = softmax(reference[start : start + 256] @ target.T / self.temperature)
            mass += rows.sum(axis=0)
        geometric = softmax(target @ reference.mean(axis=0) / self.temperature)
        return {"arithmetic": mass / len(reference), "geometric": geometric}

    def errors(self, probability: np.ndarray | None) -> dict[str, float]:
        """Total variation to each exact map, and the share of its best patches that are found."""
        if probability is None:
            return {}
        found = set(np.argsort(-probability, kind="stable")[:BEST])
        rows: dict[str, float] = {}
        for name, exact in self.exact.items():
            rows[f"variation_{name}"] = 0.5 * float(np.abs(probability - exact).sum())
            best = np.argsort(-exact, kind="stable")[:BEST]
            rows[f"overlap_{name}"] = len(found.intersection(best)) / len(best)
        return rows


def unit(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features, axis=-1, keepdims=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    logits = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return logits / logits.sum(axis=-1, keepdims=True)


def fields(rng: np.random.Generator, side: int, count: int) -> np.ndarray:
    """Smooth random fields of unit variance, ``[side * side, count]``; the same scene at every size."""
    waves, phases = rng.normal(0, 1.5, (2, 12 * count)), rng.uniform(0, 1, 12 * count)
    y, x = (np.mgrid[:side, :side].reshape(2, -1) + 0.5) / side
    angles = 2 * np.pi * (y[:, None] * waves[0] + x[:, None] * waves[1] + phases)
    return np.cos(angles).reshape(-1, count, 12).sum(axis=-1) / math.sqrt(6)


def synthetic(size: int, share: float, temperature: float, dim: int = DIM) -> Case:
    """Scenes of several parts with soft borders, smooth texture and noise; a quarter is the object.

    Both scenes hold the same parts, seen slightly differently. Cosines are about 0.7 within a part and
    0.2 across. ``share`` is the part of the reference kept: 1 is all of it, 0.25 the object.
    """
    rng, side = np.random.default_rng(0), size // PATCH
    parts, texture, common = (rng.normal(0, dim**-0.5, (n, dim)) for n in (PARTS, 16, 1))
    scenes, inside = [], []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        look = parts + 0.3 * rng.normal(0, dim**-0.5, parts.shape)
        layout, shade = fields(rng, side, PARTS), fields(rng, side, len(texture))
        edge = 10 * (layout[:, :1] - np.quantile(layout[:, 0], 1 - OBJECT_AREA))
        is_object = 1 / (1 + np.exp(-edge))
        mixture = is_object * look[:1] + (1 - is_object) * (softmax(8 * layout[:, 1:]) @ look[1:])
        noise = 0.6 * rng.normal(0, dim**-0.5, mixture.shape)
        scene = mixture + 0.6 * common + 0.5 / math.sqrt(len(texture)) * shade @ texture + noise
        scenes.append(unit(scene).astype(np.float32))
        inside.append(edge[:, 0])
    kept = np.argsort(np.argsort(-inside[0], kind="stable")) < round(share * side * side)
    return Case(scenes[0], kept, scenes[1], temperature, size, share)


def photographs() -> Path | None:
    """The folder of pictures, where there is one."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SOFTMATCH_DATA", beside)) / "perseg" / "cat"
    return folder if folder.is_dir() else None


def descriptor(folder: Path, size: int, share: float, temperature: float) -> Case:
    """Whitened features of the embedded descriptor on two photographs of one object, d = 30.

    The pictures are resampled to squares so that the grid has as many patches as ``size`` would have.
    ``share`` below one keeps the patches of the object's mask, however many they are.
    """
    side = size // PATCH
    extractor = DenseDescriptor(DescriptorConfig(longest=4 * side, stride=4))
    pictures = [resize_image(read_image(folder / f"{n}.jpg"), (4 * side, 4 * side)) for n in ("00", "01")]
    values = extractor(np.stack(pictures)).values.reshape(2, side * side, -1)
    even = jnp.full(side * side, 0.5 / (side * side))
    both = jax.tree.map(jnp.add, *(matching.moments(x, even) for x in values))
    reference, target = (np.asarray(matching.whiten(matching.whitening(both), x)) for x in values)
    mask = resize_map(read_mask(folder / "00.png", threshold=1).astype(np.float32), (side, side))
    kept = mask.reshape(-1) >= (0.5 if share < 1 else 0)
    return Case(reference, kept, target, temperature, size, share, "descriptor")
