"""Settings of the studies. Kept free of JAX; the command line is generated from here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from softmatch_jax._checks import InputError

Centre = Literal["deepest", "centroid"]


def check_count(name: str, value: int) -> None:
    """Raises ``InputError`` unless a number of things is 1 or more."""
    if value < 1:
        raise InputError(f"{name} is {value}; expected at least 1.")


@dataclass(frozen=True, kw_only=True)
class IntervalSettings:
    """How intervals are made; see :mod:`softmatch_jax.studies.resampling`.

    Attributes:
        level: How often an interval is to cover.
        replicates: Draws of the target pictures.

    Raises:
        InputError: A value is out of range.
    """

    level: float = 0.95
    replicates: int = 2000

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise InputError(f"intervals.level is {self.level}; expected between 0 and 1, such as 0.95.")
        check_count("intervals.replicates", self.replicates)


@dataclass(frozen=True, kw_only=True)
class NoiseSettings:
    """Settings of the study of noise on the prompts (ProSAM, Fig. 4).

    Attributes:
        levels: Standard deviations of the noise on each number of a prompt, above 0 and rising; none at all
            is always measured, too.
        relative: The same as multiples of the root mean square of the episode's prompts: larger prompts
            are no safer from these.
        draws: Noises for each level and episode; the paper does not say how many.
        chunk: Sets of prompts decoded at a time.
        intervals: How intervals are made.

    Raises:
        InputError: A value is out of range.
    """

    levels: tuple[float, ...] = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.6, 2.4)
    relative: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8, 1.2, 1.6, 2.4)
    draws: int = 3
    chunk: int = 1
    intervals: IntervalSettings = field(default_factory=IntervalSettings)

    def __post_init__(self) -> None:
        for name in ("levels", "relative"):
            values = getattr(self, name)
            rising = all(a < b for a, b in zip((0.0, *values), (*values, math.inf), strict=True))
            if not values or not rising:
                raise InputError(
                    f"noise.{name} is {values}; expected one or more finite levels above 0, the least first."
                )
        check_count("noise.draws", self.draws)
        check_count("noise.chunk", self.chunk)


@dataclass(frozen=True, kw_only=True)
class CentreSettings:
    """Settings of the study of how near prompts are to the object's centre point (ProSAM, Table 4).

    Attributes:
        centre: Which pixel is the centre, which the paper does not say: deepest is the one farthest from
            all that is not object; centroid the pixel of the object nearest to its centre of mass.
        intervals: How intervals are made.

    Raises:
        InputError: There is no such centre.
    """

    centre: Centre = "deepest"
    intervals: IntervalSettings = field(default_factory=IntervalSettings)

    def __post_init__(self) -> None:
        if self.centre not in get_args(Centre):
            raise InputError(f"centre.centre is {self.centre!r}; expected 'deepest' or 'centroid'.")


@dataclass(frozen=True, kw_only=True)
class StrategiesSettings:
    """Settings of the study of ways to make a mask of the distribution (ProSAM, Table 7).

    Attributes:
        samples: K, sets of prompts drawn for each episode.
        chunk: Sets of prompts decoded at a time.
        intervals: How intervals are made.

    Raises:
        InputError: A number is below 1.
    """

    samples: int = 10
    chunk: int = 1
    intervals: IntervalSettings = field(default_factory=IntervalSettings)

    def __post_init__(self) -> None:
        check_count("strategies.samples", self.samples)
        check_count("strategies.chunk", self.chunk)


@dataclass(frozen=True, kw_only=True)
class RatesSettings:
    """Settings of the study of pixels found, missed and invented (ProSAM, Table 8).

    Attributes:
        intervals: How intervals are made.
    """

    intervals: IntervalSettings = field(default_factory=IntervalSettings)


@dataclass(frozen=True, kw_only=True)
class CurvatureSettings:
    """Settings of the measurement of the curvature that ProSAM's theory is about (7.1 to 7.3).

    Attributes:
        probes: Random directions for each episode, at least 2.
        intervals: How intervals are made.

    Raises:
        InputError: A number is out of range.
    """

    probes: int = 32
    intervals: IntervalSettings = field(default_factory=IntervalSettings)

    def __post_init__(self) -> None:
        if self.probes < 2:
            raise InputError(
                f"curvature.probes is {self.probes}; expected at least 2, for an error of the estimate."
            )
