"""CLIP (Radford et al., ICML 2021): phrases, pictures and patches in one space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import Array, Float, UInt8

from softmatch_jax._checks import InputError
from softmatch_jax._types import Size
from softmatch_jax.models.bridge import to_jax
from softmatch_jax.models.checkpoints import Checkpoint, load_pretrained, locate, read_config
from softmatch_jax.models.optional import require
from softmatch_jax.models.preprocessing import (
    CLIP_MEAN,
    CLIP_STD,
    PREPROCESSING,
    check_images,
    explain_out_of_memory,
    normalise,
    pick_device,
    pick_dtype,
    resize_picture,
)
from softmatch_jax.models.protocols import PatchFeatures
from softmatch_jax.models.vit_grid import check_patch_multiple, vit_grid
from softmatch_jax.prompting import PatchGrid

TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of the large {}.",
    "a photo of the small {}.",
    "a close-up photo of a {}.",
    "a cropped photo of a {}.",
    "a bad photo of a {}.",
)
"""A few of the sentences that the authors averaged over on ImageNet."""

_KNOBS = "lower ClipConfig.batch_size or size, or choose dtype bfloat16 or float16"


REMEMBERED = 256
"""Sets of phrases whose embeddings are kept."""


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Settings of CLIP.

    Attributes:
        size: Side in pixels to which pictures are stretched for patch features; a multiple of the patch
            (14, 16 or 32).
        residual: Whether the last block keeps its residual and its MLP; see :meth:`Clip.__call__`.
        templates: Sentences with one ``{}`` each, into which a phrase is put.
        batch_size: Pictures or sentences that pass through the network together.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
        dtype: ``"auto"`` (half precision on a GPU), ``"float32"``, ``"float16"`` or ``"bfloat16"``.
    """

    size: int = 448
    residual: bool = False
    templates: tuple[str, ...] = TEMPLATES
    batch_size: int = 8
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.size < 1 or self.batch_size < 1:
            raise InputError(
                f"ClipConfig has size={self.size} and batch_size={self.batch_size}; expected at least 1."
            )
        templates: Any = self.templates
        if isinstance(templates, str) or not templates:
            raise InputError(
                f"ClipConfig.templates is {templates!r}; expected a tuple of at least one sentence."
            )
        object.__setattr__(self, "templates", tuple(templates))
        for template in self.templates:
            if template.count("{}") != 1:
                raise InputError(
                    f"ClipConfig.templates has {template!r}; expected one {{}}, where the phrase goes."
                )


