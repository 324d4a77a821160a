"""SAM as a mask generator: pictures and prompts of the user's coordinates in, proposals out."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from softmatch_jax._checks import InputError, check_finite, check_image, check_positive, check_shape
from softmatch_jax._types import Image, Map, Size
from softmatch_jax.models.checkpoints import Checkpoint, locate
from softmatch_jax.models.preprocessing import PREPROCESSING
from softmatch_jax.models.proposals import Proposals, stability_scores
from softmatch_jax.models.sam.convert import config_of, load_sam
from softmatch_jax.models.sam.embedding import SamEmbedding, explain_out_of_memory
from softmatch_jax.models.sam.fast_decoder import FastDecoder, SharedImage
from softmatch_jax.models.sam.fitting import SamFit, input_size, square_pixels
from softmatch_jax.models.sam.image_encoder_jax import JaxImageEncoder
from softmatch_jax.models.sam.image_encoder_torch import TorchImageEncoder
from softmatch_jax.models.sam.mask_decoder import MaskDecoder
from softmatch_jax.models.sam.model import Sam
from softmatch_jax.models.sam.prompt_batch import model_tokens, pad_tokens, padded_length
from softmatch_jax.models.sam.prompt_encoder import PromptEncoder
from softmatch_jax.models.sam.static_graph import StaticGraph, split
from softmatch_jax.prompting import Prompt

Masks = Literal["auto", "single", "multiple"]
Runtime = Literal["jax", "torch"]

ENCODERS: dict[Runtime, type[JaxImageEncoder] | type[TorchImageEncoder]] = {
    "jax": JaxImageEncoder,
    "torch": TorchImageEncoder,
}
"""What runs the image encoder, by runtime."""

STABILITY_OFFSET = 1.0
"""By how much the threshold is moved either way to see how stable a mask is; segment-anything's value."""

BLOCK = 64
"""Prompts whose logits are on the device at a time, so that any number of prompts fits."""


@dataclass(frozen=True, kw_only=True)
class SamGeneratorConfig:
    """Settings of SAM as a mask generator.

    Attributes:
        masks: Masks for each prompt. single is the one for prompts that are clear (several points, a box,
            a correction), multiple the three for prompts that are not (a single point), and auto goes by
            the prompt.
        runtime: What runs the image encoder. jax needs no torch where the weights are safetensors; torch
            knows mps.
        device: Where the image encoder runs: auto, cpu, cuda, cuda:N or mps.
        dtype: Its precision: auto (half on a GPU), float32, float16 or bfloat16. The decoder is float32.
        fit: How a picture is brought to SAM's square. aspect is SAM's own: the longer side fills it.
            published is VRP-SAM's: squashed to 512 x 512 and enlarged from there.
        chunk: Prompts that the decoder computes together on an accelerator; fewer take less memory. The
            platform's own number when None.
    """

    masks: Masks = "auto"
    runtime: Runtime = "jax"
    device: str = "auto"
    dtype: str = "auto"
    fit: SamFit = "aspect"
    chunk: int | None = None

    def __post_init__(self) -> None:
        for name, kind in (("masks", Masks), ("runtime", Runtime), ("fit", SamFit)):
            value, choices = getattr(self, name), get_args(kind)
            if value not in choices:
                raise InputError(f"SamGeneratorConfig.{name} is {value!r}; expected {', '.join(choices)}.")
        if self.chunk is not None:
            check_positive("SamGeneratorConfig.chunk", self.chunk)


