"""What ``bench/decoder.py`` measures: the decoder of transformers and ours on the same weights.

Importing this imports JAX and torch, so the caller chooses the device first.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from flax import nnx

from softmatch_jax.models.sam import fast_decoder
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.convert import convert
from softmatch_jax.models.sam.prompt_encoder import point_tokens

CLEAR, AMBIGUOUS = (0,), (1, 2, 3)
Call = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """The prompts of one row of the table.

    Attributes:
        name: As printed.
        points: ``[P, 1, 2]``, one positive point each, or ``None``.
        tokens: ``[P, n, dim]``, raw prompt embeddings where there are no points.
        bars: How many times faster ours should be than torch's one batch and its best chunks.
    """

    name: str
    points: np.ndarray | None = None
    tokens: np.ndarray | None = None
    bars: tuple[float | None, float | None] = (None, None)

    @property
    def count(self) -> int:
        """Their number."""
        return len(self.tokens if self.points is None else self.points)

    def first(self, count: int) -> Prompts:
        """At most so many of them."""
        points, tokens = (None if x is None else x[:count] for x in (self.points, self.tokens))
        return Prompts(name=self.name, points=points, tokens=tokens)


def reference(smoke: bool, device: str) -> Any:
    """The ``SamModel`` of transformers with hardly an image encoder."""
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "global_attn_indexes": []}
    prompts, decoder = {}, {}
    if smoke:
        vision |= {"image_size": 128, "output_channels": 64, "num_pos_feats": 32}
        prompts, decoder = {"image_size": 128, "hidden_size": 64}, {"hidden_size": 64, "mlp_dim": 128}
    config = transformers.SamConfig(
        vision_config=transformers.SamVisionConfig(**vision),
        prompt_encoder_config=transformers.SamPromptEncoderConfig(**prompts),
        mask_decoder_config=transformers.SamMaskDecoderConfig(**decoder),
    )
    model = transformers.SamModel._from_config(config, attn_implementation="sdpa").eval()
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if "norm" in name or name.endswith("bias"):
            value.copy_(0.2 * noise + ("norm" in name and name.endswith("weight")))
        elif "embed" in name or "token" in name.split(".")[1]:
            value.copy_(noise)
        else:
            value.copy_(noise / math.sqrt(value.shape[0] if "upscale" in name else value[0].numel()))
    positions = model.prompt_encoder.shared_embedding.positional_embedding
    model.shared_image_embedding.positional_embedding.copy_(positions)
    torch.backends.cudnn.allow_tf32 = False
    return model.to("cuda" if device == "gpu" else "cpu")


class Torch:
    """The decoder of transformers."""

    def __init__(self, model: Any, embedding: np.ndarray) -> None:
        self.model, self.device = model, model.device
        self.embedding = self._put(embedding)[None]
        with torch.inference_mode():
            self.positions = model.get_image_wide_positional_embeddings()
            self.dense = model.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)

    def call(self, prompts: Prompts, chunk: int) -> Call:
        """Decodes ``chunk`` prompts at a time."""
        several = self._put(prompts.tokens if prompts.points is None else prompts.points)[None]

        def run() -> Any:
            with torch.inference_mode():
                found = [self._decode(part, prompts.points is not None) for part in several.split(chunk, 1)]
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            return found

        return run

    def _decode(self, part: Any, points: bool) -> Any:
        if points:
            labels = torch.ones(part.shape[:3], dtype=torch.int32, device=self.device)
            part, dense = self.model.prompt_encoder(part, labels, None, None)
        else:
            dense = self.dense
        return self.model.mask_decoder(self.embedding, self.positions, part, dense, multimask_output=points)[
            0
        ]

    def _put(self, array: np.ndarray) -> Any:
        return torch.from_numpy(array).to(self.device)


class Ours:
    """The fast decoder with the weights of ``model``."""

    def __init__(self, model: Any, embedding: np.ndarray) -> None:
        sam = convert(model.state_dict(), SamConfig.from_transformers(model.config.to_dict()), "transformers")
        self.decoder = fast_decoder.FastDecoder(sam)
        self.rows = jnp.asarray(embedding.reshape(len(embedding), -1).T)
        graph, self.state = nnx.split(sam.prompt_encoder)
        self.encode = jax.jit(lambda state, *points: jax.vmap(nnx.merge(graph, state).encode_points)(*points))

    def call(self, prompts: Prompts, *, prepared: bool = False) -> Call:
        """Prepares the image, unless it is ``prepared`` before, and decodes all prompts."""
        before = self.decoder.share(self.rows) if prepared else None
        masks = CLEAR if prompts.points is None else AMBIGUOUS
        if prompts.points is not None:
            xy, labels = map(np.stack, zip(*map(point_tokens, prompts.points), strict=True))

        def run() -> Any:
            tokens = prompts.tokens if prompts.points is None else self.encode(self.state, xy, labels)
            shared = before or self.decoder.share(self.rows)
            return jax.block_until_ready(self.decoder.decode(shared, tokens, masks=masks))[0]

        return run

    def temporaries(self, prompts: int) -> int:
        """Bytes that XLA sets aside beside inputs and outputs, for points."""
        decoder, (_, dim) = self.decoder, self.rows.shape
        tokens, valid = jnp.zeros((prompts, 2, dim)), jnp.ones((prompts, 2), bool)
        arguments = (
            decoder._graph,
            decoder._state,
            decoder.share(self.rows),
            tokens,
            valid,
            jnp.int32(prompts),
        )
        lowered = fast_decoder._decode.lower(*arguments, masks=AMBIGUOUS, chunk=min(prompts, decoder.chunk))
        return lowered.compile().memory_analysis().temp_size_in_bytes


def growth(call: Call) -> int | None:
    """Bytes by which a second call raises the process's peak; ``None`` where it cannot be told."""
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    call()
    ctypes.CDLL(None).malloc_trim(0)  # what the first call freed must not hide what the second takes
    reset.write_text("5")  # sets the peak to the present
    before = _resident("VmRSS")
    kept = call()
    peak = _resident("VmHWM")
    del kept
    return peak - before


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
