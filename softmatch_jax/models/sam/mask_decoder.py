"""SAM's mask decoder in its plain form, one prompt at a time; ``jax.vmap`` makes a batch of it."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from softmatch_jax._checks import check_shape
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.conv_block import ConvBlock
from softmatch_jax.models.sam.layers import MLP, PIXEL_NORM_EPS, PRECISION, Doubling, gelu, layer_norm
from softmatch_jax.models.sam.transformer import TwoWayTransformer


class Fine(NamedTuple):
    """Features of a picture that are finer than its embedding.

    Attributes:
        double: At twice the embedding's side.
        fourfold: At four times the embedding's side.
    """

    double: Float[Array, "2*h 2*w c"]
    fourfold: Float[Array, "4*h 4*w d"]


class MaskDecoder(nnx.Module):
    """Turns an image embedding and prompt tokens into masks and their predicted IoU.

    Each mask is the product of a vector made from its token and of the image embedding at four times
    its side (Kirillov et al. 2023, A). Differentiable in all its inputs.
    """

    def __init__(self, config: SamConfig, *, rngs: nnx.Rngs) -> None:
        dim, count = config.dim, config.mask_tokens
        normal = nnx.initializers.normal(1.0)
        self.config = config
        self.transformer = TwoWayTransformer(config, rngs=rngs)
        self.iou_token = nnx.Param(normal(rngs.params(), (1, dim)))
        self.mask_tokens = nnx.Param(normal(rngs.params(), (count, dim)))
        double, fourfold = config.upscaled
        self.upscale_conv1 = Doubling(dim, double, rngs=rngs)
        self.upscale_norm = layer_norm(double, PIXEL_NORM_EPS, rngs)
        self.upscale_conv2 = Doubling(double, fourfold, rngs=rngs)
        if config.refinements:
            self.refinements = nnx.List(
                [ConvBlock(double, dilation=dilation, rngs=rngs) for dilation in config.refinements]
            )
        self.hypernetworks = nnx.List([MLP(dim, dim, fourfold, 3, rngs=rngs) for _ in range(count)])
        self.iou_head = MLP(dim, config.iou_hidden, count, config.iou_depth, rngs=rngs)

    def __call__(
        self,
        image: Float[Array, "hw dim"],
        image_pe: Float[Array, "hw dim"],
        sparse: Float[Array, "n dim"],
        *,
        valid: Bool[Array, " n"] | None = None,
        fine: Fine | None = None,
    ) -> tuple[Float[Array, "masks 4*h 4*w"], Float[Array, " masks"]]:
        """Decodes one prompt.

        Args:
            image: The image embedding with the dense prompt added to it, rows in row-major order.
            image_pe: The positions of the rows, ``PromptEncoder.dense_positions()``.
            sparse: Prompt tokens; none at all (``n = 0``) is a prompt too.
            valid: False on tokens that only pad the prompt to a common length, whose content does not
                matter; the result is that of the prompt without them.
            fine: Features of the picture at two and at four times the embedding's side, which join in on
                the way up. SAM has none; SAM 2 has.

        Returns:
            Logits of all masks (positive on the object), and the predicted IoU of each, which training
            brings near ``[0, 1]`` but nothing clips. Mask 0 answers a clear prompt (several points, a
            box), masks 1 and up an ambiguous one (a single point).

        Raises:
            InputError: The shapes do not fit the configuration.
        """
        side, dim = self.config.embedding_size, self.config.dim
        check_shape("image", image, (side * side, dim), "rows of the embedding, channels")
        check_shape("image_pe", image_pe, (side * side, dim), "rows of the embedding, channels")
        check_shape("sparse", sparse, (None, dim), "prompt tokens, channels")
        if fine is not None:
            for name, factor, channels in zip(Fine._fields, (2, 4), self.config.upscaled, strict=True):
                expected = (factor * side, factor * side, channels)
                check_shape(f"fine.{name}", getattr(fine, name), expected, "height, width, channels")
        own = jnp.concatenate([self.iou_token[...], self.mask_tokens[...]])
        if valid is not None:
            check_shape("valid", valid, (sparse.shape[0],), "one for each prompt token")
            # Weight zero does not silence NaN or infinity.
            sparse = jnp.where(valid[:, None], sparse, 0)
            valid = jnp.concatenate([jnp.ones(len(own), bool), valid])
        tokens = jnp.concatenate([own, sparse])
        tokens, image = self.transformer(tokens, image, image_pe, valid=valid)
        large = self.upscale(image, fine)
        weights = jnp.stack([network(tokens[1 + k]) for k, network in enumerate(self.hypernetworks)])
        logits = jnp.einsum("kc,ijc->kij", weights, large, precision=PRECISION)
        return logits, self.iou_head(tokens[0])

    def upscale(self, image: Float[Array, "hw dim"], fine: Fine | None = None) -> Float[Array, "4*h 4*w d"]:
        """The image embedding at four times its side, with fewer channels."""
        side = self.config.embedding_size
        x = self.upscale_conv1(image.reshape(side, side, -1))
        if fine is not None:
            x = x + fine.double
        if self.config.refinements:
            for block in self.refinements:
                x = block(x)
        x = self.upscale_conv2(gelu(self.upscale_norm(x)))
        return gelu(x if fine is None else x + fine.fourfold)
