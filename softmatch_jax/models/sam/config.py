"""The sizes of a SAM model, read from either kind of checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from softmatch_jax._checks import InputError, check_positive

RASTER_CHANNELS = 7
"""Maps that a prompt of the tiny model is drawn as; see ``prompt_rasters``."""

_PUBLISHED = "SAM ViT-B, ViT-L and ViT-H"
# Settings of transformers' configuration that the code here takes for granted.
_FIXED: dict[str, dict[str, Any]] = {
    "vision_config": {
        "qkv_bias": True,
        "use_abs_pos": True,
        "use_rel_pos": True,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "num_channels": 3,
    },
    "prompt_encoder_config": {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "num_point_embeddings": 4},
    "mask_decoder_config": {"hidden_act": "relu"},
}


@dataclass(frozen=True, kw_only=True)
class StemConfig:
    """Convolutional stages in front of the transformer blocks of a small image encoder.

    Attributes:
        dims: Channels of the stages at strides 4 and 8.
        depths: Blocks of each stage.
        side: Cells along the side of the largest grid, at stride 16, that the transformer blocks see.
    """

    dims: tuple[int, int] = (48, 96)
    depths: tuple[int, int] = (2, 3)
    side: int = 16

    def __post_init__(self) -> None:
        for name in ("dims", "depths"):
            values = tuple(getattr(self, name))
            object.__setattr__(self, name, values)
            if len(values) != 2 or min(values) < 1:
                raise InputError(f"StemConfig.{name} is {values}; expected two positive numbers.")
        check_positive("StemConfig.side", self.side)


@dataclass(frozen=True, kw_only=True)
class SamConfig:
    """Sizes of prompt encoder, mask decoder and image encoder; the defaults are ViT-B's.

    Attributes:
        dim: Channels of tokens and of the image embedding; a multiple of 8.
        depth: Two-way blocks.
        heads: Attention heads of the decoder.
        mlp_dim: Hidden units of the MLP in a two-way block.
        downsample: By how much attention between tokens and image narrows its channels.
        multimask_outputs: Masks for an ambiguous prompt; one more mask answers an unambiguous one.
        iou_hidden: Hidden units of the head that predicts IoU.
        iou_depth: Its layers, at least 2.
        image_size: Side in pixels of the square that the image encoder sees.
        embedding_size: Side of the image embedding; divides ``image_size``.
        mask_in_channels: Channels before the last convolution of the mask prompt; a multiple of 4.
        layer_norm_eps: Of the norms in the two-way blocks. segment-anything has 1e-5, and
            transformers' checkpoints say 1e-6.
        final_norm_eps: Of the norm behind the blocks, 1e-5 with both.
        encoder_dim: Channels of the image encoder.
        encoder_depth: Its blocks.
        encoder_heads: Its attention heads.
        encoder_mlp_dim: Hidden units of its MLPs.
        encoder_window: Side of the windows that most of its blocks attend within, in patches.
        global_attention: Indices of the blocks that attend to the whole picture.
        upscale_dims: Channels of the image embedding at twice and at four times its side; a quarter and an
            eighth of ``dim`` when ``None``, which is SAM.
        refinements: Dilations of convolutions at twice the side, which SAM does not have.
        raster_channels: Maps that a prompt is drawn as for the mask path: 1 is SAM, a mask's logits.
        stem: Stages in front of the encoder's blocks; none is SAM, whose patches are cut at once.

    Raises:
        InputError: The sizes do not fit together.
    """

    dim: int = 256
    depth: int = 2
    heads: int = 8
    mlp_dim: int = 2048
    downsample: int = 2
    multimask_outputs: int = 3
    iou_hidden: int = 256
    iou_depth: int = 3
    image_size: int = 1024
    embedding_size: int = 64
    mask_in_channels: int = 16
    layer_norm_eps: float = 1e-5
    final_norm_eps: float = 1e-5
    encoder_dim: int = 768
    encoder_depth: int = 12
    encoder_heads: int = 12
    encoder_mlp_dim: int = 3072
    encoder_window: int = 14
    global_attention: tuple[int, ...] = (2, 5, 8, 11)
    upscale_dims: tuple[int, int] | None = None
    refinements: tuple[int, ...] = ()
    raster_channels: int = 1
    stem: StemConfig | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "global_attention", tuple(self.global_attention))
        for name, value in vars(self).items():
            if name not in ("global_attention", "upscale_dims", "refinements", "stem"):
                check_positive(f"SamConfig.{name}", value)
        for name, whole, parts in (
            ("dim by 8", self.dim, 8),
            ("dim by downsample * heads", self.dim, self.downsample * self.heads),
            ("mask_in_channels by 4", self.mask_in_channels, 4),
            ("image_size by 4 * embedding_size", self.image_size, 4 * self.embedding_size),
            ("encoder_dim by encoder_heads", self.encoder_dim, self.encoder_heads),
        ):
            if whole % parts:
                raise InputError(f"SamConfig divides {name}, but {whole} is not a multiple of {parts}.")
        if self.iou_depth < 2:
            raise InputError(f"SamConfig.iou_depth is {self.iou_depth}; expected at least 2 layers.")
        if self.stem is not None and self.image_size != 16 * self.embedding_size:
            raise InputError(
                f"SamConfig has image_size {self.image_size} and embedding_size {self.embedding_size}; "
                "expected 16 times as many pixels, which is the stride behind a stem."
            )
        if not all(0 <= index < self.encoder_depth for index in self.global_attention):
            raise InputError(
                f"SamConfig.global_attention is {self.global_attention}; expected indices of the "
                f"{self.encoder_depth} blocks, counted from 0."
            )

    @classmethod
    def base(cls) -> SamConfig:
        """SAM ViT-B as segment-anything builds it."""
        return cls()

    @classmethod
    def large(cls) -> SamConfig:
        """SAM ViT-L as segment-anything builds it."""
        return cls(
            encoder_dim=1024,
            encoder_depth=24,
            encoder_heads=16,
            encoder_mlp_dim=4096,
            global_attention=(5, 11, 17, 23),
        )

    @classmethod
    def huge(cls) -> SamConfig:
        """SAM ViT-H as segment-anything builds it."""
        return cls(
            encoder_dim=1280,
            encoder_depth=32,
            encoder_heads=16,
            encoder_mlp_dim=5120,
            global_attention=(7, 15, 23, 31),
        )

    @classmethod
    def tiny(cls, image_size: int = 256) -> SamConfig:
        """The small model that comes with this package; its weights serve every ``image_size`` up to 256.

        Prompts are also drawn as maps (see ``prompt_rasters``).

        Args:
            image_size: Side in pixels of the square that it sees, a multiple of 16.

        Raises:
            InputError: It is no such side.
        """
        stem = StemConfig()
        if image_size % 16 or not 0 < image_size <= 16 * stem.side:
            raise InputError(
                f"image_size is {image_size}; expected a multiple of 16 up to {16 * stem.side}, since the "
                "tiny model has positions for no more."
            )
        return cls(
            dim=128,
            heads=4,
            mlp_dim=512,
            iou_hidden=128,
            image_size=image_size,
            embedding_size=image_size // 16,
            mask_in_channels=64,
            encoder_dim=192,
            encoder_depth=4,
            encoder_heads=6,
            encoder_mlp_dim=576,
            encoder_window=8,
            global_attention=(1, 3),
            upscale_dims=(64, 24),
            refinements=(1, 2, 4),
            raster_channels=RASTER_CHANNELS,
            stem=stem,
        )

    @property
    def upscaled(self) -> tuple[int, int]:
        """Channels of the image embedding at twice and at four times its side."""
        return self.upscale_dims or (self.dim // 4, self.dim // 8)

    @property
    def patch_size(self) -> int:
        """Pixels of the model's input along a patch's side."""
        return self.image_size // self.embedding_size

    @property
    def mask_tokens(self) -> int:
        """Masks that are decoded for every prompt: the single one, then the ambiguous ones."""
        return self.multimask_outputs + 1

    @classmethod
    def from_transformers(cls, config: Mapping[str, Any]) -> SamConfig:
        """The sizes in a parsed ``config.json``; what it leaves out has transformers' default.

        Raises:
            InputError: It is not of a SAM model, or differs from SAM in what is not a size.
        """
        if config.get("model_type") != "sam":
            raise InputError(
                f"config.json has model_type {config.get('model_type')!r}; expected 'sam' "
                "(for instance facebook/sam-vit-base; SAM-HQ, SAM 2 and their kin are other networks)."
            )
        parts = {part: config.get(part) or {} for part in _FIXED}
        for part, fixed in _FIXED.items():
            for name, value in fixed.items():
                _check_entry(f"{part}.{name}", parts[part].get(name, value), value)
        vision, prompts, decoder = parts.values()
        dim = decoder.get("hidden_size", 256)
        image_size, patch_size = vision.get("image_size", 1024), vision.get("patch_size", 16)
        _check_entry("prompt_encoder_config.hidden_size", prompts.get("hidden_size", 256), dim)
        _check_entry("prompt_encoder_config.image_size", prompts.get("image_size", 1024), image_size)
        _check_entry("prompt_encoder_config.patch_size", prompts.get("patch_size", 16), patch_size)
        _check_entry("vision_config.output_channels", vision.get("output_channels", 256), dim)
        _check_entry("vision_config.num_pos_feats", vision.get("num_pos_feats", 128), dim // 2)
        hidden = vision.get("hidden_size", 768)
        return cls(
            dim=dim,
            depth=decoder.get("num_hidden_layers", 2),
            heads=decoder.get("num_attention_heads", 8),
            mlp_dim=decoder.get("mlp_dim", 2048),
            downsample=decoder.get("attention_downsample_rate", 2),
            multimask_outputs=decoder.get("num_multimask_outputs", 3),
            iou_hidden=decoder.get("iou_head_hidden_dim", 256),
            iou_depth=decoder.get("iou_head_depth", 3),
            image_size=image_size,
            embedding_size=image_size // patch_size,
            mask_in_channels=prompts.get("mask_input_channels", 16),
            layer_norm_eps=decoder.get("layer_norm_eps", 1e-6),
            encoder_dim=hidden,
            encoder_depth=vision.get("num_hidden_layers", 12),
            encoder_heads=vision.get("num_attention_heads", 12),
            encoder_mlp_dim=vision.get("mlp_dim") or int(hidden * vision.get("mlp_ratio", 4.0)),
            encoder_window=vision.get("window_size", 14),
            global_attention=tuple(vision.get("global_attn_indexes", (2, 5, 8, 11))),
        )

    @classmethod
    def from_segment_anything(cls, shapes: Mapping[str, Sequence[int]]) -> SamConfig:
        """ViT-B, L or H, told apart by the image encoder's width and depth in a ``.pth`` file.

        Args:
            shapes: Shape of every tensor by its name.

        Raises:
            InputError: It is none of the three.
        """
        width = shapes.get("image_encoder.patch_embed.proj.weight", (0,))[0]
        prefix = "image_encoder.blocks."
        blocks = {name[len(prefix) :].partition(".")[0] for name in shapes if name.startswith(prefix)}
        for config in (cls.base(), cls.large(), cls.huge()):
            if (config.encoder_dim, config.encoder_depth) == (width, len(blocks)):
                return config
        raise InputError(
            f"The weights hold an image encoder of {len(blocks)} blocks of {width} channels; expected "
            f"{_PUBLISHED} of segment-anything (12 x 768, 24 x 1024 or 32 x 1280; MobileSAM and its kin "
            "are other networks)."
        )


def _check_entry(name: str, got: Any, expected: Any) -> None:
    """Raises ``InputError`` unless an entry of transformers' configuration has the one value it can have."""
    if got != expected:
        raise InputError(
            f"config.json has {name} = {got!r}; expected {expected!r} as in {_PUBLISHED} (this is another "
            "network, or the file was altered)."
        )
