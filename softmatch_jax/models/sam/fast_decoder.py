r"""The mask decoder for many prompts on one image: the same function, in an order that costs less.

A prompt is a handful of tokens, the image some 4096 rows, and nearly all of the work is in products
with the rows. Three identities take most of it away (``T`` tokens, ``H`` heads, ``x`` image rows):

- The first block sees the same rows for every prompt: its keys, values and image-side queries are
  computed once an image (:class:`SharedImage`).
- Products associate. With the queries of all heads as rows of a block-diagonal matrix ``Q [H T, inner]``
  the logits of attention are :math:`Q (x W_k)^\top = (Q W_k^\top)\, x^\top`, what is read is
  :math:`(A x) W_v`, and what is written is :math:`A^\top (V W_o)`: projections move to the token side
  while ``H T`` is small against the channels. With many tokens (ProSAM's 50) they stay where they were.
- A bias of the keys shifts all logits of a softmax alike and falls away.

The block-diagonal form multiplies by zeros, yet with few tokens one large product runs many times faster
than ``H`` products of 16 channels; with many it does not, and the heads take turns. Prompts go through the
image-sized arrays one after another (a few at a time on accelerators), so that memory does not grow with
their number and each stays in the cache.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from softmatch_jax._checks import InputError, check_shape
from softmatch_jax.models.sam.chunking import decode_in_chunks
from softmatch_jax.models.sam.layers import PRECISION, gelu
from softmatch_jax.models.sam.mask_decoder import MaskDecoder
from softmatch_jax.models.sam.model import Sam
from softmatch_jax.models.sam.static_graph import StaticGraph, split
from softmatch_jax.models.sam.thin_attention import look, product, write
from softmatch_jax.models.sam.transformer import TwoWayBlock

CHUNK = {"cpu": 1, "gpu": 32, "tpu": 32}
"""Prompts that go through the image-sized arrays together, by platform."""

SMALLEST_BUCKET = 8
"""Least room for prompts in the compiled program; only those that are there cost time."""


class SharedImage(NamedTuple):
    """What the prompts on one image have in common; ``N`` rows in row-major order.

    Attributes:
        rows: ``[N, dim]``, the image embedding with the dense prompt added.
        positions: ``[N, dim]``.
        keys: ``[N, inner]``, of the first block's look at the image, without their bias.
        values: ``[N, inner]``, likewise.
        queries: ``[N, inner]``, of the image's first look at the tokens, without their bias.
    """

    rows: Float[Array, "N dim"]
    positions: Float[Array, "N dim"]
    keys: Float[Array, "N inner"]
    values: Float[Array, "N inner"]
    queries: Float[Array, "N inner"]


def share_image(
    decoder: MaskDecoder, rows: Float[Array, "N dim"], positions: Float[Array, "N dim"]
) -> SharedImage:
    """Computes what does not depend on the prompt."""
    first: TwoWayBlock = decoder.transformer.layers[0]
    reading, writing = first.cross_attn_token_to_image, first.cross_attn_image_to_token
    placed = rows + positions
    return SharedImage(
        rows,
        positions,
        keys=product(placed, reading.k_proj.kernel[...]),
        values=product(rows, reading.v_proj.kernel[...]),
        queries=product(placed, writing.q_proj.kernel[...]),
    )


def decode_one(
    decoder: MaskDecoder,
    shared: SharedImage,
    sparse: Float[Array, "n dim"],
    valid: Bool[Array, " n"],
    *,
    masks: tuple[int, ...],
) -> tuple[Float[Array, "m 4*h 4*w"], Float[Array, " m"]]:
    """Decodes one prompt; what :class:`MaskDecoder` computes, for the masks asked for only.

    Args:
        decoder: The weights.
        shared: The image.
        sparse: Prompt tokens.
        valid: False on tokens that only pad the prompt.
        masks: Indices of the masks wanted.

    Returns:
        Logits and predicted IoU of these masks.
    """
    own = jnp.concatenate([decoder.iou_token[...], decoder.mask_tokens[...]])
    positions = jnp.concatenate([own, jnp.where(valid[:, None], sparse, 0)])
    valid = jnp.concatenate([jnp.ones(len(own), bool), valid])
    tokens, rows = positions, shared.rows
    transformer = decoder.transformer
    for block in transformer.layers:
        tokens = _attend_tokens(block, tokens, positions, valid)
        if block.first:
            keys, values, queries, projected = shared.keys, shared.values, shared.queries, True
        else:
            keys, values, queries, projected = rows + shared.positions, rows, rows + shared.positions, False
        read = look(block.cross_attn_token_to_image, tokens + positions, keys, values, projected=projected)
        tokens = block.norm2(tokens + read)
        tokens = block.norm3(tokens + block.mlp(tokens))
        update = write(
            block.cross_attn_image_to_token, queries, tokens, positions, valid, projected=projected
        )
        rows = block.norm4(rows + update)
    last = transformer.final_attn_token_to_image
    read = look(last, tokens + positions, rows + shared.positions, rows, projected=False)
    tokens = transformer.norm_final_attn(tokens + read)
    weights = jnp.stack([decoder.hypernetworks[mask](tokens[1 + mask]) for mask in masks])
    iou = decoder.iou_head(tokens[0])
    return _masks(decoder, rows, weights), jnp.stack([iou[mask] for mask in masks])


def _attend_tokens(block: TwoWayBlock, tokens: Array, positions: Array, valid: Array) -> Array:
    """The tokens after their attention to each other; as in :class:`TwoWayBlock`."""
    if block.first:
        return block.norm1(block.self_attn(tokens, tokens, tokens, valid=valid))
    placed = tokens + positions
    return block.norm1(tokens + block.self_attn(placed, placed, tokens, valid=valid))


def _masks(decoder: MaskDecoder, rows: Array, weights: Array) -> Array:
    """Mask logits; the pixels of both upscaling steps stay columns until there are but few channels.

    A transposed convolution of size and stride 2 makes four pixels of each, by one product. Where these
    lie in the picture matters only in the end.
    """
    side, count = decoder.config.embedding_size, len(weights)
    coarse, fine = decoder.upscale_conv1, decoder.upscale_conv2
    inputs, outputs = coarse.kernel.shape[0], fine.kernel.shape[-1]
    middle = fine.kernel.shape[0]
    x = product(rows, coarse.kernel[...].reshape(inputs, -1)) + jnp.tile(coarse.bias[...], (1, 4))
    x = gelu(decoder.upscale_norm(x.reshape(-1, middle)))
    x = gelu(product(x, fine.kernel[...].reshape(middle, -1)) + _tiled(fine.bias[...]))
    if count == 1:
        # So thin a product takes longer than the sums it stands for.
        logits = jnp.sum((x * _tiled(weights[0])).reshape(-1, outputs), axis=1)
    else:
        # One column for each of the four pixels and each mask.
        four = jnp.eye(4, dtype=weights.dtype)
        columns = jnp.einsum("mc,pq->pcqm", weights, four, precision=PRECISION)
        logits = product(x, columns.reshape(4 * outputs, 4 * count))
    logits = logits.reshape(side, side, 2, 2, 2, 2, count)
    return logits.transpose(6, 0, 2, 4, 1, 3, 5).reshape(count, 4 * side, 4 * side)


def _tiled(row: Float[Array, " c"]) -> Float[Array, "1 4*c"]:
    """A row for each of the four pixels.

    Behind the barrier it is an array; in front of it the tile would be indexed anew for every element.
    """
    tiled: Array = jax.lax.optimization_barrier(jnp.tile(row, (1, 4)))  # type: ignore[no-untyped-call]
    return tiled


@partial(jax.jit, static_argnames="graph")
def _constants(graph: StaticGraph, state: Any) -> tuple[Array, Array]:
    """The positions of the rows, and the dense embedding of no mask."""
    encoder = graph.merge(state).prompt_encoder
    return encoder.dense_positions(), encoder.no_mask_dense()


@partial(jax.jit, static_argnames="graph")
def _share(graph: StaticGraph, state: Any, embedding: Array, dense: Array, positions: Array) -> SharedImage:
    return share_image(graph.merge(state).mask_decoder, embedding + dense, positions)


@partial(jax.jit, static_argnames=("graph", "masks", "chunk"))
def _decode(
    graph: StaticGraph,
    state: Any,
    shared: SharedImage,
    sparse: Array,
    valid: Array,
    count: Array,
    *,
    masks: tuple[int, ...],
    chunk: int,
) -> tuple[Array, Array]:
    """Decodes the first ``count`` prompts, a chunk at a time; what is left of the output stays zero."""
    sam: Sam = graph.merge(state)
    one = partial(decode_one, sam.mask_decoder, shared, masks=masks)
    side = 4 * sam.config.embedding_size
    outputs = (
        jnp.zeros((len(sparse), len(masks), side, side), jnp.float32),
        jnp.zeros((len(sparse), len(masks)), jnp.float32),
    )

    return decode_in_chunks(one, (sparse, valid), outputs, count, chunk=chunk)


class FastDecoder:
    """Decodes any number of prompts on an image.

    Compiled for prompts of one padded length in buckets of a power of two; only the chunks that hold
    prompts are computed.

    Attributes:
        config: Sizes of the model.
        chunk: Prompts that are computed together, at most.
    """

    def __init__(self, sam: Sam, *, chunk: int | None = None) -> None:
        self.config = sam.config
        self.chunk = chunk or CHUNK.get(jax.default_backend(), 1)
        self._graph, self._state = split(sam)

    def share(
        self, embedding: Float[Array, "N dim"], dense: Float[Array, "N dim"] | None = None
    ) -> SharedImage:
        """What all prompts on an image share, computed once.

        Args:
            embedding: From the image encoder, rows in row-major order.
            dense: Embedding of a mask prompt (``PromptEncoder.embed_mask``); of no mask when ``None``.

        Raises:
            InputError: The shapes do not fit the model.
        """
        expected = (self.config.embedding_size**2, self.config.dim)
        check_shape("embedding", embedding, expected, "rows of the embedding, channels")
        if dense is not None:
            check_shape("dense", dense, expected, "rows of the embedding, channels")
        positions, no_mask = self._constants
        return _share(self._graph, self._state, embedding, no_mask if dense is None else dense, positions)

    @cached_property
    def _constants(self) -> tuple[Array, Array]:
        """What depends on the weights alone; sines of all positions take as long as the rest of sharing."""
        constants: tuple[Array, Array] = _constants(self._graph, self._state)
        return constants

    def decode(
        self,
        shared: SharedImage,
        sparse: Float[Array, "P n dim"],
        valid: Bool[Array, "P n"] | None = None,
        *,
        masks: tuple[int, ...] = (0,),
        count: int | None = None,
    ) -> tuple[Float[Array, "P m 4*h 4*w"], Float[Array, "P m"]]:
        """Mask logits and predicted IoU for every prompt.

        Args:
            shared: From :meth:`share`.
            sparse: Tokens of the prompts, padded to one length.
            valid: False on padding; all true when ``None``.
            masks: Masks wanted: 0 for a clear prompt, ``1, 2, 3`` for an ambiguous one.
            count: How many of the prompts there are, where they have been padded to a :meth:`bucket`
                already; the answers to the others are zero. All of them when ``None``.

        Raises:
            InputError: The shapes do not fit, there is no prompt, or a mask is asked for that the model
                does not have.
        """
        given = self._check(sparse, valid, masks)
        valid = jnp.ones(sparse.shape[:2], bool) if valid is None else jnp.asarray(valid)
        more = self.bucket(given) - given if count is None else 0
        if more:
            sparse = jnp.pad(jnp.asarray(sparse), ((0, more), (0, 0), (0, 0)))
            valid = jnp.pad(valid, ((0, more), (0, 0)))
        logits, iou = _decode(
            self._graph,
            self._state,
            shared,
            jnp.asarray(sparse),
            valid,
            jnp.int32(given if count is None else count),
            masks=tuple(masks),
            chunk=min(self.chunk, len(sparse)),
        )
        return (logits[:given], iou[:given]) if more else (logits, iou)

    def bucket(self, count: int) -> int:
        """The number of prompts to pad ``count`` to, so that few programs are compiled."""
        size = max(SMALLEST_BUCKET, 1 << (count - 1).bit_length())
        chunk = min(self.chunk, size)
        return -(-size // chunk) * chunk

    def _check(self, sparse: Any, valid: Any, masks: tuple[int, ...]) -> int:
        check_shape("sparse", sparse, (None, None, self.config.dim), "prompts, tokens, channels")
        if valid is not None:
            check_shape("valid", valid, sparse.shape[:2], "one for each token of each prompt")
        if not len(sparse):
            raise InputError("decode got no prompts; expected at least one.")
        known = range(self.config.mask_tokens)
        if not masks or not all(mask in known for mask in masks):
            raise InputError(f"masks is {tuple(masks)}; expected some of {tuple(known)}.")
        return len(sparse)
