"""Tensors from PyTorch to JAX and back: by DLPack, or by NumPy where DLPack refuses or gains nothing.

JAX takes its arrays for immutable and PyTorch writes in place, so a buffer that both hold is a trap. Every
crossing therefore copies, unless the caller lends the tensor with ``borrow=True``. JAX's settings are not
touched, and what lies on the host never initialises CUDA.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax.models.optional import require

_NARROWER = {"int64": "int32", "uint64": "uint32", "float64": "float32", "complex128": "complex64"}
# NumPy reads these only with the help of JAX and PyTorch hands them out to nobody, so bits cross instead.
_BITS = {
    "bfloat16": "int16",
    "float8_e4m3fn": "uint8",
    "float8_e4m3fnuz": "uint8",
    "float8_e5m2": "uint8",
    "float8_e5m2fnuz": "uint8",
    "float8_e8m0fnu": "uint8",
}
_SHARED = frozenset(
    ["bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float16", "float32", "complex64"]
).union(_NARROWER, _NARROWER.values(), _BITS)
"""Types of both libraries, which give them the same names."""

# What the two libraries raise on a type, layout, alignment or device that they do not take by DLPack.
_REFUSED = (BufferError, TypeError, ValueError, RuntimeError)


def to_jax(tensor: Any, *, borrow: bool = False, narrow: bool = False) -> jax.Array:
    """The JAX array that holds the values of a PyTorch tensor, of any strides and with or without gradient.

    A tensor on the host becomes an array on JAX's default device, one on a GPU an array on the same GPU; if
    JAX has no such GPU, the values go by way of the host to its default device.

    Args:
        tensor: A dense ``torch.Tensor`` of any shape, the empty and the 0-dimensional included.
        borrow: Share the tensor's memory where its device, strides and alignment (64 bytes) permit, and
            copy elsewhere; the array is then bound to its device. Until it is dropped the tensor must not
            be written to, nor the array donated: what then happens is undefined.
        narrow: Where JAX is not in its 64-bit mode, take 64-bit values as 32-bit ones. Floats are rounded;
            integers must fit.

    Returns:
        An array of the tensor's shape and, but for ``narrow``, its type. It is ready: the tensor may be
        written to at once, unless it was lent.

    Raises:
        InputError: Not a dense tensor with values; a type that JAX does not have; 64 bits outside of JAX's
            64-bit mode without ``narrow``; integers that do not fit 32 bits; PyTorch is not installed.
    """
    torch = require("torch")
    dense = _in_type_of_jax(torch, _dense(torch, tensor), narrow)
    # Within a traced function the values are still at hand, so they cross as a constant.
    with jax.ensure_compile_time_eval():
        # From the host a copy by NumPy is as fast, and JAX moves it freely; an imported array is bound to its
        # device and does not mix with those on others.
        on_host = dense.device.type == "cpu"
        share = borrow and jax.default_backend() == "cpu" if on_host else True
        array = _array_by_dlpack(dense, borrow) if share else None
        if array is None:
            array = _array_by_numpy(torch, dense)
        # Copies run in the background, where a write to the tensor could overtake them.
        return array.block_until_ready()


def to_torch(array: jax.Array, *, device: Any = None) -> Any:
    """The PyTorch tensor that holds the values of a JAX array; always a copy, which the caller owns.

    Args:
        array: A JAX array of any shape. One that is spread over several devices is gathered on the host.
        device: Where the tensor shall be, as PyTorch names it. By default beside the array, or on the host
            if PyTorch cannot reach the array's device.

    Returns:
        A contiguous ``torch.Tensor`` of the array's shape and type, without gradient.

    Raises:
        InputError: Not a JAX array with values (such as a tracer, or an array that was donated); a type that
            PyTorch does not have; parts of it lie in another process; PyTorch is not installed or does not
            know the device.
    """
    torch = require("torch")
    _check_array(array)
    with jax.ensure_compile_time_eval():
        tensor = _tensor_by_dlpack(torch, array)
        if tensor is None:
            tensor = _tensor_by_numpy(torch, np.asarray(array))
    try:
        target = tensor.device if device is None else torch.device(device)
        owned = tensor.to(target, copy=True, memory_format=torch.contiguous_format)
    except (AssertionError, RuntimeError, TypeError) as error:
        if device is None:
            raise
        raise InputError(
            f"device is {device!r}, which PyTorch refuses ({str(error).splitlines()[0]}); expected one that "
            "it can, for instance 'cpu'."
        ) from error
    if tensor.device.type != "cpu":
        # The copy may still run when JAX gets its buffer back.
        torch.cuda.synchronize(tensor.device)
    return owned


def _dense(torch: Any, tensor: Any) -> Any:
    """``tensor`` without gradient, pending conjugation or negation, and contiguous; no copy if it is so."""
    if not isinstance(tensor, torch.Tensor):
        raise InputError(
            f"tensor is a {type(tensor).__name__}; expected a torch.Tensor "
            "(jax.numpy.asarray takes other arrays)."
        )
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise InputError(
            f"tensor is {tensor.layout} of {tensor.dtype}; expected a dense one "
            "(call its to_dense or dequantize)."
        )
    if tensor.device.type == "meta":
        raise InputError(
            "tensor is on the meta device, where it has a shape but no values; load its weights first."
        )
    return tensor.detach().resolve_conj().resolve_neg().contiguous()


def _in_type_of_jax(torch: Any, tensor: Any, narrow: bool) -> Any:
    """``tensor`` in a type that JAX keeps as it is."""
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in _SHARED:
        raise InputError(
            f"tensor is {name}, a type that JAX does not have; convert it first, for instance with "
            "tensor.float()."
        )
    if name not in _NARROWER or jax.dtypes.canonicalize_dtype(name) == name:
        return tensor
    narrower = _NARROWER[name]
    if not narrow:
        raise InputError(
            f"tensor is {name}, which JAX keeps only in its 64-bit mode; pass narrow=True to take it as "
            f"{narrower}, or enable jax_enable_x64."
        )
    if "int" in name and tensor.numel():
        # PyTorch has no minimum of uint64; read as signed, what is too large for it is negative.
        values, limits = tensor.view(torch.int64), np.iinfo(narrower)
        low, high = int(values.min()), int(values.max())
        if low < limits.min or high > limits.max:
            raise InputError(
                f"tensor holds {name} values outside {limits.min}..{limits.max}, which {narrower} cannot "
                "hold; enable jax_enable_x64 to keep 64 bits."
            )
    return tensor.to(getattr(torch, narrower))


def _array_by_dlpack(tensor: Any, borrow: bool) -> jax.Array | None:
    """``tensor`` as an array, or ``None`` where DLPack cannot serve."""
    try:
        shared = jax.dlpack.from_dlpack(tensor)
    except _REFUSED:
        return None
    # The importer's own copy=True leaves aligned buffers shared.
    return shared if borrow else jnp.array(shared, copy=True)


def _array_by_numpy(torch: Any, tensor: Any) -> jax.Array:
    """A copy of a dense ``tensor`` of any device as an array on JAX's default device."""
    name = str(tensor.dtype).removeprefix("torch.")
    host = tensor.cpu()
    if name in _BITS:
        values = host.view(getattr(torch, _BITS[name])).numpy().view(jnp.dtype(name))
    else:
        values = host.numpy()
    return jnp.array(values, copy=True)


