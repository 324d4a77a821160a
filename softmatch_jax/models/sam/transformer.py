r"""Attention in both directions between a few tokens and the rows of an image (Kirillov et al. 2023, A).

Tokens carry the prompt, and their initial values ``positions`` serve as their positional term: they
are added again wherever tokens are queries or keys, as are the image's positions to its rows.
"""

from __future__ import annotations

from flax import nnx
from jaxtyping import Array, Bool, Float

from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.layers import TokenMLP, attend, layer_norm, linear


class Attention(nnx.Module):
    """Multi-head attention within ``inner`` channels, see :func:`attend`."""

    def __init__(self, dim: int, inner: int, heads: int, *, rngs: nnx.Rngs) -> None:
        self.heads = heads
        self.q_proj = linear(dim, inner, rngs)
        self.k_proj = linear(dim, inner, rngs)
        self.v_proj = linear(dim, inner, rngs)
        self.out_proj = linear(inner, dim, rngs)

    def __call__(
        self,
        queries: Float[Array, "n dim"],
        keys: Float[Array, "m dim"],
        values: Float[Array, "m dim"],
        *,
        valid: Bool[Array, " m"] | None = None,
    ) -> Float[Array, "n dim"]:
        """Mixes the values for every query; keys that are not ``valid`` get weight zero."""
        parts = self.q_proj(queries), self.k_proj(keys), self.v_proj(values)
        return self.out_proj(attend(*parts, self.heads, valid))


class TwoWayBlock(nnx.Module):
    """Tokens attend to each other and to the image, pass an MLP, and the image attends to them."""

    def __init__(self, config: SamConfig, *, first: bool, rngs: nnx.Rngs) -> None:
        dim, heads, eps = config.dim, config.heads, config.layer_norm_eps
        self.first = first
        self.self_attn = Attention(dim, dim, heads, rngs=rngs)
        self.norm1 = layer_norm(dim, eps, rngs)
        self.cross_attn_token_to_image = Attention(dim, dim // config.downsample, heads, rngs=rngs)
        self.norm2 = layer_norm(dim, eps, rngs)
        self.mlp = TokenMLP(dim, config.mlp_dim, rngs=rngs)
        self.norm3 = layer_norm(dim, eps, rngs)
        self.cross_attn_image_to_token = Attention(dim, dim // config.downsample, heads, rngs=rngs)
        self.norm4 = layer_norm(dim, eps, rngs)

    def __call__(
        self,
        tokens: Float[Array, "t dim"],
        image: Float[Array, "hw dim"],
        positions: Float[Array, "t dim"],
        image_pe: Float[Array, "hw dim"],
        valid: Bool[Array, " t"] | None,
    ) -> tuple[Float[Array, "t dim"], Float[Array, "hw dim"]]:
        """The tokens and the image after the block."""
        if self.first:
            # Tokens are their own positions here, and what they were is replaced, not added to.
            tokens = self.self_attn(tokens, tokens, tokens, valid=valid)
        else:
            placed = tokens + positions
            tokens = tokens + self.self_attn(placed, placed, tokens, valid=valid)
        tokens = self.norm1(tokens)
        placed_image = image + image_pe
        tokens = tokens + self.cross_attn_token_to_image(tokens + positions, placed_image, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        update = self.cross_attn_image_to_token(placed_image, tokens + positions, tokens, valid=valid)
        return tokens, self.norm4(image + update)


class TwoWayTransformer(nnx.Module):
    """Two-way blocks and a last look of the tokens at the image."""

    def __init__(self, config: SamConfig, *, rngs: nnx.Rngs) -> None:
        dim = config.dim
        self.layers = nnx.List(
            [TwoWayBlock(config, first=index == 0, rngs=rngs) for index in range(config.depth)]
        )
        self.final_attn_token_to_image = Attention(dim, dim // config.downsample, config.heads, rngs=rngs)
        self.norm_final_attn = layer_norm(dim, config.final_norm_eps, rngs)

    def __call__(
        self,
        tokens: Float[Array, "t dim"],
        image: Float[Array, "hw dim"],
        image_pe: Float[Array, "hw dim"],
        *,
        valid: Bool[Array, " t"] | None = None,
    ) -> tuple[Float[Array, "t dim"], Float[Array, "hw dim"]]:
        """The tokens and the image after all blocks; tokens that are not ``valid`` influence no other."""
        positions = tokens
        for block in self.layers:
            tokens, image = block(tokens, image, positions, image_pe, valid)
        look = self.final_attn_token_to_image(tokens + positions, image + image_pe, image)
        return self.norm_final_attn(tokens + look), image
