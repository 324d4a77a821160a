"""How the weights that come with the package are trained; the defaults of ``softmatch train sam``."""

from __future__ import annotations

from dataclasses import dataclass

from softmatch_jax.training.config import TrainConfig
from softmatch_jax.training.region_config import Colours, Drawing, Framing, Pasting, RegionBatchConfig
from softmatch_jax.training.sam_config import SamTrainConfig


@dataclass(frozen=True, kw_only=True)
class SamRecipe:
    """All that decides what is learned, but for the data.

    Attributes:
        training: How the parameters are optimised.
        sam: What the masks are trained for.
        batches: What the batches look like.
    """

    training: TrainConfig
    sam: SamTrainConfig
    batches: RegionBatchConfig


TINY = SamRecipe(
    training=TrainConfig(
        steps=10_000,
        optimiser="muon",
        learning_rate=1.5e-3,
        ema_decay=0.998,
        warmup_steps=200,
        log_every=100,
        save_every=1000,
    ),
    sam=SamTrainConfig(pixel_loss="cross_entropy", pixel_weight=2.0),
    batches=RegionBatchConfig(
        # Most is learned from small views; the rest brings the model nearer to what it will see.
        stages=((0, 128, 4), (8400, 192, 4)),
        prompts=8,
        correct_every=6,
        framing=Framing(whole=0.5, smallest=0.45, turned=10),
        colours=Colours(brightness=0.15, contrast=0.3, saturation=0.4, hue=0.05, grey=0.07),
        drawing=Drawing(min_area=0.01, merge=0.08),
        pasting=Pasting(share=0.25),
    ),
)
"""For the tiny model, with BSDS500 (a weight of 0.85) and CamVid (0.15)."""

RECIPES = {"tiny": TINY}
"""By preset."""
