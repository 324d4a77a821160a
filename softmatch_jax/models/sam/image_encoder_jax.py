"""SAM's image encoder of a checkpoint, run in JAX."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from softmatch_jax._checks import InputError, check_shape
from softmatch_jax.models.checkpoints import Checkpoint
from softmatch_jax.models.preprocessing import explain_out_of_memory
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.convert import load_encoder
from softmatch_jax.models.sam.jax_devices import pick_jax_device, pick_jax_dtype
from softmatch_jax.models.sam.static_graph import StaticGraph, split

_KNOBS = "choose dtype bfloat16, or a smaller model (SAM ViT-B)"


@dataclass(frozen=True, eq=False)
class JaxImageEncoder:
    """The frozen image encoder. Made by :meth:`load`; threads may share one.

    Attributes:
        name: The checkpoint, as the user gave it.
        config: Its sizes.
        device: Where it runs.
        dtype: Name of the type it computes in.
        graph: The network's structure.
        state: Its weights, on the device.
    """

    name: str
    config: SamConfig
    device: jax.Device
    dtype: str
    graph: StaticGraph = field(repr=False)
    state: Any = field(repr=False)

    @classmethod
    def load(
        cls, checkpoint: Checkpoint, config: SamConfig, device: str = "auto", dtype: str = "auto"
    ) -> JaxImageEncoder:
        """Loads the image encoder of a checkpoint.

        Args:
            checkpoint: From ``checkpoints.locate``.
            config: Its sizes, from ``convert.config_of``.
            device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
            dtype: ``"auto"`` (bfloat16 on an accelerator), ``"float32"``, ``"float16"`` or ``"bfloat16"``.

        Raises:
            InputError: The checkpoint is damaged, tensors are missing, unexpected or of another shape (all
                are named), there is no such device, or no memory on it.
        """
        place = pick_jax_device(device)
        kind = pick_jax_dtype(dtype, place)
        with explain_out_of_memory(checkpoint.name, _KNOBS):
            with jax.default_device(place):
                graph, state = split(load_encoder(checkpoint, config=config, dtype=kind))
            # To stay there, whatever the default is when it runs.
            state = jax.device_put(state, place)
            jax.block_until_ready(state)  # type: ignore[no-untyped-call]
        return cls(checkpoint.name, config, place, kind.name, graph, state)

    def __call__(self, pixels: Float32[np.ndarray, "B 3 H W"]) -> Float[jax.Array, "B hw dim"]:
        """Embeds pictures, one after another.

        Args:
            pixels: Standardised squares of ``config.image_size``, the picture at the top left.

        Returns:
            float32 on JAX's default device, rows of the embedding in row-major order, channels last.

        Raises:
            InputError: ``pixels`` has another shape or type, or the device's memory is full.
        """
        side = self.config.image_size
        check_shape("pixels", pixels, (None, 3, side, side), "pictures, RGB, height, width")
        if pixels.dtype != np.float32:
            raise InputError(f"pixels is {pixels.dtype}; expected float32 (standardise the picture first).")
        if not len(pixels):
            raise InputError("pixels holds no picture; expected at least one.")
        with explain_out_of_memory(self.name, _KNOBS):
            rows = jnp.stack([_encode(self.graph, self.state, picture) for picture in pixels])
            rows.block_until_ready()
        # What was computed from bound arrays is bound to their device, and would draw the decoder there.
        return jnp.asarray(np.asarray(rows)) if self.device != jax.devices()[0] else rows


@partial(jax.jit, static_argnames="graph")
def _encode(graph: StaticGraph, state: Any, pixels: Float[Array, "3 S S"]) -> Float[Array, "hw dim"]:
    rows: Array = graph.merge(state)(pixels.transpose(1, 2, 0))
    return rows
