"""SAM without its image encoder."""

from __future__ import annotations

from flax import nnx

from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.mask_decoder import MaskDecoder
from softmatch_jax.models.sam.prompt_encoder import PromptEncoder


class Sam(nnx.Module):
    """Prompt encoder and mask decoder that were trained together.

    Attributes:
        prompt_encoder: Points, boxes and masks to embeddings.
        mask_decoder: Embeddings to masks.
        config: Their sizes.
    """

    def __init__(self, config: SamConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.prompt_encoder = PromptEncoder(config, rngs=rngs)
        self.mask_decoder = MaskDecoder(config, rngs=rngs)
