"""Compiling ahead what first requests would wait for."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np

from softmatch_jax.pipelines import Softmatcher
from softmatch_jax.prompting import Polyline, Prompt, Scribbles

SIZE = (96, 128)
"""Of the made-up picture: programs do not depend on it, the grid of patches being one for all."""

CLASSES, REFERENCES = (1, 2), (1, 2, 4)
"""How many there are in the sets that are compiled for."""

POINTS = (1, 3, 6, 14, 28, 60)
"""Numbers of points that a prompt has; generators pad them to powers of two."""


def remember_programs(folder: Path) -> None:
    """Keeps what is compiled in a folder, for the next start; a folder that JAX has already stays.

    Compiling takes most of a start.
    """
    config: Any = jax.config  # its types do not know its flags
    if config.jax_compilation_cache_dir is None:
        config.update("jax_compilation_cache_dir", str(folder))
        config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def warm_up(matcher: Softmatcher) -> None:
    """Completes and matches once on a made-up picture, for the commonest numbers of references."""
    image, mask = _picture()
    encoded = matcher.encode(image)
    strokes = [Polyline(((40, 48), (56, 48)), 4.0), Polyline(((8, 8), (120, 8)), 4.0, False)]
    for count in (1, 2):
        matcher.reference(encoded, Scribbles(tuple(strokes[:count])))
    for count in POINTS if matcher.masks.promptable else ():
        points = np.stack([np.linspace(30, 66, count), np.full(count, 48)], axis=1).astype(np.float32)
        matcher.masks.decode(encoded.embedding, [Prompt(points, np.ones(count, bool))])
    for classes, count in product(CLASSES, REFERENCES):
        if count < classes:
            continue
        references = [
            matcher.reference(encoded, mask, class_name=f"class {number % classes}")
            for number in range(count)
        ]
        matcher.segment(encoded, references, key=jax.random.key(0))


def _picture() -> tuple[np.ndarray, np.ndarray]:
    """A speckled disc on a speckled ground, and the disc."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    mask = np.hypot(x - 48, y - 48) < 24
    image = rng.integers(40, 90, (*SIZE, 3)).astype(np.uint8)
    image[mask] = rng.integers(0, 40, (int(mask.sum()), 3)) + np.array([200, 80, 40])
    return image, mask