@dataclass(frozen=True, eq=False)
class Clip:
    """CLIP with a ViT: a :class:`~softmatch_jax.models.FeatureExtractor` whose space has phrases in it too.

    Made by :meth:`load`. Threads may share one.

    Attributes:
        checkpoint: Where the weights come from.
        config: Settings.
        model: The frozen torch network.
        tokenizer: The checkpoint's own.
        device: The ``torch.device`` the network is on.
    """

    checkpoint: Checkpoint
    config: ClipConfig
    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    device: Any
    # Tokenizers keep how they pad as a state.
    _tokenizing: Lock = field(init=False, repr=False, default_factory=Lock)
    _embedded: dict[tuple[str, ...], Array] = field(init=False, repr=False, default_factory=dict)

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        offline: bool | None = None,
        config: ClipConfig | None = None,
    ) -> Clip:
        """Loads a model of the hub or of a folder.

        Args:
            name: For instance ``"openai/clip-vit-base-patch16"``, or a folder with ``config.json``, weights
                and the tokenizer's files.
            revision: Commit, tag or branch on the hub.
            offline: Whether to look at local files only.
            config: Settings; the defaults when ``None``.

        Raises:
            InputError: Not a CLIP checkpoint, settings that do not suit it, or no memory for it.
        """
        config = ClipConfig() if config is None else config
        checkpoint = locate(name, revision=revision, offline=offline)
        described = read_config(checkpoint) if checkpoint.kind == "transformers" else {}
        kind = described.get("model_type", checkpoint.kind)
        if kind != "clip":
            raise InputError(
                f"{checkpoint.name} holds a model of type {kind!r}; expected clip "
                "(for instance openai/clip-vit-base-patch16)."
            )
        device = pick_device(config.device)
        dtype = pick_dtype(config.dtype, device)
        model = load_pretrained(checkpoint, require("transformers").CLIPModel, dtype=dtype)
        check_patch_multiple("ClipConfig", config.size, model.config.vision_config.patch_size)
        tokenizer = _load_tokenizer(checkpoint, model.config.text_config.vocab_size)
        with explain_out_of_memory(checkpoint.name, "choose dtype bfloat16 or float16"):
            model = model.to(device)
        return cls(checkpoint, config, model, tokenizer, device)

    @property
    def name(self) -> str:
        """Checkpoint and settings in one line, without what leaves the result as it is."""
        config, dtype = self.config, str(self.model.dtype).removeprefix("torch.")
        return (
            f"clip({self.checkpoint.name}@{self.checkpoint.revision}, size={config.size}, "
            f"residual={config.residual}, templates={config.templates!r}, dtype={dtype}, "
            f"preprocessing={PREPROCESSING})"
        )

    @property
    def dim(self) -> int:
        """Number of dimensions of the joint space."""
        return int(self.model.config.projection_dim)

    @property
    def logit_scale(self) -> float:
        """What a cosine is multiplied by to be a logit, as trained; about 100."""
        return float(self.model.logit_scale.float().exp())

    def grid(self, image_size: Size) -> PatchGrid:
        """The grid for pictures of ``image_size`` ``(H, W)``."""
        patch = int(self.model.config.vision_config.patch_size)
        return vit_grid(image_size, size=self.config.size, patch=patch, fit="stretch")

    def text_embeddings(self, texts: Sequence[str]) -> Float[Array, "n dim"]:
        """Where phrases lie, unit norm: the mean of the unit embeddings of a phrase in all templates.

        Remembered, since the same phrases are compared with one picture after another.

        Args:
            texts: One or more phrases, for instance ``["red apple", "leaf"]``.

        Raises:
            InputError: No phrase, an empty one, one too long for the model, or the GPU's memory is full.
        """
        _check_texts(texts)
        known = self._embedded.get(tuple(texts))
        if known is None:
            if len(self._embedded) >= REMEMBERED:
                self._embedded.clear()
            known = self._embedded[tuple(texts)] = self._text_embeddings(texts)
        return known

    def _text_embeddings(self, texts: Sequence[str]) -> Float[Array, "n dim"]:
        sentences = [template.replace("{}", text) for text in texts for template in self.config.templates]
        torch = require("torch")
        with torch.inference_mode(), explain_out_of_memory(self.checkpoint.name, _KNOBS):
            step = self.config.batch_size
            batches = (sentences[start : start + step] for start in range(0, len(sentences), step))
            units = torch.cat([self._sentence_embeddings(batch) for batch in batches])
            means = units.reshape(len(texts), -1, self.dim).mean(dim=1)
            return to_jax(torch.nn.functional.normalize(means, dim=-1))

    def image_embeddings(self, images: UInt8[np.ndarray, "B H W 3"]) -> Float[Array, "B dim"]:
        """Where whole pictures lie, unit norm: plain CLIP at the size it was trained at.

        Pictures are stretched to the square, not cropped, so that nothing of them is left out.

        Raises:
            InputError: ``images`` is not a non-empty ``uint8 [B, H, W, 3]``, or the GPU's memory is full.
        """
        array = check_images(images)
        torch, side = require("torch"), int(self.model.config.vision_config.image_size)
        with torch.inference_mode(), explain_out_of_memory(self.checkpoint.name, _KNOBS):
            found = [
                self.model.get_image_features(pixel_values=pixels).pooler_output.float()
                for pixels in self._batches(array, (side, side))
            ]
            return to_jax(torch.nn.functional.normalize(torch.cat(found), dim=-1))

    def __call__(self, images: UInt8[np.ndarray, "B H W 3"]) -> PatchFeatures:
        """Patches of pictures that share one size, in the joint space.

        The class token alone was trained to meet the text. MaskCLIP (Zhou et al., ECCV 2022) brings the
        patches there by leaving the last block's attention out: each token keeps its own value,
        ``out_proj(v_proj(layer_norm1(x)))``, which is then normalised and projected as the class token
        would be. With ``residual`` the block is otherwise whole, as in the code that MaskCLIP released:
        ``y = x + value``, then ``y + mlp(layer_norm2(y))``. Without, the value stands alone, which ClearCLIP
        (Lan et al., ECCV 2024) found to be less noisy.

        Raises:
            InputError: ``images`` is not a non-empty ``uint8 [B, H, W, 3]``, or the GPU's memory is full.
        """
        array = check_images(images)
        grid = self.grid(array.shape[1:3])
        torch = require("torch")
        with torch.inference_mode(), explain_out_of_memory(self.checkpoint.name, _KNOBS):
            found = [self._patches(pixels).float() for pixels in self._batches(array, grid.input_size)]
            values = torch.cat(found).reshape(len(array), *grid.shape, self.dim)
            return PatchFeatures(to_jax(values), grid.valid(), grid)

    def _batches(self, images: UInt8[np.ndarray, "B H W 3"], size: Size) -> Any:
        """Standardised pixels, torch ``[b, 3, *size]`` on the device, a batch at a time."""
        torch = require("torch")
        for start in range(0, len(images), self.config.batch_size):
            batch = images[start : start + self.config.batch_size]
            resized = np.stack([resize_picture(image, size, resample="bicubic") for image in batch])
            pixels = torch.from_numpy(normalise(resized, CLIP_MEAN, CLIP_STD))
            yield pixels.to(self.device, self.model.dtype)

    def _patches(self, pixels: Any) -> Any:
        """The patch tokens of standardised pixels, torch ``[b, rows * columns, dim]``."""
        vision = self.model.vision_model
        hidden = vision.pre_layrnorm(vision.embeddings(pixels, interpolate_pos_encoding=True))
        *layers, last = vision.encoder.layers
        for layer in layers:
            hidden = layer(hidden, None)
        tokens = hidden[:, 1:]
        values = last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(tokens)))
        if self.config.residual:
            values = tokens + values
            values = values + last.mlp(last.layer_norm2(values))
        return self.model.visual_projection(vision.post_layernorm(values))

    def _sentence_embeddings(self, sentences: list[str]) -> Any:
        """Where sentences lie, unit norm, torch ``float32 [b, dim]``."""
        torch = require("torch")
        with self._tokenizing:
            tokens = self.tokenizer(sentences, padding=True, return_tensors="pt", verbose=False)
        limit = int(self.model.config.text_config.max_position_embeddings)
        lengths = tokens["attention_mask"].sum(dim=1)
        longest = int(lengths.argmax())
        if lengths[longest] > limit:
            raise InputError(
                f"The phrase in {_shortened(sentences[longest])} makes {int(lengths[longest])} tokens; "
                f"expected at most {limit} with its template (shorten it)."
            )
        found = self.model.get_text_features(**tokens.to(self.device)).pooler_output
        return torch.nn.functional.normalize(found.float(), dim=-1)


