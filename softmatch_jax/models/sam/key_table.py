"""What every tensor of a SAM checkpoint is called, and where it belongs.

Two formats are known: segment-anything's ``.pth`` files and transformers' folders. They hold the same
tensors in the same layout under different names, so one table gives both names and our path. Tables are
written out for the sizes at hand, which makes a missing name as visible as an unknown one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from softmatch_jax.models.sam.config import SamConfig

Source: TypeAlias = Literal["transformers", "segment_anything"]
Kind: TypeAlias = Literal["linear", "norm", "conv", "conv_transpose"]

# Axes of torch's layout in the order of ours: out-in; out-in-h-w to h-w-in-out; in-out-h-w to in-h-w-out.
_KERNEL_AXES: dict[Kind, tuple[int, ...]] = {
    "linear": (1, 0),
    "norm": (0,),
    "conv": (2, 3, 1, 0),
    "conv_transpose": (0, 2, 3, 1),
}
ENCODER_PREFIX: dict[Source, str] = {
    "transformers": "vision_encoder.",
    "segment_anything": "image_encoder.",
}
# Some exports hold the constants of pixel normalisation, which belong to preprocessing.
IGNORED = frozenset({"pixel_mean", "pixel_std"})
# Names under which a tensor is also met: transformers ties the position matrix to a second copy and
# saves either or both.
ALIASES: dict[str, tuple[str, ...]] = {
    "prompt_encoder.shared_embedding.positional_embedding": (
        "shared_image_embedding.positional_embedding",
        "prompt_encoder.positional_embedding",
    )
}


@dataclass(frozen=True)
class Entry:
    """One tensor of a checkpoint.

    Attributes:
        key: Its name there.
        path: The path of our array in :class:`~softmatch_jax.models.sam.model.Sam`, or in
            :class:`~softmatch_jax.models.sam.image_encoder.ImageEncoder`.
        axes: ``ours = theirs.transpose(axes)``.
        row: Instead, ``theirs`` is ``[1, dim]`` and becomes this row of ours.
    """

    key: str
    path: tuple[str | int, ...]
    axes: tuple[int, ...] = ()
    row: int | None = None

    def shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that the checkpoint's tensor must have, given that of our array."""
        if self.row is not None:
            return (1, ours[-1])
        theirs = dict(zip(self.axes, ours, strict=True))
        return tuple(theirs[axis] for axis in range(len(ours)))


def decoder_entries(config: SamConfig, source: Source) -> list[Entry]:
    """All tensors of prompt encoder and mask decoder."""
    entries = list(_single_tensors(config, source))
    for theirs, ours, kind in (*_prompt_modules(source), *_decoder_modules(config, source)):
        path = tuple(int(part) if part.isdigit() else part for part in ours.split("."))
        kernel = "scale" if kind == "norm" else "kernel"
        entries.append(Entry(f"{theirs}.weight", (*path, kernel), _KERNEL_AXES[kind]))
        entries.append(Entry(f"{theirs}.bias", (*path, "bias"), (0,)))
    return entries


def _single_tensors(config: SamConfig, source: Source) -> Iterator[Entry]:
    """The tensors that are no module's weight and bias."""
    prompt, decoder = "prompt_encoder", "mask_decoder"
    hugging = source == "transformers"
    matrix = "shared_embedding.positional_embedding"
    if not hugging:
        matrix = "pe_layer.positional_encoding_gaussian_matrix"
    yield Entry(f"{prompt}.{matrix}", (prompt, "positions"), (0, 1))
    points = "point_embed" if hugging else "point_embeddings"
    for row in range(4):
        yield Entry(f"{prompt}.{points}.{row}.weight", (prompt, "point_embeddings"), row=row)
    yield Entry(f"{prompt}.not_a_point_embed.weight", (prompt, "not_a_point"), row=0)
    yield Entry(f"{prompt}.no_mask_embed.weight", (prompt, "no_mask"), row=0)
    yield Entry(f"{decoder}.iou_token.weight", (decoder, "iou_token"), (0, 1))
    yield Entry(f"{decoder}.mask_tokens.weight", (decoder, "mask_tokens"), (0, 1))


def _prompt_modules(source: Source) -> Iterator[tuple[str, str, Kind]]:
    """``(their name, our name, kind)`` of the modules that embed a mask."""
    names: tuple[str, ...] = ("conv1", "layer_norm1", "conv2", "layer_norm2", "conv3")
    folder = "mask_embed"
    if source == "segment_anything":
        names, folder = ("0", "1", "3", "4", "6"), "mask_downscaling"
    ours = ("mask_conv1", "mask_norm1", "mask_conv2", "mask_norm2", "mask_conv3")
    for theirs, mine in zip(names, ours, strict=True):
        kind: Kind = "norm" if "norm" in mine else "conv"
        yield f"prompt_encoder.{folder}.{theirs}", f"prompt_encoder.{mine}", kind


