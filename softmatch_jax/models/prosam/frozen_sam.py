"""SAM as a frozen decoder of prompt embeddings, whichever SAM it is: pictures in, logits of a mask out.

The prompts join SAM's decoder as tokens, without points, boxes or an earlier mask; the first of its masks is
the answer, as in VRP-SAM's code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float

from softmatch_jax._types import Image, Size
from softmatch_jax.models.proposals import Proposals
from softmatch_jax.models.protocols import MaskGenerator
from softmatch_jax.models.sam.mask_decoder import Fine, MaskDecoder
from softmatch_jax.models.sam.prompt_encoder import PromptEncoder
from softmatch_jax.models.sam.static_graph import split


class Scene(NamedTuple):
    """What the decoder needs of a picture.

    Attributes:
        rows: The image embedding, cells in row-major order.
        double: Features at twice its side, where the SAM has such; see
            :class:`~softmatch_jax.models.sam.mask_decoder.Fine`.
        fourfold: Features at four times its side.
    """

    rows: Float[Array, "hw dim"]
    double: Float[Array, "2*h 2*w c"] | None = None
    fourfold: Float[Array, "4*h 4*w d"] | None = None


@runtime_checkable
class TakesEmbeddings(MaskGenerator, Protocol):
    """A mask generator that is a SAM: it has a prompt encoder and a mask decoder to hand out."""

    def parts(self) -> tuple[PromptEncoder, MaskDecoder]:
        """Both, with their weights."""

    def scene(self, embedding: Any) -> tuple[Array, Fine | None]:
        """The image embedding's rows and the finer features of what ``encode`` returned."""

    def raster(self, image_size: Size) -> Proposals:
        """No proposals, on the raster that those of a picture of ``image_size`` ``(H, W)`` lie on."""


@dataclass(frozen=True, eq=False)
class EncodedScene:
    """A picture as the frozen SAM sees it.

    Attributes:
        scene: What the decoder needs.
        raster: No proposals, on the raster of the picture's masks: their geometry.
    """

    scene: Scene
    raster: Proposals

    def proposals(self, logits: Float[np.ndarray, "n h w"]) -> Proposals:
        """Decoded logits as proposals, which know the way to the picture's size."""
        count = len(logits)
        return replace(
            self.raster,
            logits=np.asarray(logits, np.float32),
            scores=np.ones(count, np.float32),
            stability=np.ones(count, np.float32),
            prompts=np.arange(count, dtype=np.int32),
        )


class FrozenSam:
    """The decoder of a SAM for prompt embeddings.

    Attributes:
        generator: The SAM.
        weights: Of the decoder, a pytree to be handed to :meth:`logits`: an argument of compiled functions,
            and never trained.
        dim: Channels of a prompt embedding.
        side: Cells along the side of the masks' raster.
    """

    def __init__(self, generator: TakesEmbeddings) -> None:
        self.generator = generator
        encoder, decoder = generator.parts()
        self._graph, state = split(decoder)
        self.weights: dict[str, Any] = {
            "decoder": state,
            "no_mask": encoder.no_mask[...],
            "positions": encoder.dense_positions(),
        }
        self.dim, self.side = decoder.config.dim, 4 * decoder.config.embedding_size

    @property
    def name(self) -> str:
        """The SAM's weights."""
        embedding_name = getattr(self.generator, "embedding_name", self.generator.name)
        return str(embedding_name)

    def encode(self, image: Image) -> EncodedScene:
        """Runs the image encoder.

        Raises:
            InputError: ``image`` is not ``uint8 [H, W, 3]``.
        """
        return self.of(self.generator.encode(image), (image.shape[0], image.shape[1]))

    def of(self, embedding: Any, image_size: Size) -> EncodedScene:
        """The same of what the generator's ``encode`` returned for a picture of ``image_size``."""
        rows, fine = self.generator.scene(embedding)
        return EncodedScene(Scene(rows, *(fine or ())), self.raster(image_size))

    def raster(self, image_size: Size) -> Proposals:
        """No proposals, on the raster that those of a picture of ``image_size`` ``(H, W)`` lie on."""
        return self.generator.raster(image_size)

    def logits(
        self,
        weights: Any,
        scene: Scene,
        prompts: Float[Array, "n dim"],
        valid: Bool[Array, " n"] | None = None,
    ) -> Float[Array, "side side"]:
        """Decodes prompt embeddings to the logits of one mask; pure, traceable and differentiable.

        Args:
            weights: :attr:`weights`.
            scene: Of the target.
            prompts: Embeddings of one reference, or of several one after the other.
            valid: False on those that do not count.

        Raises:
            InputError: The shapes do not fit the SAM.
        """
        decoder: MaskDecoder = self._graph.merge(weights["decoder"])
        fine = None
        if scene.double is not None and scene.fourfold is not None:
            fine = Fine(scene.double, scene.fourfold)
        rows = scene.rows + weights["no_mask"]
        masks, _ = decoder(rows, weights["positions"], prompts, valid=valid, fine=fine)
        return masks[0]