class SamMaskGenerator:
    """The foundation :class:`~softmatch_jax.models.MaskGenerator`.

    The image encoder runs once a picture, in JAX or in torch; prompt encoder and mask decoder run in JAX.
    Made by :meth:`load`; threads may share one.

    Attributes:
        config: Settings.
    """

    def __init__(self, sam: Sam, encoder: Any, name: str, config: SamGeneratorConfig | None = None) -> None:
        """Puts a generator together.

        Args:
            sam: Prompt encoder and mask decoder.
            encoder: Maps standardised pixels ``float32 [1, 3, S, S]`` to an embedding ``[1, N, dim]``.
            name: Says which weights these are.
            config: Settings.
        """
        self.config = config or SamGeneratorConfig()
        self._sam, self._sizes = sam, sam.config
        self._encoder, self._source = encoder, name
        self._decoder = FastDecoder(sam, chunk=self.config.chunk)
        self._graph, self._state = split(sam.prompt_encoder)

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        offline: bool | None = None,
        config: SamGeneratorConfig | None = None,
    ) -> SamMaskGenerator:
        """Loads SAM ViT-B, L or H.

        Args:
            name: A model of the hub such as ``"facebook/sam-vit-base"``, a folder in transformers'
                format, or a ``.pth`` file of segment-anything.
            revision: Commit, tag or branch on the hub.
            offline: Whether to look at local files only.
            config: Settings; the defaults when ``None``.

        Raises:
            InputError: The checkpoint cannot be found, damaged, or of another network.
        """
        config = config or SamGeneratorConfig()
        checkpoint = locate(name, revision=revision, offline=offline)
        sizes = config_of(checkpoint)
        sam = load_sam(checkpoint, config=sizes)
        encoder = ENCODERS[config.runtime].load(checkpoint, sizes, config.device, config.dtype)
        return cls(sam, encoder, _source(checkpoint, encoder.dtype, config.runtime), config)

    @property
    def name(self) -> str:
        """Checkpoint and settings in one line, without what leaves the result as it is."""
        return f"{self.embedding_name[:-1]}, masks={self.config.masks})"

    @property
    def embedding_name(self) -> str:
        """What decides an embedding: the checkpoint, how its encoder runs, and how pictures are fitted."""
        fit = "" if self.config.fit == "aspect" else f", fit={self.config.fit}"
        return f"sam({self._source}{fit})"

    @property
    def promptable(self) -> bool:
        """True: points alone mark an object."""
        return True

    def encode(self, image: Image) -> SamEmbedding:
        """Runs the image encoder on the picture in SAM's square of 1024 pixels, standardised.

        Raises:
            InputError: ``image`` is not ``uint8 [H, W, 3]``, the embedding is not finite, or the GPU's
                memory is full.
        """
        check_image("image", image)
        rows = self._encoder(square_pixels(image, self._sizes.image_size, self.config.fit))[0]
        check_finite(
            f"the embedding from {self.embedding_name}",
            rows,
            "expected finite numbers (the weights are broken, or float16 overflows: choose dtype float32).",
        )
        size = (image.shape[0], image.shape[1])
        return SamEmbedding(rows, self._input_size(size), size, self._decoder)

    def pack(self, embedding: SamEmbedding) -> dict[str, np.ndarray]:
        """The embedding as named arrays, for a cache."""
        return {"rows": np.asarray(embedding.rows)}

    def unpack(self, arrays: Mapping[str, np.ndarray], image_size: Size) -> SamEmbedding:
        """The embedding of a picture of ``image_size``, from what :meth:`pack` returned."""
        rows = jnp.asarray(arrays["rows"], jnp.float32)
        return SamEmbedding(rows, self._input_size(image_size), image_size, self._decoder)

    def parts(self) -> tuple[PromptEncoder, MaskDecoder]:
        """Prompt encoder and mask decoder, for who prompts with embeddings."""
        return self._sam.prompt_encoder, self._sam.mask_decoder

    def scene(self, embedding: SamEmbedding) -> tuple[Array, None]:
        """The image embedding's rows; there are no finer features."""
        return embedding.rows, None

    def raster(self, image_size: Size) -> Proposals:
        """No proposals, on the raster that those of a picture of ``image_size`` ``(H, W)`` lie on."""
        side = 4 * self._sizes.embedding_size
        blank, content = Proposals.empty((side, side)), self._input_size(image_size)
        return replace(blank, image_size=image_size, content=content, scale=self._sizes.patch_size // 4)

    def decode(
        self, embedding: SamEmbedding, prompts: Sequence[Prompt], *, prior: Map | None = None
    ) -> Proposals:
        """Masks for prompts; see :class:`~softmatch_jax.models.MaskGenerator`.

        Prompts are decoded in blocks, so that memory does not grow with their number but for the
        proposals themselves, a quarter of a megabyte a mask.

        Args:
            embedding: From :meth:`encode`.
            prompts: Points, boxes, earlier logits to be corrected, in any combination.
            prior: Passed over: SAM was not trained on maps of this kind.

        Raises:
            InputError: No prompts, or logits that are not of SAM's raster.
        """
        if not prompts:
            raise InputError("decode got no prompts; expected at least one.")
        wanted = [self._wanted(prompt) for prompt in prompts]
        starts = np.concatenate([[0], np.cumsum([len(masks) for masks in wanted])])
        side = 4 * self._sizes.embedding_size
        logits = np.empty((starts[-1], side, side), np.float32)
        scores = np.empty(starts[-1], np.float32)
        ratio = np.divide(embedding.input_size, embedding.image_size)[::-1].astype(np.float32)
        tokens = [model_tokens(prompt, ratio) for prompt in prompts]
        kinds = [(masks, padded_length(labels)) for masks, (_, labels) in zip(wanted, tokens, strict=True)]
        with explain_out_of_memory(self._decoder.chunk):
            for block, shared in self._blocks(embedding, prompts, kinds):
                masks, _ = kinds[block[0]]
                answers = self._decode([tokens[index] for index in block], shared, masks)
                for index, *answer in zip(block, *answers, strict=False):  # answers are padded
                    places = slice(starts[index], starts[index + 1])
                    logits[places], scores[places] = answer
        answered = np.repeat(np.arange(len(prompts), dtype=np.int32), np.diff(starts))
        return self._proposals(embedding, logits, scores, answered)

    def _wanted(self, prompt: Prompt) -> tuple[int, ...]:
        """The masks that a prompt wants."""
        every = tuple(range(self._sizes.mask_tokens))
        clear = len(prompt.points) > 1 or prompt.box is not None or prompt.logits is not None
        single = clear if self.config.masks == "auto" else self.config.masks == "single"
        return every[:1] if single else every[1:]

    def _blocks(
        self, embedding: SamEmbedding, prompts: Sequence[Prompt], kinds: Sequence[Hashable]
    ) -> Iterator[tuple[list[int], SharedImage]]:
        """The prompts that are decoded together, all of one kind, and what they share."""
        for kind in dict.fromkeys(kinds):
            same = [index for index, other in enumerate(kinds) if other == kind]
            plain = [index for index in same if prompts[index].logits is None]
            for start in range(0, len(plain), BLOCK):
                yield plain[start : start + BLOCK], embedding.shared
            for index in same:
                if prompts[index].logits is not None:
                    yield [index], self._corrected(embedding, prompts[index])

    def _corrected(self, embedding: SamEmbedding, prompt: Prompt) -> SharedImage:
        side = 4 * self._sizes.embedding_size
        check_shape("Prompt.logits", prompt.logits, (side, side), "the raster of SAM's own proposals")
        dense = _embed_mask(self._graph, self._state, jnp.asarray(prompt.logits, jnp.float32))
        return self._decoder.share(embedding.rows, dense)

    def _decode(
        self, tokens: Sequence[tuple[np.ndarray, np.ndarray]], shared: SharedImage, masks: tuple[int, ...]
    ) -> tuple[Float[np.ndarray, "P m h w"], Float[np.ndarray, "P m"]]:
        """Logits and scores of prompts of one padded length, in a bucket with zeros beyond them."""
        xy, labels, valid = pad_tokens(tokens, self._decoder.bucket(len(tokens)))
        sparse = _encode_points(self._graph, self._state, xy, labels)
        decoded = self._decoder.decode(shared, sparse, jnp.asarray(valid), masks=masks, count=len(tokens))
        logits, iou = jax.device_get(decoded)
        return logits, iou

    def _proposals(
        self, embedding: SamEmbedding, logits: np.ndarray, scores: np.ndarray, prompts: np.ndarray
    ) -> Proposals:
        made = replace(
            self.raster(embedding.image_size),
            logits=logits,
            scores=scores,
            stability=np.ones(len(scores), np.float32),
            prompts=prompts,
        )
        return replace(made, stability=stability_scores(logits, made.inside, STABILITY_OFFSET))

    def _input_size(self, image_size: Size) -> Size:
        return input_size(image_size, self._sizes.image_size, self.config.fit)


def _source(checkpoint: Checkpoint, dtype: str, runtime: Runtime) -> str:
    """The checkpoint and how its encoder runs.

    In float32 both runtimes agree to some 1e-6 of the embedding's range, so that one may use what the other
    has cached. In half precision they round in other places.
    """
    half = "" if dtype == "float32" else f", runtime={runtime}"
    return f"{checkpoint.name}@{checkpoint.revision}, dtype={dtype}{half}, preprocessing={PREPROCESSING}"


@partial(jax.jit, static_argnames="graph")
def _encode_points(graph: StaticGraph, state: Any, xy: Array, labels: Array) -> Array:
    encoder: PromptEncoder = graph.merge(state)
    return jax.vmap(encoder.encode_points)(xy, labels)


@partial(jax.jit, static_argnames="graph")
def _embed_mask(graph: StaticGraph, state: Any, logits: Array) -> Array:
    encoder: PromptEncoder = graph.merge(state)
    return encoder.embed_mask(logits)
