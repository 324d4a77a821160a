"""Checkpoints of random weights for DINOv2, SAM and CLIP, small enough to run in milliseconds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

SIDE = 112
"""What DINOv2 is shown: a grid of 8 x 8 patches."""


class Checkpoints(NamedTuple):
    """Folders of the three models."""

    features: Path
    masks: Path
    text: Path


def write_checkpoints(folder: Path) -> Checkpoints:
    """Writes the three; SAM thinks well of all its masks, so that they pass."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    found = Checkpoints(*(folder / name for name in Checkpoints._fields))
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.Dinov2Config(**sizes, image_size=SIDE, patch_size=14)
    transformers.Dinov2Model(config).save_pretrained(found.features)
    sam = _sam_checkpoints()
    masks = sam.transformers_model(sam.TINY)
    masks.mask_decoder.iou_prediction_head.proj_out.bias.fill_(5)
    masks.save_pretrained(found.masks)
    _write_clip(found.text, transformers, sizes)
    return found


def _sam_checkpoints():
    """The module beside the tests of SAM."""
    there = str(Path(__file__).parents[1] / "models" / "sam")
    if there not in sys.path:
        sys.path.append(there)
    import sam_checkpoints

    return sam_checkpoints


def _write_clip(folder, transformers, sizes):
    folder.mkdir()
    letters = [*"abcdefghijklmnopqrstuvwxyz-."]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "th", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\n")
    last = len(words) - 1
    text = {"vocab_size": len(words), "max_position_embeddings": 60, "intermediate_size": 64}
    text |= {"eos_token_id": last, "bos_token_id": last - 1, "pad_token_id": last}
    vision = {"image_size": 32, "patch_size": 16, "intermediate_size": 64}
    config = transformers.CLIPConfig(
        text_config=sizes | text, vision_config=sizes | vision, projection_dim=24
    )
    transformers.CLIPModel(config).save_pretrained(folder)
