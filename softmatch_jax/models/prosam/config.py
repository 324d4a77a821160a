"""The sizes and choices of the prompt encoder. Kept free of JAX; the command line is generated from here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from softmatch_jax._checks import InputError, check_positive

Formula = Literal["corrected", "literal"]
Family = Literal["student", "gaussian", "none"]
Dimension = Literal["prompt", "all", "element"]
Freedom = Literal["nu+n", "nu"]
Sharing = Literal["prompt", "sample", "element"]
Likeness = Literal["raw", "minmax"]
ToGrid = Literal["nearest", "area", "any"]


@dataclass(frozen=True, kw_only=True)
class DistributionConfig:
    """From which distribution prompts are drawn in training (ProSAM, eq. 5 to 7).

    Attributes:
        family: student is the t-distribution of the paper, gaussian its ablation (Table 5); none draws
            nothing, and every sample is the mean.
        nu: Degrees of freedom, the heaviness of the tails.
        formula: corrected is t3-VAE's sampling formula, which eq. 5 describes; literal is eq. 7 as it is
            printed, whose root leaves out the degrees of freedom.
        dimension: What n counts: the numbers of one prompt (256 of SAM's), of all prompts together (12800),
            or 1 for an element. The paper does not say; with more the tails are those of a Gaussian.
        freedom: Degrees of freedom of the chi-square draw. nu+n is the paper's, nu keeps heavy tails.
        sharing: What has one chi-square draw: a prompt, all prompts of a sample, or each element.
    """

    family: Family = "student"
    nu: float = 5.0
    formula: Formula = "corrected"
    dimension: Dimension = "prompt"
    freedom: Freedom = "nu+n"
    sharing: Sharing = "prompt"

    def __post_init__(self) -> None:
        choices = {"family": Family, "formula": Formula, "dimension": Dimension}
        for name, options in (choices | {"freedom": Freedom, "sharing": Sharing}).items():
            if getattr(self, name) not in get_args(options):
                expected = ", ".join(map(repr, get_args(options)))
                raise InputError(f"distribution.{name} is {getattr(self, name)!r}; expected {expected}.")
        check_positive("distribution.nu", self.nu)

    def count(self, prompts: int, dim: int) -> int:
        """The n of the formulas for prompt embeddings ``[prompts, dim]``."""
        return {"prompt": dim, "all": prompts * dim, "element": 1}[self.dimension]


@dataclass(frozen=True, kw_only=True)
class PromptEncoderConfig:
    """Sizes of the prompt encoder; the defaults are ProSAM's on a ResNet-50.

    Attributes:
        channels: Of the features that it is given.
        dim: Of a prompt embedding, which is that of SAM's tokens; a multiple of 4 and of ``heads``.
        prompts: Prompt embeddings for each reference.
        heads: Attention heads.
        variational: Whether two heads predict mean and log standard deviation (ProSAM) or prompts are
            predicted as they are (VRP-SAM).
        extra_linear: Linear layers behind the encoder where it is not variational; two make it as large as
            ProSAM (Table 9).
        dropout: Share of channels that training drops from the features of either picture.
        feature_gain: What features are multiplied by. Those of unit norm need it beside queries of unit
            variance; a ResNet's have 1, as published.
        mask_gain: What masks are multiplied by before they join the features. The paper leaves it out, its
            code has 10.
        likeness: Whether the pseudo mask is the cosine as it is, as the code has it, or brought to 0..1 from
            its least to its greatest value, as the text has it.
        to_grid: How an annotation is brought to the grid of the features: nearest looks at one pixel of each
            cell, as published, and loses most points; area is the annotated share of the cell; any is 1 where
            that is above 0.
        initial_log_sigma: What the log standard deviation is before training; that of a linear layer's
            usual start, near 0, when ``None``.
        sigma_floor: Least standard deviation; 0 for none, as in the paper.

    Raises:
        InputError: The sizes do not fit together, or a value is out of range.
    """

    channels: int = 1536
    dim: int = 256
    prompts: int = 50
    heads: int = 4
    variational: bool = True
    extra_linear: int = 0
    dropout: float = 0.5
    feature_gain: float = 1.0
    mask_gain: float = 10.0
    likeness: Likeness = "raw"
    to_grid: ToGrid = "nearest"
    initial_log_sigma: float | None = None
    sigma_floor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("channels", "dim", "prompts", "heads", "feature_gain", "mask_gain"):
            check_positive(f"encoder.{name}", getattr(self, name))
        if self.dim % 4 or self.dim % self.heads:
            raise InputError(
                f"encoder.dim is {self.dim}; expected a multiple of 4 and of encoder.heads={self.heads}."
            )
        if self.extra_linear < 0 or (self.extra_linear and self.variational):
            raise InputError(
                f"encoder.extra_linear is {self.extra_linear}; expected 0, or 1 or more with "
                "variational=False (the control of Table 9 is VRP-SAM with 2)."
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"encoder.dropout is {self.dropout}; expected a share in [0, 1).")
        for name, options in (("likeness", Likeness), ("to_grid", ToGrid)):
            if getattr(self, name) not in get_args(options):
                expected = ", ".join(map(repr, get_args(options)))
                raise InputError(f"encoder.{name} is {getattr(self, name)!r}; expected {expected}.")
        if self.initial_log_sigma is not None and not math.isfinite(self.initial_log_sigma):
            raise InputError(f"encoder.initial_log_sigma is {self.initial_log_sigma}; expected a number.")
        if not 0 <= self.sigma_floor < math.inf:
            raise InputError(f"encoder.sigma_floor is {self.sigma_floor}; expected 0 or more.")

    @property
    def usual_distribution(self) -> DistributionConfig:
        """The paper's; none where the encoder is not variational."""
        return DistributionConfig() if self.variational else DistributionConfig(family="none")
