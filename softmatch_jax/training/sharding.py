"""Devices that share a batch: its pictures are dealt out, the parameters are on each."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from softmatch_jax._checks import InputError
from softmatch_jax.training.task import Batch

AXIS = "pictures"
"""Name of the mesh's only axis."""


def device_mesh(devices: int) -> Mesh:
    """The first ``devices`` of the machine in a row.

    Raises:
        InputError: There are fewer.
    """
    there = jax.devices()
    if devices > len(there):
        raise InputError(
            f"training.devices is {devices}, but JAX sees {len(there)} of the kind {there[0].platform}; "
            f"expected at most {len(there)}."
        )
    return Mesh(np.array(there[:devices]), (AXIS,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())  # type: ignore[no-untyped-call]


def place(batch: Batch, mesh: Mesh, accumulate: int) -> dict[str, jax.Array]:
    """Puts a batch on the devices, an equal part of its pictures on each.

    Raises:
        InputError: The arrays disagree on the number of pictures, or these cannot be dealt out evenly to
            devices and to the parts of an accumulated gradient.
    """
    if not batch or any(array.ndim == 0 for array in batch.values()):
        raise InputError("The batch is empty or holds a scalar; expected arrays with one row a picture.")
    counts = {name: len(array) for name, array in batch.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"The batch's arrays hold {counts} pictures; expected one number for all.")
    count, parts = next(iter(counts.values())), mesh.size * accumulate
    if count == 0 or count % parts:
        raise InputError(
            f"The batch holds {count} pictures; expected a multiple of {parts}, which is training.devices "
            f"({mesh.size}) times training.accumulate ({accumulate})."
        )
    return jax.device_put(batch, NamedSharding(mesh, PartitionSpec(AXIS)))  # type: ignore[no-untyped-call]


def dealt_parts(parts: jax.Array, mesh: Mesh) -> jax.Array:
    """Tells the compiler that each part of a batch, the leading axis, is dealt out to the devices."""
    spread = NamedSharding(mesh, PartitionSpec(None, AXIS))  # type: ignore[no-untyped-call]
    return jax.lax.with_sharding_constraint(parts, spread)  # type: ignore[no-untyped-call]


def count_pictures(batch: Mapping[str, jax.Array]) -> int:
    """Number of pictures in a batch."""
    return len(next(iter(batch.values())))
