"""Frozen models without weights, pictures in memory, and random batches for a small SAM."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from softmatch_jax.imaging import fit_longest, resize_image
from softmatch_jax.models.proposals import Proposals
from softmatch_jax.models.prosam.frozen_sam import EncodedScene, Scene
from softmatch_jax.models.protocols import PatchFeatures
from softmatch_jax.prompting import PatchGrid
from softmatch_jax.training.prompt_pairs import Pair, Shown

_MODELS = Path(__file__).parents[1] / "models"
for _folder in ("sam", "prosam"):
    if str(_MODELS / _folder) not in sys.path:
        sys.path.append(str(_MODELS / _folder))

SIDE = 32


@dataclass
class MeanColours:
    """Features of a cell: its mean colour and 1; pictures are padded to a square, or stretched to it."""

    name: str = "colours"
    dim: int = 4
    stretched: bool = False
    stride: int = 8
    side: int = SIDE
    gain: float = 1.0
    calls: list[int] = field(default_factory=list)

    def grid(self, image_size):
        return PatchGrid(
            image_size=image_size,
            input_size=(self.side,) * 2 if self.stretched else fit_longest(image_size, self.side),
            stride=self.stride,
            offset=self.stride / 2,
            shape=(self.side // self.stride,) * 2,
        )

    def __call__(self, images):
        self.calls.append(int(images.sum()))
        grid = self.grid(images.shape[1:3])
        small = resize_image(images[0], grid.input_size) / 255
        square = np.zeros((self.side, self.side, 3))
        square[: len(small), : small.shape[1]] = small
        count = self.side // self.stride
        cells = square.reshape(count, self.stride, count, self.stride, 3).mean((1, 3))
        values = np.concatenate([cells, np.ones((count, count, 1))], axis=-1) * self.gain
        return PatchFeatures(jnp.asarray(values[None], jnp.float32), grid.valid(), grid)


@dataclass
class CornerSam:
    """Its scene is the pixel at the top left."""

    name: str = "corner"
    dim: int = 8
    stretched: bool = False

    def raster(self, image_size):
        content = (SIDE, SIDE) if self.stretched else fit_longest(image_size, SIDE)
        return replace(Proposals.empty((8, 8)), image_size=image_size, content=content, scale=4)

    def encode(self, image):
        rows = jnp.asarray(np.tile(image[0, 0] / 7, (4, 1)), jnp.float32)
        return EncodedScene(Scene(rows, rows.reshape(2, 2, 3)), self.raster(image.shape[:2]))


class PlainSam:
    """In place of a frozen SAM, slow to compile: a cell's logit is its product with the tokens."""

    name, dim, side = "plain", 16, 16

    def __init__(self):
        rng = np.random.default_rng(9)
        self.weights = {
            "matrix": jnp.asarray(rng.normal(size=(self.dim, self.dim)) / 4, jnp.float32),
            "bias": jnp.float32(-0.2),
        }

    def logits(self, weights, scene, prompts, valid=None):
        mixed = jnp.tanh((scene.rows @ weights["matrix"])[:, None] * prompts)
        return (mixed.sum((1, 2)) + weights["bias"]).reshape(self.side, self.side)


def noise(seed, size=(24, 32)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


@dataclass
class Drawn:
    """Pairs of ten pictures of several sizes, whose objects are rectangles."""

    name: str = "drawn"
    digest: str = "drawn 1"

    def __len__(self):
        return 10

    def pair(self, seed, index):
        rng = np.random.default_rng([seed, index])
        first, second = rng.permutation(10)[:2]
        return Pair(self.shown(first, rng), self.shown(second, rng))

    def shown(self, number, rng):
        size = ((24, 32), (40, 20), (32, 32))[number % 3]
        mask = np.zeros(size, bool)
        y, x = rng.integers(0, 8, 2)
        mask[y : y + 11, x : x + 9] = True
        return Shown(f"{self.name}/{number}", lambda: noise(number, size), mask)


def random_batch(sam: Any, channels: int, *, pairs: int = 2, grid: int = 4, seed: int = 0) -> dict[str, Any]:
    """A batch for a frozen SAM, whose pictures are discs of their own; the last column is padding."""
    rng = np.random.default_rng(seed)
    normal = {
        "reference": (grid, grid, channels),
        "target": (grid, grid, channels),
        "scene_rows": (sam.side**2, sam.dim),
    }
    if not isinstance(sam, PlainSam):
        config = sam.generator.parts()[1].config
        side = config.embedding_size
        normal["scene_rows"] = (side**2, config.dim)
        normal["scene_double"] = (2 * side, 2 * side, config.upscaled[0])
        normal["scene_fourfold"] = (4 * side, 4 * side, config.upscaled[1])
    y, x = np.mgrid[: sam.side, : sam.side] / sam.side
    centres = rng.uniform(0.3, 0.6, (2, pairs, 1, 1))
    valid = np.ones((pairs, grid, grid), bool)
    valid[:, :, -1] = False
    inside = np.ones((pairs, sam.side, sam.side), np.float32)
    inside[:, :, -sam.side // grid :] = 0
    batch = {name: rng.normal(size=(pairs, *shape)).astype(np.float32) for name, shape in normal.items()}
    return batch | {
        "reference_valid": valid,
        "target_valid": valid,
        "mask": rng.random((pairs, grid, grid)).astype(np.float32) * valid,
        "pseudo": rng.random((pairs, grid, grid)).astype(np.float32) * valid,
        "truth": (np.hypot(y - centres[0], x - centres[1]) < 0.25).astype(np.float32) * inside,
        "inside": inside,
    }
