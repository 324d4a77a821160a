"""Public models that this package knows: what they are for, how large they are, under which licence.

All are uploads of their authors; others of the same architectures work as well. Parameters are counted
from the architectures' configurations; a download in float32 takes four bytes for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["features", "masks", "features and text"]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A published model.

    Attributes:
        role: What it does here.
        parameters: Number of trainable values.
        licence: SPDX identifier of the weights' licence.
        home: Page of the authors.
        dim: Number of feature dimensions of a patch; of CLIP, of the space that it shares with text; of
            SAM, of its image embedding.
        patch: Side of a patch in pixels of the model's input.
        revision: Commit to take where ``main`` has no safetensors.
        url: Where to fetch a ``.pth`` file; ``None`` for models on the hub.
        md5: Checksum of the ``.pth`` file, whose first six digits are in its name.
    """

    role: Role
    parameters: int
    licence: str
    home: str
    dim: int
    patch: int
    revision: str | None = None
    url: str | None = None
    md5: str | None = None

    @property
    def size(self) -> int:
        """Bytes to download, without what is small beside the weights."""
        return 4 * self.parameters


_DINOV2 = "https://github.com/facebookresearch/dinov2"
_CLIP = "https://github.com/openai/CLIP"
_SAM = "https://github.com/facebookresearch/segment-anything"
_SAM_FILES = "https://dl.fbaipublicfiles.com/segment_anything/"


def _dinov2(parameters: int, dim: int) -> Model:
    return Model(
        role="features", parameters=parameters, licence="Apache-2.0", home=_DINOV2, dim=dim, patch=14
    )


def _clip(parameters: int, dim: int, patch: int, revision: str | None = None) -> Model:
    return Model(
        role="features and text",
        parameters=parameters,
        licence="MIT",
        home=_CLIP,
        dim=dim,
        patch=patch,
        revision=revision,
    )


def _sam(parameters: int, url: str | None = None, md5: str | None = None) -> Model:
    return Model(
        role="masks",
        parameters=parameters,
        licence="Apache-2.0",
        home=_SAM,
        dim=256,
        patch=16,
        url=url,
        md5=md5,
    )


CATALOGUE: dict[str, Model] = {
    "facebook/dinov2-small": _dinov2(22_056_576, 384),
    "facebook/dinov2-base": _dinov2(86_580_480, 768),
    "facebook/dinov2-large": _dinov2(304_368_640, 1024),
    "facebook/dinov2-giant": _dinov2(1_136_480_768, 1536),
    "facebook/dinov2-with-registers-small": _dinov2(22_058_112, 384),
    "facebook/dinov2-with-registers-base": _dinov2(86_583_552, 768),
    "facebook/dinov2-with-registers-large": _dinov2(304_372_736, 1024),
    "facebook/dinov2-with-registers-giant": _dinov2(1_136_486_912, 1536),
    "openai/clip-vit-base-patch16": _clip(149_620_737, 512, 16),
    # Its main branch has pytorch_model.bin only; this commit adds the same weights as safetensors.
    "openai/clip-vit-base-patch32": _clip(151_277_313, 512, 32, "c237dc49a33fc61debc9276459120b7eac67e7ef"),
    "openai/clip-vit-large-patch14": _clip(427_616_513, 768, 14),
    "facebook/sam-vit-base": _sam(93_735_728),
    "facebook/sam-vit-large": _sam(312_343_088),
    "facebook/sam-vit-huge": _sam(641_090_864),
    "sam_vit_b_01ec64.pth": _sam(
        93_735_728, _SAM_FILES + "sam_vit_b_01ec64.pth", "01ec64d29a2fca3f0661936605ae66f8"
    ),
    "sam_vit_l_0b3195.pth": _sam(
        312_343_088, _SAM_FILES + "sam_vit_l_0b3195.pth", "0b3195507c641ddb6910d2bb5adee89c"
    ),
    "sam_vit_h_4b8939.pth": _sam(
        641_090_864, _SAM_FILES + "sam_vit_h_4b8939.pth", "4b8939a88964f0f4ff5f5b2642c598a6"
    ),
}
"""By hub id, or by the name of the ``.pth`` file."""
