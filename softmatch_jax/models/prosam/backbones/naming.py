"""The names that others gave to the tensors of the two networks, and ours for them.

Ours are those of the published files (``resnet50_v2.pth`` of PSPNet's code, ``vgg16_bn`` of torchvision). The
checkpoints of VRP-SAM hold the network as ``layer0`` to ``layer4`` beside what is trained; timm numbers the
first three convolutions of its ``resnet50s``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from softmatch_jax.models.prosam.backbones.vgg import STARTS

_Tensor = TypeVar("_Tensor")

_PARALLEL = "module."  # put before every name by data-parallel training
_TRAINED = ("transformer_decoder.", "downsample_query.", "merge_1.")  # of VRP-SAM, not of its image encoder
_RESNET_HEADS = ("fc.",)
_VGG_HEADS = ("classifier.", "pre_logits.", "head.")
_COUNTER = "num_batches_tracked"

# Three convolutions and their norms with a ReLU behind each; timm's last norm is outside of its sequence.
_VRP_STEM = {
    f"layer0.{3 * i + j}": f"{kind}{i + 1}" for i in range(3) for j, kind in enumerate(("conv", "bn"))
}
_TIMM_STEM = {
    "conv1.0": "conv1",
    "conv1.1": "bn1",
    "conv1.3": "conv2",
    "conv1.4": "bn2",
    "conv1.6": "conv3",
    "bn1": "bn3",
}
_VRP_VGG = re.compile(r"layer([0-4])\.(\d+)")


def resnet_names(tensors: Mapping[str, _Tensor]) -> dict[str, _Tensor]:
    """The tensors of a ResNet-50 under our names, without classifier, counters and what VRP-SAM trained.

    Names that are not known stay as they are.
    """
    named = _bare(tensors, _RESNET_HEADS)
    stem = _VRP_STEM if "layer0.0.weight" in named else _TIMM_STEM if "conv1.0.weight" in named else {}
    return {_moved(name, stem): tensor for name, tensor in named.items()}


def vgg_names(tensors: Mapping[str, _Tensor]) -> dict[str, _Tensor]:
    """The same of a VGG-16 with BatchNorm."""
    named = _bare(tensors, _VGG_HEADS)
    places = {}
    for module in {name.rpartition(".")[0] for name in named}:
        found = _VRP_VGG.fullmatch(module)
        if found is not None:
            places[module] = f"features.{STARTS[int(found[1])] + int(found[2])}"
    return {_moved(name, places): tensor for name, tensor in named.items()}


def _bare(tensors: Mapping[str, _Tensor], heads: tuple[str, ...]) -> dict[str, _Tensor]:
    """``tensors`` without prefix, and without those that the image encoder does not have."""
    named = {name.removeprefix(_PARALLEL): tensor for name, tensor in tensors.items()}
    left_out = (*heads, *_TRAINED) if "layer0.0.weight" in named else heads
    # A counter of a norm that is there says nothing; one by itself is as unexpected as any other tensor.
    return {
        name: tensor
        for name, tensor in named.items()
        if not name.startswith(left_out)
        and not (name.endswith(f".{_COUNTER}") and name.replace(_COUNTER, "running_var") in named)
    }


def _moved(name: str, modules: Mapping[str, str]) -> str:
    module, _, last = name.rpartition(".")
    return f"{modules.get(module, module)}.{last}" if module else name
