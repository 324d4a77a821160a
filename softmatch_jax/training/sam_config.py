"""The settings of the tiny model's training; the command line is generated from this. Kept free of JAX."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from softmatch_jax._checks import InputError


@dataclass(frozen=True, kw_only=True)
class SamTrainConfig:
    """What the masks are trained for.

    Attributes:
        pixel_loss: focal, as SAM has it, or cross_entropy.
        pixel_weight: Of the pixel loss beside the Dice loss; SAM has 20 focal to 1.
        every_mask: Weight of the mean loss of the three masks, so that none of them dies.
        iou_weight: Of the squared error of the predicted IoU.
        box: How often a prompt is a box.
        centre: How often the point deepest inside.
        point: How often a point anywhere inside.
        two_points: How often both.
        box_and_point: How often a box and a point.
        sparse: How often the decoder gets tokens alone, without the prompt's maps.
        bare: How often, of these, the tokens are positions alone.
        rounds: Corrections in the steps that have them.
    """

    pixel_loss: Literal["focal", "cross_entropy"] = "focal"
    pixel_weight: float = 20.0
    every_mask: float = 0.05
    iou_weight: float = 1.0
    box: float = 0.4
    centre: float = 0.15
    point: float = 0.3
    two_points: float = 0.05
    box_and_point: float = 0.1
    sparse: float = 0.2
    bare: float = 0.5
    rounds: int = 1

    def __post_init__(self) -> None:
        if self.pixel_loss not in ("focal", "cross_entropy"):
            raise InputError(f"sam.pixel_loss is {self.pixel_loss!r}; expected 'focal' or 'cross_entropy'.")
        for name in ("sparse", "bare"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"sam.{name} is {getattr(self, name)}; expected a share in [0, 1].")
        if min(self.shares) < 0 or not sum(self.shares) > 0:
            raise InputError(
                f"sam has the shares {self.shares} of boxes and points; expected none below 0, and one above."
            )
        weights = (self.pixel_weight, self.every_mask, self.iou_weight)
        if not all(0 <= weight < math.inf for weight in weights) or self.rounds < 1:
            raise InputError(
                f"{self} is out of range; expected weights of 0 or more and at least 1 round of corrections."
            )

    @property
    def shares(self) -> tuple[float, ...]:
        """How often each kind of prompt is drawn, in the order of ``KINDS``."""
        return (self.box, self.centre, self.point, self.two_points, self.box_and_point)
