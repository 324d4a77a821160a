"""Which of JAX's devices and types a setting names; the words are those of the torch models."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from softmatch_jax._checks import InputError
from softmatch_jax.models.preprocessing import DTYPES


def pick_jax_device(device: str) -> jax.Device:
    """The device named by ``device``: ``"auto"`` is the first of JAX's default platform.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Raises:
        InputError: Another name, or JAX has no such device.
    """
    if device == "auto":
        return jax.devices()[0]
    platform, _, index = device.partition(":")
    if platform == "mps":
        raise InputError(
            "The device is 'mps', which JAX does not have; choose cpu, or run the image encoder in torch "
            "(runtime torch)."
        )
    if platform not in ("cpu", "cuda") or (":" in device and not index.isdecimal()):
        raise InputError(f"The device is {device!r}; expected auto, cpu, cuda or cuda:N.")
    try:
        found = jax.devices(platform)
    except RuntimeError:
        found = []
    number = int(index or 0)
    if number >= len(found):
        raise InputError(
            f"The device {device!r} is not there (JAX {jax.__version__} sees {len(found)} of its kind); "
            "choose auto or cpu, install JAX for this machine's GPU (pip install 'jax[cuda12]'), or run the "
            "image encoder in torch (runtime torch)."
        )
    return found[number]


def pick_jax_dtype(dtype: str, device: jax.Device) -> Any:
    """The type named by ``dtype``.

    Args:
        dtype: ``"float32"``, ``"float16"``, ``"bfloat16"``, or ``"auto"``: ``bfloat16`` on an accelerator,
            ``float32`` on the CPU.
        device: Where the network will run.

    Raises:
        InputError: Another name.
    """
    if dtype == "auto":
        return jnp.dtype("float32" if device.platform == "cpu" else "bfloat16")
    if dtype not in DTYPES:
        raise InputError(f"The dtype is {dtype!r}; expected auto, {', '.join(DTYPES)}.")
    return jnp.dtype(dtype)
