"""The settings of training a prompt encoder; the command line is generated from these. Kept free of JAX."""

from __future__ import annotations

from dataclasses import dataclass

from softmatch_jax._checks import InputError, check_positive


@dataclass(frozen=True, kw_only=True)
class PromptTrainConfig:
    """What the prompts are trained for.

    Attributes:
        samples: K, prompts drawn for each target; VRP-SAM has 1, which is the prompt itself.
        chunk: Samples that are decoded at a time, each with its gradient, which bounds the memory by those
            of so many. All when ``None``.
        recompute: Whether the decoder runs again for its gradient instead of keeping what it computed; with
            ``chunk`` the memory is bounded as well, and it takes more time.
        loss_side: Side of the raster that the loss is computed on, to which logits are enlarged with aligned
            corners; 512 is published and asks for a SAM that stretches pictures. The decoder's own raster
            when ``None``.
    """

    samples: int = 10
    chunk: int | None = None
    recompute: bool = False
    loss_side: int | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InputError(f"prompts.samples (K) is {self.samples}; expected at least 1.")
        for name in ("chunk", "loss_side"):
            if getattr(self, name) is not None:
                check_positive(f"prompts.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """Pairs of views of one picture, where the reference and the target show the same region.

    Attributes:
        views: Views of each picture; the first is the whole picture as it is.
        side: Longer side of a view in pixels.
        min_area: Smallest region, as a share of the view, in both of a pair.
        max_area: Largest, likewise.
    """

    views: int = 4
    side: int = 256
    min_area: float = 0.01
    max_area: float = 0.6

    def __post_init__(self) -> None:
        if self.views < 2:
            raise InputError(f"views is {self.views}; expected at least 2, a reference and a target.")
        check_positive("side", self.side)
        if not 0 <= self.min_area < self.max_area <= 1:
            raise InputError(
                f"min_area is {self.min_area:g} and max_area {self.max_area:g}; expected two shares, the "
                "smaller first."
            )
