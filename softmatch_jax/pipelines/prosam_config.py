"""Settings of the ProSAM pipeline; the command line is generated from here. Kept free of JAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from softmatch_jax._checks import InputError, check_positive

Strategy: TypeAlias = Literal["mean", "max_logits", "mean_logits", "max_binary", "mean_binary", "majority"]
"""Those of :mod:`softmatch_jax.models.prosam.strategies`, named here so that help need not wait for JAX."""


@dataclass(frozen=True, kw_only=True)
class ProSamConfig:
    """Settings of the ProSAM pipeline.

    Attributes:
        strategy: Which prompts decide. mean is the mean prompt, which the paper uses; the others merge the
            masks of sampled prompts (its Table 7): by the greatest or the mean logit, or by the votes of
            binary masks, of which one, half, or more than half suffice.
        samples: K, how many sets of prompts are sampled, for the strategy or the uncertainty.
        uncertainty: Whether to tell how far the masks of sampled prompts disagree. Takes ``samples`` decodes.
        complete: Whether to grow scribbles, points and boxes into a mask of the object before the encoder
            sees them. Encoders are trained on annotations as they are, boxes being filled.
        min_area: Instances smaller than this fraction of the picture are dropped.
        together: Sets of prompts that are decoded at a time, which bounds the memory: one on a CPU and all
            on an accelerator when ``None``.

    Raises:
        InputError: A value is out of range.
    """

    strategy: Strategy = "mean"
    samples: int = 10
    uncertainty: bool = True
    complete: bool = False
    min_area: float = 1e-4
    together: int | None = None

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            expected = ", ".join(map(repr, get_args(Strategy)))
            raise InputError(f"prosam.strategy is {self.strategy!r}; expected {expected}.")
        if self.samples < 1:
            raise InputError(f"prosam.samples (K) is {self.samples}; expected at least 1.")
        if not 0 <= self.min_area <= 1:
            raise InputError(f"prosam.min_area is {self.min_area}; expected a fraction in [0, 1].")
        if self.together is not None:
            check_positive("prosam.together", self.together)
