"""CLIP (Radford et al., ICML 2021): phrases, pictures and patches in one space."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Float, UInt8

from softmatch_jax._checks import InputError
from softmatch_jax._types import Size
from softmatch_jax.models.bridge import to_jax
from softmatch_jax.models.checkpoints import Checkpoint, load_pretrained, locate
from softmatch_jax.models.clip_text import PhraseEncoder, check_texts, load_tokenizer
from softmatch_jax.models.optional import require
from softmatch_jax.models.preprocessing import (
    CLIP_MEAN,
    CLIP_STD,
    PREPROCESSING,
    check_images,
    explain_out_of_memory,
    inference,
    pick_device,
    pick_dtype,
    pixel_batches,
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
    _embed: Callable[[tuple[str, ...]], Array] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Its own object: a cache of a method of this one would keep the network in memory after it.
        encoder = PhraseEncoder(
            name=self.checkpoint.name,
            model=self.model,
            tokenizer=self.tokenizer,
            device=self.device,
            templates=self.config.templates,
            batch_size=self.config.batch_size,
            knobs=_KNOBS,
        )
        object.__setattr__(self, "_embed", lru_cache(maxsize=256)(encoder))

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
        device = pick_device(config.device)
        model_class = require("transformers").CLIPModel
        model = load_pretrained(checkpoint, model_class, dtype=pick_dtype(config.dtype, device))
        check_patch_multiple("ClipConfig", config.size, model.config.vision_config.patch_size)
        tokenizer = load_tokenizer(checkpoint, model.config.text_config.vocab_size)
        with explain_out_of_memory(checkpoint.name, "choose dtype bfloat16 or float16"):
            model = model.to(device)
        return cls(checkpoint, config, model, tokenizer, device)

    @property
    def name(self) -> str:
        """Checkpoint and settings in one line, without what leaves the patch features as they are.

        The templates do: features stay valid, and cached, when phrases are put into other sentences.
        """
        config, dtype = self.config, str(self.model.dtype).removeprefix("torch.")
        return (
            f"clip({self.checkpoint.name}@{self.checkpoint.revision}, size={config.size}, "
            f"residual={config.residual}, dtype={dtype}, preprocessing={PREPROCESSING})"
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
        check_texts(texts)
        return self._embed(tuple(texts))

    def image_embeddings(self, images: UInt8[np.ndarray, "B H W 3"]) -> Float[Array, "B dim"]:
        """Where whole pictures lie, unit norm: plain CLIP at the size it was trained at.

        Pictures are stretched to the square, not cropped, so that nothing of them is left out.

        Raises:
            InputError: ``images`` is not a non-empty ``uint8 [B, H, W, 3]``, or the GPU's memory is full.
        """
        array = check_images(images)
        torch, side = require("torch"), int(self.model.config.vision_config.image_size)
        with inference(self.checkpoint.name, self.model.dtype, _KNOBS):
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
        with inference(self.checkpoint.name, self.model.dtype, _KNOBS):
            found = [self._patches(pixels).float() for pixels in self._batches(array, grid.input_size)]
            values = torch.cat(found).reshape(len(array), *grid.shape, self.dim)
            return PatchFeatures(to_jax(values), grid.valid(), grid)

    def _batches(self, images: UInt8[np.ndarray, "B H W 3"], size: Size) -> Iterator[Any]:
        return pixel_batches(
            images,
            size,
            CLIP_MEAN,
            CLIP_STD,
            batch_size=self.config.batch_size,
            device=self.device,
            dtype=self.model.dtype,
        )

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
