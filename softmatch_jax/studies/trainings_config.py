"""Settings of the studies that compare trainings. Kept free of JAX."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from softmatch_jax.studies.config import IntervalSettings

TrainingStudy: TypeAlias = Literal["distributions", "parameters", "encoders", "domain"]

SOURCES: dict[TrainingStudy, str] = {
    "distributions": "ProSAM, Table 5",
    "parameters": "ProSAM, Table 9",
    "encoders": "ProSAM, Tables 6 and 10",
    "domain": "ProSAM, Table 3",
}


@dataclass(frozen=True, kw_only=True)
class TrainingsSettings:
    """Settings of the studies that compare trainings.

    Attributes:
        intervals: How intervals are made.
    """

    intervals: IntervalSettings = field(default_factory=IntervalSettings)
