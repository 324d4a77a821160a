"""SAM's image encoder, run in torch: it is computed once for a picture and its result crosses to JAX.

Both checkpoint formats run as transformers' ``SamVisionModel``, so torchvision is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Float32

from softmatch_jax._checks import InputError, check_shape
from softmatch_jax.models.bridge import to_jax
from softmatch_jax.models.checkpoints import Checkpoint, read_tensors
from softmatch_jax.models.optional import require
from softmatch_jax.models.preprocessing import explain_out_of_memory, inference, pick_device, pick_dtype
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.key_table import ENCODER_PREFIX, encoder_table
from softmatch_jax.models.sam.misfits import compare

_KNOBS = "encode fewer pictures at once, choose dtype bfloat16 or float16, or a smaller model (SAM ViT-B)"


@dataclass(frozen=True, eq=False)
class TorchImageEncoder:
    """The frozen image encoder. Made by :meth:`load`; threads may share one.

    Attributes:
        name: The checkpoint, as the user gave it.
        config: Its sizes.
        model: The torch network in evaluation mode.
        device: The ``torch.device`` it is on.
    """

    name: str
    config: SamConfig
    model: Any = field(repr=False)
    device: Any

    @classmethod
    def load(
        cls, checkpoint: Checkpoint, config: SamConfig, device: str = "auto", dtype: str = "auto"
    ) -> TorchImageEncoder:
        """Loads the image encoder of a checkpoint.

        Args:
            checkpoint: From ``checkpoints.locate``.
            config: Its sizes, from ``convert.config_of``.
            device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
            dtype: ``"auto"`` (half precision on a GPU), ``"float32"``, ``"float16"`` or ``"bfloat16"``.

        Raises:
            InputError: The checkpoint is damaged, tensors are missing, unexpected or of another shape (all
                are named), there is no such device, or no memory on it.
        """
        torch = require("torch")
        place = pick_device(device)
        kind = pick_dtype(dtype, place)
        table = encoder_table(config, checkpoint.kind)
        tensors = read_tensors(checkpoint, prefix=ENCODER_PREFIX[checkpoint.kind])
        expected = {name: shape for name, (_, shape) in table.items()}
        compare(expected, {k: tuple(v.shape) for k, v in tensors.items()}).check(checkpoint.name)
        # Without memory of its own until the weights are handed to it.
        with torch.device("meta"):
            model = require("transformers").SamVisionModel(vision_config(config))
        with explain_out_of_memory(checkpoint.name, "choose dtype bfloat16 or float16, or a smaller model"):
            # Copies, because what was read may be a view of the file.
            state = {
                table[key][0]: _as_torch(tensors[key]).to(place, kind, copy=True) for key in list(tensors)
            }
        model.load_state_dict(state, strict=True, assign=True)
        return cls(checkpoint.name, config, model.eval().requires_grad_(False), place)

    @property
    def dtype(self) -> str:
        """Name of the type it computes in."""
        return str(self.model.dtype).removeprefix("torch.")

    def __call__(self, pixels: Float32[np.ndarray, "B 3 H W"]) -> Float[jax.Array, "B hw dim"]:
        """Embeds pictures.

        Args:
            pixels: Standardised squares of ``config.image_size``, the picture at the top left.

        Returns:
            float32, rows of the embedding in row-major order, channels last.

        Raises:
            InputError: ``pixels`` has another shape or type, or the GPU's memory is full.
        """
        torch = require("torch")
        side = self.config.image_size
        check_shape("pixels", pixels, (None, 3, side, side), "pictures, RGB, height, width")
        if pixels.dtype != np.float32:
            raise InputError(f"pixels is {pixels.dtype}; expected float32 (standardise the picture first).")
        with inference(self.name, self.model.dtype, _KNOBS):
            given = torch.tensor(np.ascontiguousarray(pixels)).to(self.device, self.model.dtype)
            embedding = self.model(given).last_hidden_state
            rows = embedding.permute(0, 2, 3, 1).flatten(1, 2).float().contiguous()
        # A copy: torch takes its memory back as soon as the last array that borrows it is dropped, which may
        # be before what was asked of that array has been computed.
        return to_jax(rows)


def vision_config(config: SamConfig) -> Any:
    """Transformers' description of the image encoder."""
    return require("transformers").SamVisionConfig(
        hidden_size=config.encoder_dim,
        output_channels=config.dim,
        num_hidden_layers=config.encoder_depth,
        num_attention_heads=config.encoder_heads,
        image_size=config.image_size,
        patch_size=config.patch_size,
        mlp_dim=config.encoder_mlp_dim,
        window_size=config.encoder_window,
        global_attn_indexes=list(config.global_attention),
        num_pos_feats=config.dim // 2,
    )


def _as_torch(tensor: Any) -> Any:
    """A NumPy array or torch tensor as the latter."""
    return tensor if hasattr(tensor, "detach") else require("torch").from_numpy(np.array(tensor))
