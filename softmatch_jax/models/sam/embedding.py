"""A picture as SAM sees it, and the memory it takes where it is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import jax
from jaxtyping import Array, Float

from softmatch_jax._checks import InputError
from softmatch_jax._types import Size
from softmatch_jax.models.sam.fast_decoder import FastDecoder, SharedImage


@dataclass(frozen=True, eq=False)
class SamEmbedding:
    """A picture as SAM sees it.

    Attributes:
        rows: ``float32 [N, dim]``, the image embedding in row-major order.
        input_size: ``(h, w)`` that the picture has within the square the encoder sees.
        image_size: ``(H, W)`` of the picture.
        decoder: Computes what the prompts on it share.
    """

    rows: Float[Array, "N dim"]
    input_size: Size
    image_size: Size
    decoder: FastDecoder = field(repr=False)

    @cached_property
    def shared(self) -> SharedImage:
        """What all prompts without a mask share; computed when first asked for."""
        return self.decoder.share(self.rows)


@contextmanager
def explain_out_of_memory(chunk: int) -> Iterator[None]:
    """Says which knob to turn when the accelerator that decodes has no memory left."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            f"The {jax.default_backend()} ran out of memory decoding {chunk} prompts at a time; set "
            "SamGeneratorConfig.chunk (--chunk) lower, or leave JAX more of it (XLA_CLIENT_MEM_FRACTION, or "
            "XLA_PYTHON_CLIENT_PREALLOCATE=false where torch shares the device)."
        ) from error
