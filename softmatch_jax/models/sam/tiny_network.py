"""The tiny model with its weights, compiled: pictures to features, labelled points to logits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from softmatch_jax._checks import check_image
from softmatch_jax._types import Image, Size
from softmatch_jax.models.sam.chunking import decode_in_chunks
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.flat_weights import merge
from softmatch_jax.models.sam.tiny import TinySamModel
from softmatch_jax.models.sam.tiny_encoder import TinyFeatures, standardise
from softmatch_jax.models.sam.tiny_weights import read_weights

BLOCK = 16
"""Prompts that the compiled program has room for; only those that are there cost time."""

THREADS = min(8, os.cpu_count() or 1)
"""Prompts that a CPU decodes at the same time: the program for one keeps little more than one core busy."""

SMALLEST = 2
"""Least pixels of a picture along either side of the square, as in training."""


class TinyNetwork:
    """The tiny model for squares of one size. Threads may share one.

    Attributes:
        config: Sizes.
    """

    def __init__(self, weights: Mapping[str, Any], *, size: int = 256, source: str | None = None) -> None:
        """Takes weights over.

        Args:
            weights: All arrays by name.
            size: Side of the square that pictures are fitted into, a multiple of 16 up to 256.
            source: Says which weights these are; a checksum of them when ``None``.

        Raises:
            InputError: There is no such size.
        """
        self.config, self._source = SamConfig.tiny(size), source
        self._weights = {name: jnp.asarray(array, jnp.float32) for name, array in weights.items()}
        self._compiled: set[int] = set()

    @classmethod
    def load(cls, path: Path | None = None, *, size: int = 256) -> TinyNetwork:
        """The network with the weights in a file, the shipped ones when ``None``.

        Raises:
            InputError: The file cannot be used, or there is no such size.
        """
        stored = read_weights(path)
        return cls(stored.arrays, size=size, source=stored.digest[:12])

    @cached_property
    def source(self) -> str:
        """Says which weights these are."""
        if self._source is not None:
            return self._source
        checksum = hashlib.sha256()
        for name in sorted(self._weights):
            checksum.update(name.encode() + np.asarray(self._weights[name]).tobytes())
        return checksum.hexdigest()[:12]

    def model(self) -> TinySamModel:
        """The network as a module."""
        return merge(self.config, self._weights)

    def content(self, image_size: Size, *, least: int = SMALLEST) -> Size:
        """``(h, w)`` that a picture gets in the square: even, the longer side all of it, as in training.

        Args:
            image_size: ``(H, W)``.
            least: Pixels that a side has at least, however thin the picture.
        """
        side = self.config.image_size
        scale = side / max(image_size)
        height, width = (min(side, max(least, 2 * round(length * scale / 2))) for length in image_size)
        return height, width

    def encode(self, image: Image, content: Size) -> TinyFeatures:
        """Features of a picture that is resized to ``content``, at the top left of the square.

        Raises:
            InputError: ``image`` is not ``uint8 [H, W, 3]``.
        """
        check_image("image", image)
        side = self.config.image_size
        method = cv2.INTER_AREA if side < max(image.shape[:2]) else cv2.INTER_LINEAR
        square = np.zeros((side, side, 3), np.uint8)
        square[: content[0], : content[1]] = cv2.resize(
            np.ascontiguousarray(image), content[::-1], interpolation=method
        )
        features: TinyFeatures = _encode(self.config, self._weights, square, np.asarray(content, np.int32))
        return features

    def decode(
        self,
        features: TinyFeatures,
        xy: Float[np.ndarray, "P n 2"],
        labels: Int[np.ndarray, "P n"],
        logits: Float[np.ndarray, "P s s"],
    ) -> tuple[Float[np.ndarray, "P 4 s s"], Float[np.ndarray, "P 4"]]:
        """Logits and predicted IoU of all four masks of every prompt; see ``TinySamModel.decode``.

        Args:
            features: Of the picture.
            xy: Pixels of the square, pixel centres at ``+0.5``.
            labels: -1 pads a prompt.
            logits: Of the masks that are to be corrected; all zero for none.
        """
        on_cpu = jax.default_backend() == "cpu"
        size = min(BLOCK, -(-len(xy) // THREADS)) if on_cpu else BLOCK
        blocks = [
            tuple(array[start : start + size] for array in (xy, labels, logits))
            for start in range(0, len(xy), size)
        ]
        decode = partial(self._decode_block, features, chunk=1 if on_cpu else BLOCK)
        # What is not compiled yet, each thread would compile.
        together = on_cpu and len(blocks) > 1 and xy.shape[1] in self._compiled
        made = list((_threads().map if together else map)(decode, blocks))
        self._compiled.add(xy.shape[1])
        masks, iou = (np.concatenate(arrays) for arrays in zip(*made, strict=True))
        return masks, iou

    def _decode_block(
        self, features: TinyFeatures, block: tuple[np.ndarray, ...], *, chunk: int
    ) -> list[np.ndarray]:
        """Decodes at most ``BLOCK`` prompts."""
        count = len(block[0])
        padded = [np.pad(part, [(0, BLOCK - count)] + [(0, 0)] * (part.ndim - 1)) for part in block]
        answer = _decode(
            self.config, self._weights, features, *padded, np.asarray(count, np.int32), chunk=chunk
        )
        return [array[:count] for array in jax.device_get(answer)]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="decode")


@partial(jax.jit, static_argnames="config")
def _encode(config: SamConfig, weights: Mapping[str, Array], square: Array, content: Array) -> TinyFeatures:
    """Standardises, sets what is beyond the picture to zero, and embeds."""
    pixels, _ = standardise(square, content)
    features: TinyFeatures = merge(config, weights).encode(pixels)
    return features


@partial(jax.jit, static_argnames=("config", "chunk"))
def _decode(
    config: SamConfig,
    weights: Mapping[str, Array],
    features: TinyFeatures,
    xy: Array,
    labels: Array,
    logits: Array,
    count: Array,
    *,
    chunk: int,
) -> tuple[Array, Array]:
    """Decodes the first ``count`` prompts, a chunk at a time; what is left of the output stays zero."""
    model, side = merge(config, weights), 4 * config.embedding_size
    blank = (
        jnp.zeros((len(xy), config.mask_tokens, side, side), jnp.float32),
        jnp.zeros((len(xy), config.mask_tokens), jnp.float32),
    )
    return decode_in_chunks(partial(model.decode, features), (xy, labels, logits), blank, count, chunk=chunk)
