"""Settings of the study of prompts found by gradient descent. Kept free of JAX."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from softmatch_jax._checks import InputError, check_positive
from softmatch_jax.models.prosam.config import DistributionConfig
from softmatch_jax.studies.config import check_count

Start = Literal["drawn", "zero"]
ProjectionChoice = Literal["auto", "tsne", "pca"]


@dataclass(frozen=True, kw_only=True)
class DescentSettings:
    """Settings of the study of prompts found by gradient descent on one picture (ProSAM, section 9).

    Attributes:
        place: Which of the questions, from 0.
        runs: Prompts that are learned one by one, and drawn from the learned distribution.
        std: Standard deviation of each number of a prompt at the start.
        mean_start: Where the distribution's mean starts, which the paper does not say: drawn as the other
            prompts are, or zero, the middle of them all, where it is central whatever is learned.
        log_sigma: Of the distribution at the start.
        samples: K, samples of the distribution in each epoch.
        distribution: Which family.
        prompts: Prompts in a set; as many as the first contender's encoder makes when ``None``.
        learning_rate: Of AdamW. The paper's is 1e-4, and an epoch then moves a number by about that much:
            prompts of standard deviation 25 would stay where they are for all of a training.
        weight_decay: Of AdamW.
        improvement: Only a loss that is lower by more than this counts as better.
        patience: Epochs without a better loss after which a run ends.
        epochs: Most epochs of a run; it is told how many came to this end.
        chunk: Runs that are optimised at a time, which bounds the memory.
        projection: How prompts are brought to the plane of the figure: tsne needs scikit-learn; auto is tsne
            where that is installed, and else pca.

    Raises:
        InputError: A value is out of range.
    """

    place: int = 0
    runs: int = 200
    std: float = 25.0
    mean_start: Start = "drawn"
    log_sigma: float = 0.0
    samples: int = 10
    distribution: DistributionConfig = field(default_factory=DistributionConfig)
    prompts: int | None = None
    learning_rate: float = 0.1
    weight_decay: float = 1e-6
    improvement: float = 3e-4
    patience: int = 100
    epochs: int = 3000
    chunk: int = 10
    projection: ProjectionChoice = "auto"

    def __post_init__(self) -> None:
        for name in ("samples", "patience", "epochs", "chunk"):
            check_count(f"descent.{name}", getattr(self, name))
        if self.prompts is not None:
            check_count("descent.prompts", self.prompts)
        if self.runs < 4:
            raise InputError(f"descent.runs is {self.runs}; expected at least 4, for quartiles.")
        for name in ("std", "learning_rate"):
            check_positive(f"descent.{name}", getattr(self, name))
        for name in ("place", "weight_decay", "improvement"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise InputError(f"descent.{name} is {value}; expected 0 or more.")
        if not math.isfinite(self.log_sigma):
            raise InputError(f"descent.log_sigma is {self.log_sigma}; expected a finite number.")
        for name, options in (("mean_start", Start), ("projection", ProjectionChoice)):
            if getattr(self, name) not in get_args(options):
                expected = ", ".join(map(repr, get_args(options)))
                raise InputError(f"descent.{name} is {getattr(self, name)!r}; expected {expected}.")
        if self.distribution.family == "none":
            raise InputError(
                "descent.distribution.family is 'none', which has nothing to draw; expected 'student' or "
                "'gaussian'."
            )
