"""Prompts go through image-sized arrays a few at a time: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
from jaxtyping import Array

Decoded: TypeAlias = tuple[Array, Array]
"""Mask logits and predicted IoU."""


def decode_in_chunks(
    one: Callable[..., Decoded], prompts: Sequence[Array], blank: Decoded, count: Array, *, chunk: int
) -> Decoded:
    """Decodes the first ``count`` prompts; traced by JAX, which compiles it for any count.

    Args:
        one: Decodes one prompt, given its row of each of the arrays.
        prompts: Arrays with the prompts as leading axis, a multiple of ``chunk``.
        blank: Where answers go; what is left of it beyond ``count`` stays as it is.
        count: Number of prompts, a scalar.
        chunk: How many are decoded together.
    """

    def step(index: Array, outputs: Decoded) -> Decoded:
        start = index * chunk
        rows = [jax.lax.dynamic_slice_in_dim(array, start, chunk) for array in prompts]
        # One prompt is not a batch of one: products of matrices run faster than those of stacks.
        made = jax.vmap(one)(*rows) if chunk > 1 else [x[None] for x in one(*(row[0] for row in rows))]
        logits, iou = (
            jax.lax.dynamic_update_slice_in_dim(output, part, start, 0)
            for output, part in zip(outputs, made, strict=True)
        )
        return logits, iou

    return jax.lax.fori_loop(0, (count + chunk - 1) // chunk, step, blank)
