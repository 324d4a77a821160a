"""Synthetic scenes: textured discs on textured ground."""

from __future__ import annotations

import numpy as np

from softmatch_jax.imaging import resize_image

RED, GREEN = (200, 60, 50), (50, 170, 70)


def ground(size: tuple[int, int], seed: int) -> np.ndarray:
    """Grey-blue texture."""
    noise = np.random.default_rng(seed).integers(0, 60, (40, 40, 3), np.uint8)
    return resize_image(noise, size) + np.array([60, 70, 100], np.uint8)


def disc(size: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    """Mask of a disc, centre ``(x, y)``."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return np.hypot(x - centre[0], y - centre[1]) < radius


def paint(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], seed: int) -> np.ndarray:
    """The picture with the mask filled in a speckled colour."""
    speckle = np.random.default_rng(seed).integers(-20, 20, image.shape)
    filled = np.clip(np.array(colour) + speckle, 0, 255).astype(np.uint8)
    return np.where(mask[..., None], filled, image)


def scene(
    size: tuple[int, int], discs: list[tuple[tuple[float, float], float, tuple[int, int, int]]], seed: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A picture of discs given as centre, radius and colour, and their masks."""
    image, masks = ground(size, seed), []
    for number, (centre, radius, colour) in enumerate(discs):
        masks.append(disc(size, centre, radius))
        image = paint(image, masks[-1], colour, seed + number)
    return image, masks
