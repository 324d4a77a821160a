"""The prompt encoder from a checkpoint of VRP-SAM's code.

The conversion is strict: every tensor of the encoder must be there and no others, but for those of the frozen
backbone, which such checkpoints hold, too. All misfits are reported at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from softmatch_jax._checks import InputError, check_finite
from softmatch_jax.models.prosam.config import PromptEncoderConfig
from softmatch_jax.models.sam.misfits import compare

Arrays: TypeAlias = dict[str, Float[np.ndarray, "..."]]

_PARALLEL = "module."  # what torch's DistributedDataParallel puts before every name
_BACKBONE = tuple(f"layer{stage}." for stage in range(5))
_QUERIES = "transformer_decoder.supp_q_feat.weight"
_REDUCE, _MERGE = "downsample_query.0.weight", "merge_1.0.weight"
_ATTENTION = {
    "reference_attention": ("transformer_cross_attention_layers_0.0", "multihead_attn"),
    "reference_mixing": ("transformer_self_attention_layers_0.0", "self_attn"),
    "target_attention": ("transformer_cross_attention_layers.0", "multihead_attn"),
    "target_mixing": ("transformer_self_attention_layers.0", "self_attn"),
}
_EXPECTED = (
    "those of VRP-SAM's encoder at the sizes of the configuration, beside its backbone "
    "(torch_encoder_config reads the sizes)"
)


def torch_encoder_config(tensors: Mapping[str, Any], *, where: str = "The checkpoint") -> PromptEncoderConfig:
    """The sizes of a checkpoint's encoder; what no tensor tells is as published.

    Args:
        tensors: By name.
        where: What the message calls them.

    Raises:
        InputError: It is no such checkpoint.
    """
    named = _encoder_tensors(tensors)
    shapes = {name: tuple(np.shape(named[name])) for name in (_QUERIES, _REDUCE) if name in named}
    if [len(shape) for shape in shapes.values()] != [2, 4]:
        raise InputError(
            f"{where} does not have {_QUERIES} with 2 axes and {_REDUCE} with 4; expected a checkpoint of "
            "VRP-SAM's code (its state_dict)."
        )
    (prompts, dim), (_, channels, *_) = shapes[_QUERIES], shapes[_REDUCE]
    extra = sum(name.startswith("extra.") and name.endswith(".weight") for name in named)
    variational = any(name.startswith("mean_head.") for name in named)
    return PromptEncoderConfig(
        channels=channels, dim=dim, prompts=prompts, variational=variational, extra_linear=extra
    )


def load_torch_encoder(
    tensors: Mapping[str, Any], config: PromptEncoderConfig | None = None, *, where: str = "The checkpoint"
) -> Arrays:
    """The arrays of :class:`~softmatch_jax.models.prosam.encoder.PromptEncoder` by dotted path.

    Args:
        tensors: NumPy arrays or torch tensors by the names of VRP-SAM's code, with or without
            the ``module.`` of parallel training. Linear layers behind the encoder, of which that code has
            none, are ``mean_head`` and ``log_sigma_head``, or ``extra.0`` and so on.
        config: The sizes that they must have; :func:`torch_encoder_config` when ``None``.
        where: What the message calls them.

    Returns:
        Float32 arrays of their own.

    Raises:
        InputError: Tensors are missing, unexpected or of another shape (all are named in one message), or
            one is not finite.
    """
    config = torch_encoder_config(tensors, where=where) if config is None else config
    named = _encoder_tensors(tensors)
    shapes = {name: tuple(np.shape(tensor)) for name, tensor in named.items()}
    compare(_expected_shapes(config), shapes).check(where, "the prompt encoder", _EXPECTED)
    arrays = {name: _as_numpy(tensor) for name, tensor in named.items()}
    for name, array in arrays.items():
        check_finite(f"{name} of {where}", array, "expected finite numbers (the training diverged).")
    weights = {
        "queries": arrays[_QUERIES],
        "downsample.kernel": arrays[_REDUCE][:, :, 0, 0].T,
        "merge.kernel": arrays[_MERGE][:, :, 0, 0].T,
    }
    for ours, (layer, attention) in _ATTENTION.items():
        theirs = f"transformer_decoder.{layer}"
        weights |= _attention(arrays, f"{theirs}.{attention}", ours)
        weights[f"{ours}.norm.scale"] = arrays[f"{theirs}.norm.weight"]
        weights[f"{ours}.norm.bias"] = arrays[f"{theirs}.norm.bias"]
    for head in _heads(config):
        weights[f"{head}.kernel"] = arrays[f"{head}.weight"].T
        weights[f"{head}.bias"] = arrays[f"{head}.bias"]
    return {name: np.ascontiguousarray(array) for name, array in weights.items()}


def _attention(arrays: Arrays, theirs: str, ours: str) -> Arrays:
    """One attention: torch keeps the projections of query, key and value in one matrix, in this order."""
    kernels = np.split(arrays[f"{theirs}.in_proj_weight"], 3)
    biases = np.split(arrays[f"{theirs}.in_proj_bias"], 3)
    weights = {f"{ours}.out.kernel": arrays[f"{theirs}.out_proj.weight"].T}
    weights[f"{ours}.out.bias"] = arrays[f"{theirs}.out_proj.bias"]
    for part, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True):
        weights[f"{ours}.{part}.kernel"], weights[f"{ours}.{part}.bias"] = kernel.T, bias
    return weights


def _as_numpy(tensor: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A NumPy array or torch tensor, of any precision and on any device, as a float32 copy."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().float().cpu().numpy()
    return np.array(tensor, np.float32)


def _encoder_tensors(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the encoder, under the names that they have without parallel training."""
    parallel = all(name.startswith(_PARALLEL) for name in tensors)
    named = {name.removeprefix(_PARALLEL) if parallel else name: t for name, t in tensors.items()}
    return {name: tensor for name, tensor in named.items() if not name.startswith(_BACKBONE)}


def _expected_shapes(config: PromptEncoderConfig) -> dict[str, tuple[int, ...]]:
    dim = config.dim
    shapes: dict[str, tuple[int, ...]] = {
        _QUERIES: (config.prompts, dim),
        _REDUCE: (dim, config.channels, 1, 1),
        _MERGE: (dim, 2 * dim + 1, 1, 1),
    }
    for layer, attention in _ATTENTION.values():
        name = f"transformer_decoder.{layer}"
        shapes |= {
            f"{name}.{attention}.in_proj_weight": (3 * dim, dim),
            f"{name}.{attention}.in_proj_bias": (3 * dim,),
            f"{name}.{attention}.out_proj.weight": (dim, dim),
            f"{name}.{attention}.out_proj.bias": (dim,),
            f"{name}.norm.weight": (dim,),
            f"{name}.norm.bias": (dim,),
        }
    for head in _heads(config):
        shapes |= {f"{head}.weight": (dim, dim), f"{head}.bias": (dim,)}
    return shapes


def _heads(config: PromptEncoderConfig) -> list[str]:
    """The linear layers behind the encoder, by the name that they have on both sides."""
    if config.variational:
        return ["mean_head", "log_sigma_head"]
    return [f"extra.{index}" for index in range(config.extra_linear)]
