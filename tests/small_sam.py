"""A tiny model that is tinier still, weights for it, and batches of discs."""

from __future__ import annotations

import numpy as np

from softmatch_jax.models.sam.config import RASTER_CHANNELS, SamConfig, StemConfig
from softmatch_jax.models.sam.flat_weights import expected_shapes


def small_config(image_size: int = 32) -> SamConfig:
    return SamConfig(
        dim=16,
        depth=1,
        heads=2,
        mlp_dim=32,
        iou_hidden=16,
        image_size=image_size,
        embedding_size=image_size // 16,
        mask_in_channels=8,
        encoder_dim=16,
        encoder_depth=2,
        encoder_heads=2,
        encoder_mlp_dim=32,
        encoder_window=2,
        global_attention=(1,),
        raster_channels=RASTER_CHANNELS,
        stem=StemConfig(dims=(8, 12), depths=(1, 1), side=4),
    )


def drawn_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights as wide as a training starts from, none of them zero."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in expected_shapes(small_config()).items():
        values = rng.normal(size=shape)
        if name.endswith("kernel"):
            values /= np.sqrt(np.prod(shape[:-1]))
        elif name.endswith(("bias", "scale", "rel_pos_h", "rel_pos_w")):
            values = 0.1 * values + name.endswith("scale")
        weights[name] = values.astype(np.float32)
    return weights


def disc_batch(seed: int = 0, count: int = 2, regions: int = 2, side: int = 32) -> dict[str, np.ndarray]:
    """Pictures with a bright disc in each half, of which the last column and rows are padding."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] + 0.5
    batch = {
        "images": rng.integers(0, 60, (count, side, side, 3)).astype(np.uint8),
        "content": np.full((count, 2), (side - 4, side), np.int32),
        "masks": np.zeros((count, regions, side // 2, side // 2), bool),
        "weights": np.ones((count, regions), np.float32),
        "centres": np.zeros((count, regions, 2), np.float32),
        "points": np.zeros((count, regions, 2), np.float32),
        "boxes": np.zeros((count, regions, 4), np.float32),
    }
    for b, k in np.ndindex(count, regions):
        radius = rng.uniform(4, 7)
        centre = np.array([side * (k + 0.5) / regions, rng.uniform(8, side - 12)])
        disc = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
        batch["images"][b][disc] = rng.integers(120, 256, 3)
        batch["masks"][b, k] = disc.reshape(side // 2, 2, side // 2, 2).mean((1, 3)) > 0.5
        batch["centres"][b, k] = centre
        batch["points"][b, k] = centre + rng.uniform(-2, 2, 2)
        batch["boxes"][b, k] = np.concatenate([centre - radius, centre + radius])
    batch["images"][:, side - 4 :] = 0
    return batch
