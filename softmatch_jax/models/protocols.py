"""The two protocols that make models exchangeable; nothing above this floor knows which it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from softmatch_jax._types import Image, Map, Size
from softmatch_jax.models.proposals import Proposals
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

    def grid(self, image_size: Size) -> PatchGrid:
        """Where the patches of a picture of ``image_size`` ``(H, W)`` lie."""

    def __call__(self, images: UInt8[np.ndarray, "B H W 3"]) -> PatchFeatures:
        """Features of pictures that share one size; resizing and padding are the model's affair.

        The feature grid has the same shape whatever the size of the pictures, so that what is
        compiled for one target serves the next.

        Raises:
            InputError: ``images`` is not ``uint8 [B, H, W, 3]``.
        """


class MaskGenerator(Protocol):
    """Turns prompts on a picture into masks."""

    @property
    def name(self) -> str:
        """Identifies the model and its settings in results and caches."""

    @property
    def promptable(self) -> bool:
        """Whether points alone mark an object (SAM).

        Scribbles then become prompts; otherwise (GrabCut) the picture is matched with its own scribbles
        first, and the map goes along as the prior.
        """

    def encode(self, image: Image) -> Any:
        """What :meth:`decode` needs of a picture, computed once; opaque to the caller."""

    def decode(self, embedding: Any, prompts: Sequence[Prompt], *, prior: Map | None = None) -> Proposals:
        """Masks for the prompts.

        Args:
            embedding: From :meth:`encode`.
            prompts: One or more prompts in coordinates of the original picture. A prompt whose object
                the model does not find yields no proposal.
            prior: ``float32 [H, W]``, probability that each pixel is on the object, at the size of the
                original picture. Generators that need no such help may pass it over.

        Raises:
            InputError: No prompts, or the prior has another size.
        """


@runtime_checkable
class Storable(Protocol):
    """A mask generator whose embeddings can be put in a cache, being expensive to compute."""

    @property
    def embedding_name(self) -> str:
        """What decides an embedding besides the picture; settings of decoding are not in it."""

    def encode(self, image: Image) -> Any:
        """As in :class:`MaskGenerator`."""

    def pack(self, embedding: Any) -> Mapping[str, np.ndarray]:
        """The embedding as named arrays."""

    def unpack(self, arrays: Mapping[str, np.ndarray], image_size: Size) -> Any:
        """The embedding of a picture of ``image_size`` ``(H, W)``, from what :meth:`pack` returned."""