def _check_array(array: Any) -> None:
    """Raises ``InputError`` unless ``array`` is a JAX array whose values PyTorch can hold."""
    if not isinstance(array, jax.Array):
        raise InputError(
            f"array is a {type(array).__name__}; expected a jax.Array (torch.from_numpy takes NumPy's)."
        )
    if isinstance(array, jax.core.Tracer):
        raise InputError(
            "array is being traced and has no values yet; call to_torch outside of jax.jit, vmap and grad."
        )
    if array.dtype.name not in _SHARED:
        raise InputError(
            f"array is {array.dtype.name}, a type that PyTorch does not have; convert it first "
            "(jax.random.key_data for keys, astype for numbers)."
        )
    if array.is_deleted():
        raise InputError(
            "array has been deleted or donated; pass a copy of it to the function that donates it."
        )
    if not (array.is_fully_addressable or array.is_fully_replicated):
        raise InputError(
            "array has parts in other processes; gather it first, for instance with "
            "jax.experimental.multihost_utils.process_allgather."
        )


def _tensor_by_dlpack(torch: Any, array: Any) -> Any:
    """A tensor that shares the memory of ``array``, or ``None`` where DLPack cannot serve."""
    try:
        return torch.from_dlpack(array)
    except _REFUSED:
        return None


def _tensor_by_numpy(torch: Any, values: np.ndarray) -> Any:
    """A tensor on the host with a copy of ``values``."""
    name = values.dtype.name
    # In this order: a view of bits needs an array of its own, and PyTorch one that may be written to.
    copied = np.array(values, order="C")
    if name in _BITS:
        return torch.from_numpy(copied.view(_BITS[name])).view(getattr(torch, name))
    return torch.from_numpy(copied)