def _decoder_modules(config: SamConfig, source: Source) -> Iterator[tuple[str, str, Kind]]:
    """``(their name, our name, kind)`` of the mask decoder's modules."""
    hugging = source == "transformers"
    norm = "layer_norm" if hugging else "norm"
    top = "mask_decoder.transformer"
    attentions = [f"{top}.final_attn_token_to_image"]
    for index in range(config.depth):
        block = f"{top}.layers.{index}"
        attentions += [
            f"{block}.{name}"
            for name in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token")
        ]
        for k in (1, 2, 3, 4):
            yield f"{block}.{norm}{k}", f"{block}.norm{k}", "norm"
        for k in (1, 2):
            yield f"{block}.mlp.lin{k}", f"{block}.mlp.lin{k}", "linear"
    for attention in attentions:
        for letter in "qkvo":
            name = f"{attention}.{'out' if letter == 'o' else letter}_proj"
            yield name, name, "linear"
    yield f"{top}.{norm}_final_attn", f"{top}.norm_final_attn", "norm"
    upscaling = ("upscale_conv1", "upscale_layer_norm", "upscale_conv2")
    if not hugging:
        upscaling = ("output_upscaling.0", "output_upscaling.1", "output_upscaling.3")
    yield f"mask_decoder.{upscaling[0]}", "mask_decoder.upscale_conv1", "conv_transpose"
    yield f"mask_decoder.{upscaling[1]}", "mask_decoder.upscale_norm", "norm"
    yield f"mask_decoder.{upscaling[2]}", "mask_decoder.upscale_conv2", "conv_transpose"
    for k in range(config.mask_tokens):
        yield from _mlp(f"output_hypernetworks_mlps.{k}", f"hypernetworks.{k}", 3, hugging)
    yield from _mlp("iou_prediction_head", "iou_head", config.iou_depth, hugging)


def _mlp(theirs: str, ours: str, depth: int, hugging: bool) -> Iterator[tuple[str, str, Kind]]:
    """The layers of an MLP, of which transformers names the first and the last apart."""
    for index in range(depth):
        layer = f"layers.{index}"
        if hugging:
            layer = {0: "proj_in", depth - 1: "proj_out"}.get(index, f"layers.{index - 1}")
        yield f"mask_decoder.{theirs}.{layer}", f"mask_decoder.{ours}.layers.{index}", "linear"


def encoder_entries(config: SamConfig, source: Source) -> list[Entry]:
    """All tensors of the image encoder."""
    return [_encoder_entry(key, *rest) for key, rest in encoder_table(config, source).items()]


def _encoder_entry(key: str, name: str, shape: tuple[int, ...]) -> Entry:
    """The entry of a tensor whose name in transformers differs from ours in that of its module alone."""
    ours = name.removeprefix(ENCODER_PREFIX["transformers"])
    ours = ours.replace("layer_norm", "norm").replace("patch_embed.projection", "patch_embed")
    *module, last = (int(part) if part.isdigit() else part for part in ours.split("."))
    axes = tuple(range(len(shape)))
    if last == "weight":
        last = "scale" if len(shape) == 1 else "kernel"
        axes = {1: (0,), 2: _KERNEL_AXES["linear"], 4: _KERNEL_AXES["conv"]}[len(shape)]
    return Entry(key, (*module, last), axes)


def encoder_table(config: SamConfig, source: Source) -> dict[str, tuple[str, tuple[int, ...]]]:
    """All tensors of the image encoder: its name in a checkpoint to transformers' name and the shape."""
    dim, hidden, out = config.encoder_dim, config.encoder_mlp_dim, config.dim
    side, patch, head = config.embedding_size, config.patch_size, dim // config.encoder_heads
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, side, side, dim),
        "patch_embed.projection.weight": (dim, 3, patch, patch),
        "patch_embed.projection.bias": (dim,),
        "neck.conv1.weight": (out, dim, 1, 1),
        "neck.conv2.weight": (out, out, 3, 3),
    }
    for norm in ("layer_norm1", "layer_norm2"):
        shapes |= {f"neck.{norm}.weight": (out,), f"neck.{norm}.bias": (out,)}
    for index in range(config.encoder_depth):
        span = 2 * (side if index in config.global_attention else config.encoder_window) - 1
        block: dict[str, tuple[int, ...]] = {
            f"{norm}.{part}": (dim,) for norm in ("layer_norm1", "layer_norm2") for part in ("weight", "bias")
        }
        block |= {f"attn.rel_pos_{axis}": (span, head) for axis in "hw"}
        for name, outputs, inputs in (
            ("attn.qkv", 3 * dim, dim),
            ("attn.proj", dim, dim),
            ("mlp.lin1", hidden, dim),
            ("mlp.lin2", dim, hidden),
        ):
            block |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
        shapes |= {f"layers.{index}.{name}": shape for name, shape in block.items()}
    prefix = ENCODER_PREFIX[source]
    return {
        f"{prefix}{_encoder_name(name, source)}": (f"{ENCODER_PREFIX['transformers']}{name}", shape)
        for name, shape in shapes.items()
    }


def _encoder_name(name: str, source: Source) -> str:
    """Transformers' name of an image encoder's tensor as ``source`` has it."""
    if source == "transformers":
        return name
    head, rest = name.split(".", 1) if "." in name else (name, "")
    if head == "layers":
        return f"blocks.{rest.replace('layer_norm', 'norm')}"
    if head == "neck":
        module, part = rest.split(".")
        return f"neck.{('conv1', 'layer_norm1', 'conv2', 'layer_norm2').index(module)}.{part}"
    return name.replace("projection", "proj")
