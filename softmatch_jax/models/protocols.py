"""The two protocols that make models exchangeable; nothing above this floor knows which it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Array, Bool, Float, Int32, UInt8

from softmatch_jax._types import Image, Map, Size
from softmatch_jax.prompting import PatchGrid, Prompt


@dataclass(frozen=True, eq=False)
class PatchFeatures:
    """Features of a batch of pictures of one size, with the grid they lie on.

    Attributes:
        values: ``float32 [B, h, w, d]``. Of any length: matchers bring them to unit norm, after
            whitening where their settings ask for it.
        valid: ``bool [h, w]``, false on patches that lie in the padding.
        grid: Where each patch is in the original picture.
    """

    values: Float[Array, "B h w d"]
    valid: Bool[np.ndarray, "h w"]
    grid: PatchGrid

    def flat(self, index: int = 0) -> Float[Array, "hw d"]:
        """Features of one picture of the batch, patches in row-major order."""
        return self.values[index].reshape(-1, self.values.shape[-1])


class FeatureExtractor(Protocol):
    """Maps pictures to patch features."""

    @property
    def name(self) -> str:
        """Identifies the model and its settings in results and caches."""

    @property
    def dim(self) -> int:
        """Number of feature dimensions."""

    def __call__(self, images: UInt8[np.ndarray, "B H W 3"]) -> PatchFeatures:
        """Features of pictures that share one size; resizing and padding are the model's affair.

        The feature grid has the same shape whatever the size of the pictures, so that what is
        compiled for one target serves the next.

        Raises:
            InputError: ``images`` is not ``uint8 [B, H, W, 3]``.
        """


@dataclass(frozen=True, eq=False)
class Proposals:
    """Masks decoded from prompts.

    Attributes:
        masks: ``bool [n, H, W]`` at the size of the original picture.
        scores: ``float32 [n]`` in ``[0, 1]``, the model's own estimate of each mask's quality (SAM's
            predicted IoU).
        prompts: ``int32 [n]``, which prompt each mask answers.
    """

    masks: Bool[np.ndarray, "n H W"]
    scores: Float[np.ndarray, " n"]
    prompts: Int32[np.ndarray, " n"]

    @classmethod
    def empty(cls, size: Size) -> Proposals:
        """No proposals for a picture of ``size`` ``(H, W)``."""
        return cls(np.zeros((0, *size), bool), np.zeros(0, np.float32), np.zeros(0, np.int32))


class MaskGenerator(Protocol):
    """Turns prompts on a picture into masks."""

    @property
    def name(self) -> str:
        """Identifies the model and its settings in results and caches."""

    def encode(self, image: Image) -> Any:
        """What :meth:`decode` needs of a picture, computed once; opaque to the caller."""

    def decode(self, embedding: Any, prompts: Sequence[Prompt], *, prior: Map | None = None) -> Proposals:
        """Masks for the prompts.

        Args:
            embedding: From :meth:`encode`.
            prompts: One or more prompts in coordinates of the original picture. A prompt whose object
                the model does not find yields no proposal.
            prior: ``float32 [H, W]``, probability that each pixel is on the object, at the size of the
                original picture (SAM takes it as its mask prompt).

        Raises:
            InputError: No prompts, or the prior has another size.
        """
