"""Models without weights, and tiny checkpoints of the models with them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from softmatch_jax.models import PatchFeatures
from softmatch_jax.models.vit_grid import vit_grid

WORDS = {"red": (0.9, 0.15, 0.1), "green": (0.1, 0.8, 0.2), "grey": (0.5, 0.5, 0.6)}


class Colours:
    """A space of colours: patches lie where their mean colour is, and names of colours beside them."""

    def __init__(self, side=6, fit="stretch"):
        self.side, self.fit, self.calls = side, fit, 0

    dim = 3

    @property
    def name(self):
        return f"colours({self.side}, {self.fit})"

    def grid(self, image_size):
        return vit_grid(image_size, size=self.side * 4, patch=4, fit=self.fit)

    def __call__(self, images):
        self.calls += 1
        grid = self.grid(images.shape[1:3])
        values = np.zeros((len(images), *grid.shape, 3), np.float32)
        rows, columns = grid.valid_slices()
        for image, value in zip(images, values, strict=True):
            for row in range(rows.stop):
                for column in range(columns.stop):
                    y, x = (
                        slice(length * i // n, max(length * (i + 1) // n, length * i // n + 1))
                        for length, i, n in zip(
                            image.shape, (row, column), (rows.stop, columns.stop), strict=False
                        )
                    )
                    value[row, column] = image[y, x].reshape(-1, 3).mean(axis=0) / 255 - 0.3
        return PatchFeatures(jnp.asarray(values), grid.valid(), grid)

    def text_embeddings(self, texts):
        vectors = np.array([WORDS[text] for text in texts]) - 0.3
        return jnp.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), jnp.float32)


def write_models(folder: Path) -> dict[str, Path]:
    """Folders with checkpoints of DINOv2, SAM and CLIP, of random weights."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    models = str(Path(__file__).parents[1] / "models")
    for place in (models, f"{models}/sam"):
        if place not in sys.path:
            sys.path.append(place)
    import sam_checkpoints
    import tiny_checkpoints

    sam = sam_checkpoints.transformers_model(sam_checkpoints.TINY)
    # SAM thinks well of all its masks, so that they pass.
    sam.mask_decoder.iou_prediction_head.proj_out.bias.fill_(5)
    torch.manual_seed(0)
    return {
        "features": tiny_checkpoints.write_dinov2(folder / "dinov2"),
        "masks": sam_checkpoints.save_transformers(sam, folder / "sam"),
        "text_model": write_clip(folder / "clip", transformers),
    }


def write_clip(folder, transformers):
    folder.mkdir()
    letters = [*"abcdefghijklmnopqrstuvwxyz.,'-"]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "th", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\n")
    last = len(words) - 1
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    text = {"vocab_size": len(words), "max_position_embeddings": 77, "eos_token_id": last}
    text |= {"bos_token_id": last - 1, "pad_token_id": last}
    config = transformers.CLIPConfig(
        text_config=sizes | text,
        vision_config=sizes | {"image_size": 32, "patch_size": 16},
        projection_dim=24,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    return folder
