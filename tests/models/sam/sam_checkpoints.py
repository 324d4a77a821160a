"""SAM models of torch with weights as training leaves them, in both formats, and their answers."""

from __future__ import annotations

import copy
import functools
import importlib
import math
import re
import sys
import types

import numpy as np
import torch
import transformers

TINY = {
    "vision": {
        "hidden_size": 32,
        "output_channels": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 128,
        "patch_size": 16,
        "window_size": 3,  # does not divide the grid of 8, so windows are padded
        "global_attn_indexes": [1],
        "num_pos_feats": 32,
    },
    "prompts": {"hidden_size": 64, "image_size": 128, "patch_size": 16},
    "decoder": {"hidden_size": 64, "mlp_dim": 96, "num_attention_heads": 4, "iou_head_hidden_dim": 48},
}
# The published prompt encoder and mask decoder behind an image encoder of next to nothing.
FULL = {
    "vision": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "global_attn_indexes": [],
    },
    "prompts": {},
    "decoder": {},
}


def preset(config):
    """Sizes with the blocks of a published image encoder, few channels and a small grid."""
    blocks = {
        "num_hidden_layers": config.encoder_depth,
        "global_attn_indexes": list(config.global_attention),
    }
    heads = {"hidden_size": 16 * (config.encoder_heads // 4), "num_attention_heads": config.encoder_heads}
    return TINY | {"vision": TINY["vision"] | blocks | heads}


def transformers_config(sizes, eps=1e-6):
    return transformers.SamConfig(
        vision_config=transformers.SamVisionConfig(**sizes["vision"]),
        prompt_encoder_config=transformers.SamPromptEncoderConfig(**sizes["prompts"]),
        mask_decoder_config=transformers.SamMaskDecoderConfig(**sizes["decoder"], layer_norm_eps=eps),
    )


def transformers_model(sizes, *, eps=1e-6, seed=0):
    """A ``SamModel`` with random biases and gains and logits up to 20 on a point in the middle."""
    model = transformers.SamModel(transformers_config(sizes, eps)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if "norm" in name:
            value.copy_(0.2 * noise + (1 if name.endswith("weight") else 0))
        elif name.endswith("bias"):
            value.copy_(0.2 * noise)
        elif "positional_embedding" in name or "embed.weight" in name or "token" in name.split(".")[1]:
            value.copy_(noise)
        elif "upscale_conv" in name:
            value.copy_(noise / math.sqrt(value.shape[0]))
        else:
            gain = 1.5 if re.search(r"\.[qk]_proj", name) else 1.0
            value.copy_(gain * noise / math.sqrt(max(value[0].numel(), 1)))
    matrix = model.prompt_encoder.shared_embedding.positional_embedding
    model.shared_image_embedding.positional_embedding.copy_(matrix)
    middle = model.config.vision_config.image_size / 2
    masks, _ = transformers_decode(model, embedding_of(model), points=[[middle, middle]], positive=[True])
    for network in model.mask_decoder.output_hypernetworks_mlps:
        for value in network.proj_out.parameters():
            value.mul_(20 / np.abs(masks).max())
    return model


def embedding_of(model, seed=1):
    """An image embedding ``[dim, h, w]`` of the size that the neck's last norm gives."""
    config = model.config
    side = config.prompt_encoder_config.image_embedding_size
    shape = (config.mask_decoder_config.hidden_size, side, side)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def transformers_decode(model, embedding, *, points=(), positive=(), box=None, mask=None, multimask=True):
    """Logits ``[k, H, W]`` and scores ``[k]``, in the precision of the model."""
    dtype = model.mask_decoder.iou_token.weight.dtype
    tensor = functools.partial(torch.tensor, dtype=dtype)
    with torch.inference_mode():
        result = model(
            image_embeddings=tensor(embedding)[None],
            input_points=tensor(np.array(points))[None, None] if len(points) else None,
            input_labels=torch.tensor(positive).int()[None, None] if len(points) else None,
            input_boxes=None if box is None else tensor(box)[None, None],
            input_masks=None if mask is None else tensor(mask)[None, None],
            multimask_output=multimask,
        )
    return result.pred_masks[0, 0].numpy(), result.iou_scores[0, 0].numpy()


def transformers_decode_tokens(model, embedding, tokens, *, multimask=True):
    """The answer to raw prompt embeddings ``[n, dim]``, which only the decoder itself takes."""
    dtype = model.mask_decoder.iou_token.weight.dtype
    tensor = functools.partial(torch.tensor, dtype=dtype)
    with torch.inference_mode():
        masks, scores = model.mask_decoder(
            image_embeddings=tensor(embedding)[None],
            image_positional_embeddings=model.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=tensor(tokens)[None, None],
            dense_prompt_embeddings=model.prompt_encoder.no_mask_embed.weight[0, :, None, None],
            multimask_output=multimask,
        )
    return masks[0, 0].numpy(), scores[0, 0].numpy()


def in_float64(model):
    return copy.deepcopy(model).double()


@functools.cache
def segment_anything():
    """The authors' package; it imports a torchvision of which nothing that is used here is needed."""
    try:
        return importlib.import_module("segment_anything")
    except (ImportError, RuntimeError):
        names = {
            "torchvision": (),
            "torchvision.transforms": (),
            "torchvision.transforms.functional": ("resize", "to_pil_image"),
            "torchvision.ops": (),
            "torchvision.ops.boxes": ("batched_nms", "box_area"),
        }
        for name in [name for name in sys.modules if name.partition(".")[0] == "segment_anything"]:
            del sys.modules[name]
        before = {name: sys.modules.get(name) for name in names}
        for name, members in names.items():
            sys.modules[name] = types.ModuleType(name)
            vars(sys.modules[name]).update(dict.fromkeys(members))
        try:
            return importlib.import_module("segment_anything")
        finally:
            for name, module in before.items():
                if module is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = module


def authors_name(name):
    """transformers' name of a tensor as segment-anything has it; ``None`` for the second copy."""
    if name.startswith("shared_image_embedding"):
        return None
    part = name.partition(".")[0]
    rules = {
        "vision_encoder": [
            (r"^vision_encoder", "image_encoder"),
            (r"layers\.", "blocks."),
            (r"projection", "proj"),
            (r"neck\.conv1", "neck.0"),
            (r"neck\.layer_norm1", "neck.1"),
            (r"neck\.conv2", "neck.2"),
            (r"neck\.layer_norm2", "neck.3"),
            (r"layer_norm", "norm"),
        ],
        "prompt_encoder": [
            (r"shared_embedding\.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
            (r"\.point_embed\.", ".point_embeddings."),
            (r"mask_embed\.conv1", "mask_downscaling.0"),
            (r"mask_embed\.layer_norm1", "mask_downscaling.1"),
            (r"mask_embed\.conv2", "mask_downscaling.3"),
            (r"mask_embed\.layer_norm2", "mask_downscaling.4"),
            (r"mask_embed\.conv3", "mask_downscaling.6"),
        ],
        "mask_decoder": [
            (r"upscale_conv1", "output_upscaling.0"),
            (r"upscale_layer_norm", "output_upscaling.1"),
            (r"upscale_conv2", "output_upscaling.3"),
            (r"layer_norm", "norm"),
            (r"((?:mlps\.\d|head)\.)layers\.0", r"\1layers.1"),
            (r"proj_in", "layers.0"),
            (r"proj_out", "layers.2"),
        ],
    }[part]
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def authors_state(model):
    """The weights of a ``SamModel`` under segment-anything's names."""
    return {
        authors_name(name): value.clone()
        for name, value in model.state_dict().items()
        if authors_name(name) is not None
    }


def authors_model(model):
    """segment-anything's network with the sizes and weights of a ``SamModel``."""
    modeling = importlib.import_module(f"{segment_anything().__name__}.modeling")
    vision, prompts = model.config.vision_config, model.config.prompt_encoder_config
    decoder = model.config.mask_decoder_config
    side = prompts.image_embedding_size
    network = modeling.Sam(
        image_encoder=modeling.ImageEncoderViT(
            depth=vision.num_hidden_layers,
            embed_dim=vision.hidden_size,
            img_size=vision.image_size,
            mlp_ratio=vision.mlp_ratio,
            norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6),
            num_heads=vision.num_attention_heads,
            patch_size=vision.patch_size,
            use_rel_pos=True,
            global_attn_indexes=vision.global_attn_indexes,
            window_size=vision.window_size,
            out_chans=vision.output_channels,
        ),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=prompts.hidden_size,
            image_embedding_size=(side, side),
            input_image_size=(prompts.image_size, prompts.image_size),
            mask_in_chans=prompts.mask_input_channels,
        ),
        mask_decoder=modeling.MaskDecoder(
            transformer_dim=decoder.hidden_size,
            transformer=modeling.TwoWayTransformer(
                depth=decoder.num_hidden_layers,
                embedding_dim=decoder.hidden_size,
                num_heads=decoder.num_attention_heads,
                mlp_dim=decoder.mlp_dim,
            ),
            iou_head_hidden_dim=decoder.iou_head_hidden_dim,
        ),
    )
    network.load_state_dict(authors_state(model), strict=True)
    return network.eval().requires_grad_(False)


def authors_decode(network, embedding, *, points=(), positive=(), box=None, mask=None, multimask=True):
    """As :func:`transformers_decode`, by segment-anything's modules."""
    with torch.inference_mode():
        sparse, dense = network.prompt_encoder(
            points=(torch.tensor(points).float()[None], torch.tensor(positive).int()[None])
            if len(points)
            else None,
            boxes=None if box is None else torch.tensor(box).float()[None],
            masks=None if mask is None else torch.tensor(mask)[None, None],
        )
        masks, scores = network.mask_decoder(
            image_embeddings=torch.tensor(embedding)[None],
            image_pe=network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )
    return masks[0].numpy(), scores[0].numpy()


def save_transformers(model, folder):
    model.save_pretrained(folder)
    return folder


def save_authors(model, path):
    torch.save(authors_state(model), path)
    return path


def rows_of(embeddings):
    """Torch's ``[B, dim, h, w]`` as rows ``[B, hw, dim]``."""
    return embeddings.permute(0, 2, 3, 1).flatten(1, 2).numpy()
