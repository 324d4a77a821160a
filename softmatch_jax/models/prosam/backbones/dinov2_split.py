"""DINOv2 as VRP-SAM and ProSAM see with it: two layers side by side, and the last blocks for the likeness.

Neither paper says where the blocks are cut. The authors of VRP-SAM name 8, 12, 21 and 24 of the 24 blocks of
ViT-L; other sizes are cut in proportion here, and the 12 blocks of ViT-B at 4, 6, 10 and 12.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

from softmatch_jax._checks import InputError, check_shape
from softmatch_jax._types import Size
from softmatch_jax.models.bridge import to_jax, to_torch
from softmatch_jax.models.dinov2 import KNOBS, Dinov2, Dinov2Config
from softmatch_jax.models.optional import require
from softmatch_jax.models.preprocessing import inference
from softmatch_jax.prompting import PatchGrid

Split: TypeAlias = tuple[int, int, int, int]
"""Blocks up to the ends of layers 1, 2, 3 and 4; the features are those of layers 2 and 3."""

_PUBLISHED: Split = (8, 12, 21, 24)


def default_split(blocks: int) -> Split:
    """The published split of 24 blocks in proportion, each end rounded down: 4, 6, 10, 12 of 12 blocks."""
    first, second, third, last = (end * blocks // _PUBLISHED[-1] for end in _PUBLISHED)
    return first, second, third, last


def check_split(split: Sequence[int], blocks: int, name: str) -> Split:
    """Returns a split that cuts the blocks of the model ``name`` into four layers.

    Raises:
        InputError: It does not.
    """
    numbers = tuple(split)
    rising = len(numbers) == 4 and all(a < b for a, b in pairwise((0, *numbers)))
    if not rising or numbers[-1] > blocks:
        raise InputError(
            f"split is {numbers}; expected four rising numbers from 1 to {blocks}, the blocks of {name} "
            f"(published for 24 blocks: {_PUBLISHED})."
        )
    first, second, third, last = numbers
    return first, second, third, last


@dataclass(frozen=True, eq=False)
class Dinov2Split(Dinov2):
    """DINOv2 whose values are the outputs of layers 2 and 3 side by side; layer 4 is their deepening.

    Made by :meth:`load`. The values are tokens as the blocks hand them on; layer 4 ends in the model's
    LayerNorm if ``config.norm``. A mask of a reference falls on the patch tokens, and only on these: the
    class token and the registers of layer 3 go into layer 4 as they are, for the reference as for the target,
    since the blocks were never trained without them. So that they are at hand, they lie in a row of cells
    below the picture, which the grid tells to be padding and prompt encoders pass over.

    Attributes:
        split: Where the blocks are cut.
    """

    split: Split = _PUBLISHED

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        offline: bool | None = None,
        config: Dinov2Config | None = None,
        split: Split | None = None,
    ) -> Dinov2Split:
        """Loads a model of the hub or of a folder.

        Args:
            name: For instance ``"facebook/dinov2-base"``, or a folder with ``config.json`` and weights.
            revision: Commit, tag or branch on the hub.
            offline: Whether to look at local files only.
            config: Settings, with the defaults of ``layer`` and ``fit``.
            split: Where the blocks are cut; :func:`default_split` when ``None``.

        Raises:
            InputError: Not a DINOv2 checkpoint, settings or a split that do not suit it, or no memory for it.
        """
        config = Dinov2Config() if config is None else config
        if config.fit != "stretch" or config.layer != -1:
            raise InputError(
                f"Dinov2Config has fit={config.fit!r} and layer={config.layer}; expected fit='stretch' and "
                "layer=-1 for a split model (its split says which layers it uses)."
            )
        made = super().load(name, revision=revision, offline=offline, config=config)
        assert isinstance(made, Dinov2Split)
        blocks = len(made.model.encoder.layer)
        chosen = default_split(blocks) if split is None else split
        return replace(made, split=check_split(chosen, blocks, made.checkpoint.name))

    @property
    def name(self) -> str:
        """Checkpoint and settings in one line, without what leaves the result as it is."""
        return f"split-{super().name.removesuffix(')')}, split={'-'.join(map(str, self.split))})"

    @property
    def dim(self) -> int:
        """Number of feature dimensions, of both layers together."""
        return 2 * self._width

    def grid(self, image_size: Size) -> PatchGrid:
        """The grid for pictures of ``image_size`` ``(H, W)``, with a row of padding for the other tokens."""
        plain = super().grid(image_size)
        rows, columns = plain.shape
        return replace(plain, shape=(rows + math.ceil(self._others / columns), columns))

    def deepen(self, values: Float[Array, "h w c"], mask: Float[Array, "h w"] | None) -> Array:
        """Layer 4 of the layer 3 in ``values``, zero in the padding. Not traceable: the network is torch's.

        Args:
            values: Features of one picture, from :meth:`__call__`.
            mask: Of a reference, in 0..1: the patch tokens are multiplied by it first. ``None`` for a target.

        Raises:
            InputError: ``values`` or ``mask`` has another shape, or the GPU's memory is full.
        """
        torch, shape = require("torch"), self.grid((1, 1)).shape
        check_shape("values", values, (*shape, self.dim), "height, width, layers 2 and 3")
        with inference(self.checkpoint.name, self.model.dtype, KNOBS):
            cells = to_torch(jnp.asarray(values), device=self.device)[..., self._width :]
            patches, others = self._apart(cells)
            if mask is not None:
                check_shape("mask", mask, shape, "that of the features")
                shares, _ = self._apart(
                    to_torch(jnp.asarray(mask, jnp.float32), device=self.device)[..., None]
                )
                patches = patches * shares
            hidden = torch.cat((others, patches))[None].to(self.model.dtype)
            for block in self._blocks(2):
                hidden = block(hidden)
            hidden = self.model.layernorm(hidden) if self.config.norm else hidden
            patches = hidden[:, self._others :].float()
            return to_jax(self._together(patches, torch.zeros_like(patches[:, :0]))[0])

    @property
    def _width(self) -> int:
        """Channels of a token."""
        return super().dim

    @property
    def _others(self) -> int:
        """Tokens that are no patches: the class token and the registers."""
        return 1 + self._registers

    def _blocks(self, layer: int) -> Any:
        """Blocks of layer 1 and 2 together (0), of layer 3 (1) or of layer 4 (2)."""
        _, second, third, last = self.split
        start, stop = ((0, second), (second, third), (third, last))[layer]
        return self.model.encoder.layer[start:stop]

    def _features(self, pixels: Any, grid: PatchGrid) -> Any:
        """Layers 2 and 3 of standardised pixels on the padded grid, torch ``float32 [b, h, w, 2d]``."""
        torch = require("torch")
        hidden = self._embedded(pixels, *(length // grid.stride for length in grid.input_size))
        layers = []
        for layer in (0, 1):
            for block in self._blocks(layer):
                hidden = block(hidden)
            layers.append(hidden)
        tokens = torch.cat(layers, dim=-1).float()
        return self._together(tokens[:, self._others :], tokens[:, : self._others])

    def _together(self, patches: Any, others: Any) -> Any:
        """Tokens ``[b, n, d]`` as cells, the patches first: ``[b, rows + padding, columns, d]``."""
        torch = require("torch")
        rows, columns = self.grid((1, 1)).shape
        tokens = torch.cat((patches, others), dim=1)
        tokens = torch.nn.functional.pad(tokens, (0, 0, 0, rows * columns - tokens.shape[1]))
        return tokens.reshape(len(tokens), rows, columns, -1)

    def _apart(self, cells: Any) -> tuple[Any, Any]:
        """Patches and other tokens of the cells of one picture, ``[n, d]`` each."""
        count = (self.config.size // int(self.model.config.patch_size)) ** 2
        tokens = cells.reshape(-1, cells.shape[-1])
        return tokens[:count], tokens[count : count + self._others]
