"""DINOv2 patch features (Oquab et al., TMLR 2024; with registers, Darcet et al., ICLR 2024)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import UInt8

from softmatch_jax._checks import InputError
from softmatch_jax._types import Size
from softmatch_jax.models.bridge import to_jax
from softmatch_jax.models.checkpoints import Checkpoint, load_pretrained, locate, read_config
from softmatch_jax.models.optional import require
from softmatch_jax.models.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PREPROCESSING,
    check_images,
    explain_out_of_memory,
    inference,
    pick_device,
    pick_dtype,
    pixel_batches,
)
from softmatch_jax.models.protocols import PatchFeatures
from softmatch_jax.models.vit_grid import Fit, check_patch_multiple, resize_positions, vit_grid
from softmatch_jax.prompting import PatchGrid

Interpolation = Literal["original", "transformers"]

_MODEL_CLASSES = {"dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel"}
KNOBS = "lower Dinov2Config.batch_size or size, or choose dtype bfloat16 or float16"
"""What to change where the memory is full."""


@dataclass(frozen=True, kw_only=True)
class Dinov2Config:
    """Settings of the DINOv2 features.

    Attributes:
        size: Side in pixels of the square that the feature grid covers; a multiple of the patch (14).
        fit: ``"stretch"`` resizes every picture to ``size x size``, as Matcher and GF-SAM do.
            ``"aspect"`` keeps its proportions: the longer side becomes ``size``, the other is rounded to
            whole patches, and the features (not the pixels) are padded to the square grid.
        layer: Which transformer layer's output, as an index into the list of layers; -1 is the last.
            Later layers are neither kept nor computed.
        norm: Whether the model's final LayerNorm is applied (Matcher leaves it out).
        interpolation: How positions are interpolated to grids other than the trained one: as in the
            authors' code or as in transformers, which differ for the models without registers.
        batch_size: Pictures that pass through the network together; bounds the memory, not the result.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
        dtype: ``"auto"`` (half precision on a GPU), ``"float32"``, ``"float16"`` or ``"bfloat16"``.
    """

    size: int = 518
    fit: Fit = "stretch"
    layer: int = -1
    norm: bool = True
    interpolation: Interpolation = "original"
    batch_size: int = 8
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.size < 1 or self.batch_size < 1:
            raise InputError(
                f"Dinov2Config has size={self.size} and batch_size={self.batch_size}; expected at least 1."
            )
        for name, options in (("fit", get_args(Fit)), ("interpolation", get_args(Interpolation))):
            if getattr(self, name) not in options:
                raise InputError(
                    f"Dinov2Config.{name} is {getattr(self, name)!r}; expected {' or '.join(options)}."
                )


@dataclass(frozen=True, eq=False)
class Dinov2:
    """The DINOv2 :class:`~softmatch_jax.models.FeatureExtractor`, of any size, with or without registers.

    Made by :meth:`load`. Features are those of the patch tokens, without class token and registers, and
    not of unit norm. Threads may share one.

    Attributes:
        checkpoint: Where the weights come from.
        config: Settings.
        model: The frozen torch network, cut after the layer that the settings ask for.
        device: The ``torch.device`` it is on.
    """

    checkpoint: Checkpoint
    config: Dinov2Config
    model: Any = field(repr=False)
    device: Any
    _positions: Callable[[int, int], Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        embeddings, registers = self.model.embeddings, self._registers
        # The models with registers were published with another interpolation than those without.
        offset = 0.0 if registers or self.config.interpolation == "transformers" else 0.1
        table = embeddings.position_embeddings
        resize = partial(resize_positions, table, offset=offset, antialias=registers > 0)
        # Few shapes: one when stretched; a dozen aspects at hand cost less memory than one picture.
        object.__setattr__(self, "_positions", lru_cache(maxsize=12)(resize))

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        offline: bool | None = None,
        config: Dinov2Config | None = None,
    ) -> Dinov2:
        """Loads a model of the hub or of a folder.

        Args:
            name: For instance ``"facebook/dinov2-large"``, or a folder with ``config.json`` and weights.
            revision: Commit, tag or branch on the hub.
            offline: Whether to look at local files only.
            config: Settings; the defaults when ``None``.

        Raises:
            InputError: Not a DINOv2 checkpoint, settings that do not suit it, or no memory for it.
        """
        config = Dinov2Config() if config is None else config
        checkpoint = locate(name, revision=revision, offline=offline)
        model_class, described = _read_model_class(checkpoint)
        check_patch_multiple("Dinov2Config", config.size, described.patch_size)
        layers = _layer_count(config.layer, described.num_hidden_layers, checkpoint.name)
        device = pick_device(config.device)
        model = load_pretrained(checkpoint, model_class, dtype=pick_dtype(config.dtype, device))
        model.encoder.layer = model.encoder.layer[:layers]
        with explain_out_of_memory(checkpoint.name, "choose dtype bfloat16 or float16"):
            model = model.to(device)
        return cls(checkpoint, config, model, device)

    @property
    def name(self) -> str:
        """Checkpoint and settings in one line, without what leaves the result as it is."""
        config, dtype = self.config, str(self.model.dtype).removeprefix("torch.")
        return (
            f"dinov2({self.checkpoint.name}@{self.checkpoint.revision}, size={config.size}, "
            f"fit={config.fit}, layer={len(self.model.encoder.layer) - 1}, norm={config.norm}, "
            f"interpolation={config.interpolation}, dtype={dtype}, preprocessing={PREPROCESSING})"
        )

    @property
    def dim(self) -> int:
        """Number of feature dimensions."""
        return int(self.model.config.hidden_size)

    @property
    def _registers(self) -> int:
        return int(getattr(self.model.config, "num_register_tokens", 0))

    def grid(self, image_size: Size) -> PatchGrid:
        """The grid for pictures of ``image_size`` ``(H, W)``."""
        patch = int(self.model.config.patch_size)
        return vit_grid(image_size, size=self.config.size, patch=patch, fit=self.config.fit)

    def __call__(self, images: UInt8[np.ndarray, "B H W 3"]) -> PatchFeatures:
        """Features of pictures that share one size, zero on patches in the padding.

        Raises:
            InputError: ``images`` is not a non-empty ``uint8 [B, H, W, 3]``, or the GPU's memory is full.
        """
        array = check_images(images)
        grid = self.grid(array.shape[1:3])
        torch, dtype = require("torch"), self.model.dtype
        with inference(self.checkpoint.name, dtype, KNOBS):
            batches = pixel_batches(
                array,
                grid.input_size,
                IMAGENET_MEAN,
                IMAGENET_STD,
                batch_size=self.config.batch_size,
                device=self.device,
                dtype=dtype,
            )
            values = torch.cat([self._features(pixels, grid) for pixels in batches])
            return PatchFeatures(to_jax(values), grid.valid(), grid)

    def _features(self, pixels: Any, grid: PatchGrid) -> Any:
        """Features of standardised pixels on the padded grid, torch ``float32 [b, rows, columns, d]``."""
        torch = require("torch")
        rows, columns = (length // grid.stride for length in grid.input_size)
        tokens = self._tokens(pixels, rows, columns)
        values = tokens.float().reshape(len(pixels), rows, columns, self.dim)
        below, right = grid.shape[0] - rows, grid.shape[1] - columns
        return torch.nn.functional.pad(values, (0, 0, 0, right, 0, below))

    def _tokens(self, pixels: Any, rows: int, columns: int) -> Any:
        """The patch tokens of standardised pixels, torch ``[b, rows * columns, d]``."""
        hidden = self._embedded(pixels, rows, columns)
        for layer in self.model.encoder.layer:
            hidden = layer(hidden)
        hidden = self.model.layernorm(hidden) if self.config.norm else hidden
        return hidden[:, 1 + self._registers :]

    def _embedded(self, pixels: Any, rows: int, columns: int) -> Any:
        """Class token, registers and patches before the first layer, torch ``[b, others + patches, d]``."""
        torch = require("torch")
        embeddings, count = self.model.embeddings, len(pixels)
        tokens = [embeddings.cls_token.expand(count, -1, -1), embeddings.patch_embeddings(pixels)]
        hidden = torch.cat(tokens, dim=1) + self._positions(rows, columns)
        if self._registers:
            registers = embeddings.register_tokens.expand(count, -1, -1)
            hidden = torch.cat((hidden[:, :1], registers, hidden[:, 1:]), dim=1)
        return hidden


def _read_model_class(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """The transformers class for a checkpoint, and its description as that class reads it."""
    described = read_config(checkpoint) if checkpoint.kind == "transformers" else {}
    kind = described.get("model_type", checkpoint.kind)
    if kind not in _MODEL_CLASSES:
        raise InputError(
            f"{checkpoint.name} holds a model of type {kind!r}; expected {' or '.join(_MODEL_CLASSES)} "
            "(for instance facebook/dinov2-large)."
        )
    model_class = getattr(require("transformers"), _MODEL_CLASSES[kind])
    try:
        config = model_class.config_class.from_dict(described)
    except Exception as error:  # each field has its own kind of complaint
        raise InputError(
            f"config.json of {checkpoint.name} does not describe a {kind} model ({error}); "
            "expected the one published with it (download it again)."
        ) from error
    if not isinstance(config.patch_size, int):
        raise InputError(f"{checkpoint.name} has patches of {config.patch_size}; expected square ones.")
    return model_class, config


def _layer_count(layer: int, available: int, name: str) -> int:
    """How many layers to run for the output of ``layer``."""
    if not -available <= layer < available:
        raise InputError(
            f"Dinov2Config.layer is {layer}; expected between {-available} and {available - 1} "
            f"for the {available} layers of {name}."
        )
    return layer % available + 1