def _load_tokenizer(checkpoint: Checkpoint, vocabulary: int) -> Any:
    """The tokenizer of a checkpoint, which must know as many tokens as the network."""
    files = "tokenizer.json, or vocab.json and merges.txt"
    try:
        tokenizer = require("transformers").CLIPTokenizer.from_pretrained(
            str(checkpoint.path), local_files_only=True
        )
    except Exception as error:  # a damaged file fails in as many ways as there are parsers
        raise InputError(
            f"The tokenizer of {checkpoint.name} cannot be read ({type(error).__name__}: {error}); expected "
            f"{files} beside the weights."
        ) from error
    # Without its files a tokenizer is made all the same, one that knows no words.
    if len(tokenizer) != vocabulary:
        raise InputError(
            f"The tokenizer of {checkpoint.name} knows {len(tokenizer)} tokens and the network {vocabulary}; "
            f"expected {files} beside the weights (download them again)."
        )
    return tokenizer


def _check_texts(texts: Sequence[str]) -> None:
    """Raises ``InputError`` unless ``texts`` is one or more phrases with something in them."""
    if isinstance(texts, str) or not len(texts):
        raise InputError(f"texts is {texts!r}; expected a list of at least one phrase.")
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"texts[{index}] is {text!r}; expected a phrase such as 'red apple'.")


def _shortened(text: str) -> str:
    """``text`` in quotes, its middle left out when it is long."""
    return repr(text if len(text) <= 60 else f"{text[:40]} ... {text[-15:]}")
