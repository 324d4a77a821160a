"""The settings of batches with regions; the command line is generated from these. Kept free of OpenCV."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from softmatch_jax._checks import InputError

_SAM_SIDE = 1024  # of the input that SAM's limit of 20 pixels is for


@dataclass(frozen=True, kw_only=True)
class Framing:
    """Which part of a picture a view shows.

    Attributes:
        whole: Share of views that show the whole picture.
        smallest: Side of the smallest square that is cut out, as a share of the shorter side; the largest is
            the longer side, and sides are drawn uniformly by their logarithm.
        mirrored: Share of views that are mirrored left to right.
        upside_down: Share of views that are mirrored top to bottom.
        turned: Largest angle by which a view is turned, in degrees. The corners that come in from outside
            mirror the picture and are in no region.
    """

    whole: float = 0.3
    smallest: float = 0.4
    mirrored: float = 0.5
    upside_down: float = 0.0
    turned: float = 0.0

    def __post_init__(self) -> None:
        for name in ("whole", "mirrored", "upside_down"):
            check_share(name, getattr(self, name))
        if not 0 < self.smallest <= 1:
            raise InputError(f"smallest is {self.smallest}; expected a share above 0, up to 1.")
        if not 0 <= self.turned <= 180:
            raise InputError(f"turned is {self.turned}; expected an angle from 0 to 180 degrees.")


@dataclass(frozen=True, kw_only=True)
class Colours:
    """How the colours of a view change.

    Attributes:
        brightness: Largest change of all channels, as a share of white.
        contrast: Largest relative change of the distance from grey.
        saturation: Largest relative change of the distance from the grey of the same luma.
        hue: Largest turn of the hue, as a share of the full circle.
        grey: Share of views without colour.
        blurred: Share of views that are blurred, by 0.3 to 1 pixels.
        noisy: Share of views with noise, of a standard deviation up to 8 levels.
    """

    brightness: float = 0.1
    contrast: float = 0.25
    saturation: float = 0.3
    hue: float = 0.03
    grey: float = 0.05
    blurred: float = 0.1
    noisy: float = 0.1

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation", "hue", "grey", "blurred", "noisy"):
            check_share(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Which regions of a view are asked for, and how.

    Attributes:
        min_area: Smallest object, as a share of the picture in the view.
        max_area: Largest object, likewise.
        flatness: Regions are drawn with probability ``area ** -flatness``; 0 draws all alike.
        merge: Share of objects that are two adjacent regions, the second drawn by the length of the border.
        jitter: Standard deviation of the edges of a box, as a share of its side (SAM, appendix A).
        most_jitter: Largest shift of an edge, as a share of the view's side.
        again: Whether regions are asked for again, by other prompts, where there are fewer than wanted.
    """

    min_area: float = 0.005
    max_area: float = 0.7
    flatness: float = 0.25
    merge: float = 0.15
    jitter: float = 0.1
    most_jitter: float = 20 / _SAM_SIDE
    again: bool = True

    def __post_init__(self) -> None:
        for name in ("min_area", "max_area", "merge", "most_jitter"):
            check_share(name, getattr(self, name))
        if self.min_area >= self.max_area:
            raise InputError(
                f"min_area is {self.min_area:g} and max_area {self.max_area:g}; expected the smaller first."
            )
        for name in ("flatness", "jitter"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; expected a number from 0.")


@dataclass(frozen=True, kw_only=True)
class Pasting:
    """How often and what is pasted.

    Attributes:
        share: Share of views that get something pasted.
        most: Largest number of regions pasted into a view.
        min_area: Smallest region pasted, as a share of the view it is taken from.
        max_area: Largest, likewise.
    """

    share: float = 0.0
    most: int = 3
    min_area: float = 0.01
    max_area: float = 0.3

    def __post_init__(self) -> None:
        for name in ("share", "min_area", "max_area"):
            check_share(name, getattr(self, name))
        if self.min_area >= self.max_area or self.most < 1:
            raise InputError(
                f"{self} is out of range; expected min_area below max_area, and most of 1 or more."
            )


@dataclass(frozen=True, kw_only=True)
class RegionBatchConfig:
    """What batches look like.

    Attributes:
        stages: From which step on views have which side, and how many there are in a batch; the first from
            step 0. Sides are multiples of 4.
        prompts: Regions of each view.
        framing: Which parts of pictures are shown.
        colours: How colours change.
        drawing: Which regions are asked for, and how.
        pasting: What is pasted into views from other pictures.
        correct_every: Every so often a batch asks for a round of corrections, by the key ``correct``; 0 for
            never.
    """

    stages: tuple[tuple[int, int, int], ...] = ((0, 128, 4),)
    prompts: int = 8
    framing: Framing = field(default_factory=Framing)
    colours: Colours = field(default_factory=Colours)
    drawing: Drawing = field(default_factory=Drawing)
    pasting: Pasting = field(default_factory=Pasting)
    correct_every: int = 3

    def __post_init__(self) -> None:
        firsts = [first for first, _, _ in self.stages]
        if firsts[:1] != [0] or sorted(set(firsts)) != firsts:
            raise InputError(f"stages begin at steps {firsts}; expected 0 first, then later and later ones.")
        for _, side, count in self.stages:
            if side < 16 or side % 4 or count < 1:
                raise InputError(
                    f"stages has the side {side} and {count} pictures; expected a multiple of 4 from 16 on, "
                    "and at least 1 picture."
                )
        if self.prompts < 1 or self.correct_every < 0:
            raise InputError(
                f"prompts is {self.prompts} and correct_every {self.correct_every}; expected at least 1 "
                "prompt, and 0 or more steps."
            )

    def stage(self, step: int) -> tuple[int, int]:
        """The side of views and the number of pictures at a step."""
        return next((side, count) for first, side, count in reversed(self.stages) if first <= step)


def check_share(name: str, value: float) -> None:
    """Raises ``InputError`` unless ``value`` is in 0..1."""
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {value}; expected a share from 0 to 1.")
