"""Pictures of discs in files, models that pour paint, and requests about them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from softmatch_jax import Softmatcher, SoftmatcherConfig
from softmatch_jax.imaging import resize_image, write_image
from softmatch_jax.models import DenseDescriptor, DescriptorConfig, Proposals
from softmatch_jax.serve.engine.requests import Picture

RED, GREEN = (200, 60, 50), (50, 170, 70)
SIZE = (120, 160)


def scene(discs, seed, size=SIZE):
    """A picture of discs given as centre, radius and colour on textured ground, and their masks."""
    rng = np.random.default_rng(seed)
    image = resize_image(rng.integers(0, 60, (40, 40, 3), np.uint8), size) + np.array([60, 70, 100], np.uint8)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    masks = []
    for (cx, cy), radius, colour in discs:
        masks.append(np.hypot(x - cx, y - cy) < radius)
        speckled = np.clip(np.array(colour) + rng.integers(-20, 20, image.shape), 0, 255).astype(np.uint8)
        image = np.where(masks[-1][..., None], speckled, image)
    return image, masks


def stored(image, folder: Path) -> Picture:
    path = folder / f"{hashlib.sha256(image.tobytes()).hexdigest()[:12]}.png"
    write_image(path, image)
    return Picture(hashlib.sha256(path.read_bytes()).hexdigest(), path)


@dataclass
class Pouring:
    """A mask generator that takes points: paint spreads over pixels of one colour, never near a negative."""

    tolerance: float = 70.0
    calls: list = field(default_factory=list)

    name = "pouring"
    promptable = True

    def encode(self, image):
        return cv2.blur(image, (3, 3)).astype(np.float32)

    def decode(self, embedding, prompts, *, prior=None):
        self.calls.append(list(prompts))
        size = embedding.shape[:2]
        return Proposals(
            logits=np.stack([np.where(self._poured(embedding, p), 8, -8) for p in prompts]).astype(
                np.float32
            ),
            scores=np.full(len(prompts), 0.9, np.float32),
            stability=np.ones(len(prompts), np.float32),
            prompts=np.arange(len(prompts), dtype=np.int32),
            image_size=size,
            content=size,
        )

    def _poured(self, image, prompt):
        size, made = image.shape[:2], np.zeros(image.shape[:2], bool)
        dry = np.zeros(size, np.uint8)
        cells = np.clip(prompt.points.astype(int), 0, np.array(size)[::-1] - 1)
        for x, y in cells[~prompt.positive]:
            cv2.circle(dry, (int(x), int(y)), 3, 1, -1)
        on = cells[prompt.positive]
        if prompt.box is not None:
            x0, y0, x1, y1 = (round(v) for v in prompt.box)
            inside = np.zeros(size, np.uint8)
            inside[y0:y1, x0:x1] = 1
            dry |= 1 - inside
            on = on if len(on) else np.array([[(x0 + x1) // 2, (y0 + y1) // 2]])
        for x, y in on:
            alike = (np.linalg.norm(image - image[y, x], axis=-1) < self.tolerance) & (dry == 0)
            _, pieces = cv2.connectedComponents(alike.astype(np.uint8), connectivity=4)
            made |= (pieces == pieces[y, x]) & alike
        return made


def pouring_matcher(**settings):
    descriptor = DenseDescriptor(DescriptorConfig(longest=80, stride=4, pooling=(2.0, 4.0)))
    return Softmatcher(descriptor, Pouring(**settings), SoftmatcherConfig.embedded())
