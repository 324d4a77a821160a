"""The two convolutional networks from the weights of others; strict, with all misfits told at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import nnx

from softmatch_jax._checks import InputError
from softmatch_jax.models.checkpoint_files import Checkpoint, LocalCheckpoint, read_safetensors
from softmatch_jax.models.checkpoints import locate
from softmatch_jax.models.prosam.backbones.naming import resnet_names, vgg_names
from softmatch_jax.models.prosam.backbones.resnet import DilatedResNet50
from softmatch_jax.models.prosam.backbones.vgg import Vgg16
from softmatch_jax.models.sam.misfits import compare
from softmatch_jax.models.sam.stored_tensors import stored_tensors

ConvKind = Literal["resnet50", "vgg16"]

_FILE = ".safetensors"


@dataclass(frozen=True)
class Network:
    """What is known of a kind.

    Attributes:
        make: Its blank module.
        names: Brings the names of others to those of the module.
        model: What messages call it.
        expected: What they say of its weights.
    """

    make: type[DilatedResNet50] | type[Vgg16]
    names: Callable[[Mapping[str, Any]], dict[str, Any]]
    model: str
    expected: str


_NETWORKS: dict[str, Network] = {
    "resnet50": Network(
        DilatedResNet50,
        resnet_names,
        "the ResNet-50 of VRP-SAM",
        "those of a ResNet-50 that begins with three convolutions of 3 x 3 (resnet50_v2.pth of PSPNet, "
        "a checkpoint of VRP-SAM, or timm/resnet50s.gluon_in1k; torchvision's begins with one of 7 x 7)",
    ),
    "vgg16": Network(
        Vgg16,
        vgg_names,
        "VGG-16 with BatchNorm",
        "those of torchvision's or timm's vgg16_bn, or a checkpoint of VRP-SAM",
    ),
}
"""By :data:`ConvKind`."""


def find_weights(name: str | Path, *, revision: str | None = None, offline: bool | None = None) -> Checkpoint:
    """As :func:`~softmatch_jax.models.checkpoints.locate`, and a single safetensors file, too.

    Raises:
        InputError: There is no such checkpoint, or it cannot be fetched.
    """
    path = Path(os.path.expanduser(name))
    if path.suffix == _FILE and path.is_file() and revision is None:
        return LocalCheckpoint(name=os.fspath(name), path=path, kind="transformers")
    return locate(name, revision=revision, offline=offline)


def read_weights(checkpoint: Checkpoint) -> dict[str, Any]:
    """The tensors of a checkpoint by the names it has for them, from :func:`find_weights`.

    Raises:
        InputError: A file is damaged, cut short, empty, of another format, or holds code.
    """
    if checkpoint.path.suffix == _FILE and checkpoint.path.is_file():
        return read_safetensors(checkpoint.path)
    return stored_tensors(checkpoint)


def convert_backbone(
    kind: ConvKind, tensors: Mapping[str, Any], *, where: str = "The checkpoint"
) -> DilatedResNet50 | Vgg16:
    """A network with the values of a state dict, as float32 arrays of its own.

    Args:
        kind: Which network.
        tensors: NumPy arrays or torch tensors by name. The classifier, the counters of norms and what
            VRP-SAM trained beside the network are passed over.
        where: What the message calls them.

    Raises:
        InputError: Tensors are missing, unexpected or of another shape (all are named in one message), or
            there is no such kind.
    """
    network = network_of(kind)
    graph, blank = _blank(network.make)
    paths = {".".join(map(str, path)): path for path in blank}
    named = network.names(tensors)
    expected = {name: _torch_shape(blank[path].shape) for name, path in paths.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in named.items()}
    compare(expected, shapes).check(where, network.model, network.expected)
    filled = []
    for name, path in paths.items():
        array = _as_numpy(named[name])
        # torch has the outputs and inputs of a convolution first.
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        filled.append((path, blank[path].replace(jnp.array(array, jnp.float32, copy=True))))
    made: DilatedResNet50 | Vgg16 = nnx.merge(graph, nnx.from_flat_state(filled))
    return made


def network_of(kind: str) -> Network:
    """What is known of a kind.

    Raises:
        InputError: There is none.
    """
    if kind not in _NETWORKS:
        raise InputError(f"kind is {kind!r}; expected {' or '.join(map(repr, _NETWORKS))}.")
    return _NETWORKS[kind]


@lru_cache(maxsize=2)
def _blank(make: Callable[[], Any]) -> tuple[Any, dict[tuple[Any, ...], Any]]:
    """A network's structure, and its variables by path with shapes in place of values; not to be changed."""
    graph, state = nnx.split(nnx.eval_shape(make))
    return graph, dict(nnx.to_flat_state(state))


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != 4:
        return tuple(shape)
    rows, columns, inputs, outputs = shape
    return outputs, inputs, rows, columns


def _as_numpy(tensor: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().float().cpu().numpy()
    return np.asarray(tensor, np.float32)
