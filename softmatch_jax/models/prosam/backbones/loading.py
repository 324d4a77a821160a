"""One door to all image encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from softmatch_jax._checks import InputError
from softmatch_jax.models.dinov2 import Dinov2Config
from softmatch_jax.models.prosam.backbones.conversion import ConvKind
from softmatch_jax.models.prosam.backbones.convolutional import SIZE, ConvFeatures
from softmatch_jax.models.prosam.backbones.dinov2_split import Dinov2Split, Split

BackboneKind = Literal["resnet50", "vgg16", "dinov2"]


def load_backbone(
    kind: BackboneKind,
    name: str | Path,
    *,
    revision: str | None = None,
    offline: bool | None = None,
    size: int | None = None,
    split: Split | None = None,
) -> ConvFeatures | Dinov2Split:
    """Loads a frozen image encoder.

    Args:
        kind: Which network the weights are of.
        name: Of the weights: a hub id, a folder or a file; for instance ``"timm/resnet50s.gluon_in1k"``,
            ``"timm/vgg16_bn.tv_in1k"`` or ``"facebook/dinov2-base"``.
        revision: Commit, tag or branch on the hub.
        offline: Whether to look at local files only.
        size: Side in pixels to which pictures are stretched; 512 when ``None``, 518 for DINOv2.
        split: Of DINOv2, see :class:`Dinov2Split`.

    Raises:
        InputError: There is no such kind, the weights are not found or of another network, or a setting does
            not suit it.
    """
    kinds = get_args(BackboneKind)
    if kind not in kinds:
        raise InputError(f"kind is {kind!r}; expected {', '.join(map(repr, kinds[:-1]))} or {kinds[-1]!r}.")
    if kind == "dinov2":
        config = Dinov2Config() if size is None else Dinov2Config(size=size)
        return Dinov2Split.load(name, revision=revision, offline=offline, config=config, split=split)
    if split is not None:
        raise InputError(f"split is {split} for {kind}, which has none; expected it for 'dinov2' alone.")
    network: ConvKind = kind
    side = SIZE if size is None else size
    return ConvFeatures.load(name, kind=network, revision=revision, offline=offline, size=side)
