"""The tiny model: SAM's prompt encoder and mask decoder at a small size, on an encoder that trains quickly.

Besides its Fourier code a prompt is drawn as maps (``prompt_rasters``). These go through SAM's mask path, and
they pool the picture's features into one more token for each kind of mark: what lies under it.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from softmatch_jax._checks import check_shape
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.layers import PRECISION, PatchConv, linear
from softmatch_jax.models.sam.mask_decoder import Fine, MaskDecoder
from softmatch_jax.models.sam.prompt_encoder import PromptEncoder
from softmatch_jax.models.sam.prompt_rasters import INSIDE, MASK, NEGATIVE_SPOT, SPOT, draw_prompt
from softmatch_jax.models.sam.tiny_encoder import MATCHED, TinyFeatures, TinyImageEncoder, unit

_POOLED = (SPOT, NEGATIVE_SPOT, INSIDE, MASK)
"""Maps under which features are pooled, a token for each."""


class TinySamModel(nnx.Module):
    """Image encoder, prompt encoder and mask decoder.

    Attributes:
        config: Sizes.
        image_encoder: Pictures to features.
        prompt_encoder: Points, boxes and maps to embeddings.
        mask_decoder: Embeddings to masks.
    """

    def __init__(self, config: SamConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.image_encoder = TinyImageEncoder(config, rngs=rngs)
        self.prompt_encoder = PromptEncoder(config, rngs=rngs)
        self.mask_decoder = MaskDecoder(config, rngs=rngs)
        self.pooled_kinds = nnx.Param(nnx.initializers.normal(1.0)(rngs.params(), (len(_POOLED), config.dim)))
        self.pooled_proj = linear(config.dim, config.dim, rngs)
        double, fourfold = config.upscaled
        self.matched_proj = linear(MATCHED, config.dim, rngs)
        self.likeness = linear(len(_POOLED), double, rngs)
        self.drawn_double = PatchConv(config.raster_channels, double, 2, rngs=rngs)
        self.drawn_fourfold = linear(config.raster_channels, fourfold, rngs)

    def encode(self, pixels: Float[Array, "S S 3"]) -> TinyFeatures:
        """Embeds one picture; see :class:`TinyImageEncoder`."""
        return self.image_encoder(pixels)

    def decode(
        self,
        features: TinyFeatures,
        xy: Float[Array, "n 2"],
        labels: Int[Array, " n"],
        logits: Float[Array, "4*h 4*w"] | None = None,
        *,
        dense: Bool[Array, ""] | bool = True,
        pooled: Bool[Array, ""] | bool = True,
    ) -> tuple[Float[Array, "masks 4*h 4*w"], Float[Array, " masks"]]:
        """Decodes one prompt.

        Args:
            features: The picture.
            xy: Positions ``(x, y)`` in pixels of the square, pixel centres at ``+0.5``.
            labels: 0 off the object, 1 on it, 2 and 3 top-left and bottom-right corner of a box, -1 no point
                at all.
            logits: Of an earlier mask that is to be corrected; ``None`` or all zero for none.
            dense: Whether the maps reach the decoder as an embedding of the picture's shape. Without them
                it has tokens alone, as SAM has for points and boxes.
            pooled: Whether there are tokens for what lies under the marks.

        Returns:
            Logits of all masks and their predicted IoU, as :class:`MaskDecoder` orders them.

        Raises:
            InputError: The shapes do not fit.
        """
        config, encoder = self.config, self.prompt_encoder
        check_shape("xy", xy, (None, 2), "n points (x, y)")
        check_shape("labels", labels, (xy.shape[0],), "one for each point")
        side = 4 * config.embedding_size
        if logits is not None:
            check_shape("logits", logits, (side, side), "mask logits at 4 times the embedding's side")
        raster = draw_prompt(xy, labels, logits, side=side, stride=config.image_size // side)
        points = encoder.encode_points(xy - 0.5, labels)  # which adds the half pixel that SAM's indices lack
        under, marked, likeness = self.look_under(features, raster)
        tokens = jnp.concatenate([points, under])
        there = jnp.concatenate([labels >= 0, marked & pooled])
        rows = features.rows + jnp.where(dense, encoder.embed_raster(raster), encoder.no_mask[...])
        # The maps join in again on the way up, or all that they say would have to pass through stride 16.
        fine = Fine(
            features.fine.double + jnp.where(dense, self.drawn_double(raster) + self.likeness(likeness), 0),
            features.fine.fourfold + jnp.where(dense, self.drawn_fourfold(raster), 0),
        )
        return self.mask_decoder(rows, encoder.dense_positions(), tokens, valid=there, fine=fine)

    def look_under(
        self, features: TinyFeatures, raster: Float[Array, "4*h 4*w c"]
    ) -> tuple[Float[Array, "kinds dim"], Bool[Array, " kinds"], Float[Array, "2*h 2*w kinds"]]:
        """What lies under each kind of mark.

        Returns:
            A token for each kind, made of the features under it; whether there are marks of this kind; and
            the cosine of every cell at stride 8 with these features, zero where there is no mark.
        """
        side = self.config.embedding_size
        marks = jnp.maximum(jnp.stack([raster[..., channel] for channel in _POOLED], axis=-1), 0)
        there = marks.sum(axis=(0, 1)) > 1e-6
        coarse = marks.reshape(side, 4, side, 4, -1).mean(axis=(1, 3)).reshape(side * side, -1)
        means = _mean_under(coarse, features.rows)
        cells = marks.reshape(2 * side, 2, 2 * side, 2, -1).mean(axis=(1, 3)).reshape(4 * side * side, -1)
        matched = unit(_mean_under(cells, features.matched.reshape(4 * side * side, -1)))
        tokens = self.pooled_kinds[...] + self.pooled_proj(means) + self.matched_proj(matched)
        likeness = jnp.einsum("ijc,kc->ijk", features.matched, matched, precision=PRECISION)
        return tokens, there, likeness


def _mean_under(weights: Float[Array, "n kinds"], values: Float[Array, "n c"]) -> Float[Array, "kinds c"]:
    """Weighted means of the values."""
    sums = jnp.einsum("nk,nc->kc", weights, values, precision=PRECISION)
    return sums / jnp.maximum(weights.sum(axis=0), 1e-6)[:, None]
