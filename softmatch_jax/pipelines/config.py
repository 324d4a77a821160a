"""Settings of the Softmatcher pipeline; the command line is generated from these classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from softmatch_jax._checks import InputError, check_positive


@dataclass(frozen=True, kw_only=True)
class MatchingConfig:
    """How reference and target features are compared.

    Attributes:
        method: geometric is the paper's large-regularisation limit in its exact linear-time form;
            arithmetic keeps a mode for every part of the object and costs references x targets.
        temperature: Softmax temperature tau. With the geometric method the cut adapts to it, so masks do
            not depend on it; points drawn by the multinomial sampler and the log-evidence do.
        whiten: Whiten features on the joint statistics of references and target first. Meant for
            hand-made descriptors; learned features need none.
        shrinkage: How far the covariance is drawn to its diagonal, in (0, 1].
        verify_shrinkage: The same when the find is compared with the references. Stronger, because
            whitening in full blows up weak channels, and these change with resolution and noise.
        target_share: Share of the target's own mean in the background that the object is contrasted
            with, in [0, 1].
    """

    method: Literal["geometric", "arithmetic"] = "geometric"
    temperature: float = 0.1
    whiten: bool = True
    shrinkage: float = 0.1
    verify_shrinkage: float = 0.9
    target_share: float = 0.5

    def __post_init__(self) -> None:
        check_positive("matching.temperature", self.temperature)
        if self.method not in ("geometric", "arithmetic"):
            raise InputError(f"matching.method is {self.method!r}; expected 'geometric' or 'arithmetic'.")
        for name in ("shrinkage", "verify_shrinkage"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"matching.{name} is {getattr(self, name)}; expected a number in (0, 1].")
        if not 0 <= self.target_share <= 1:
            raise InputError(f"matching.target_share is {self.target_share}; expected a number in [0, 1].")


@dataclass(frozen=True, kw_only=True)
class PromptingConfig:
    """How the match map becomes prompts.

    Attributes:
        sampler: top_k takes the best patches with spatial suppression; multinomial draws from
            the map without replacement, as the paper does.
        points: Most points taken.
        radius: Patches within this distance of a taken point are passed over (top_k only).
        clusters: Most clusters the points are grouped into; each becomes one prompt.
    """

    sampler: Literal["top_k", "multinomial"] = "top_k"
    points: int = 128
    radius: float = 3.0
    clusters: int = 8

    def __post_init__(self) -> None:
        if self.sampler not in ("top_k", "multinomial"):
            raise InputError(f"prompting.sampler is {self.sampler!r}; expected 'top_k' or 'multinomial'.")
        check_positive("prompting.points", self.points)
        check_positive("prompting.clusters", self.clusters)
        if self.radius < 0:
            raise InputError(f"prompting.radius is {self.radius}; expected a distance in patches, 0 or more.")


@dataclass(frozen=True, kw_only=True)
class DecisionConfig:
    """How the map is cut, and when a find counts.

    Attributes:
        sharpness: Slope of the logistic that turns scores into probabilities, per standard deviation
            of the scores.
        size_factor: How many times smaller or larger than on the references an object may be, as a
            fraction of the picture. It bounds where the score map is cut.
        min_score: Proposals that score below this are discarded before the rest is merged.
        min_area: Instances smaller than this fraction of the picture are dropped.
        min_resemblance: The object is reported absent when what was found resembles it less than this.
            One is the same distribution of patches, zero is no nearer than the surroundings.
    """

    sharpness: float = 3.0
    size_factor: float = 16.0
    min_score: float = 0.5
    min_area: float = 1e-4
    min_resemblance: float = 0.5

    def __post_init__(self) -> None:
        check_positive("decision.sharpness", self.sharpness)
        if not self.size_factor >= 1:
            raise InputError(f"decision.size_factor is {self.size_factor}; expected 1 or more.")
        for name in ("min_score", "min_area"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"decision.{name} is {getattr(self, name)}; expected a fraction in [0, 1].")
        if not self.min_resemblance <= 1:
            raise InputError(
                f"decision.min_resemblance is {self.min_resemblance}; expected a number of at most 1."
            )


@dataclass(frozen=True, kw_only=True)
class SoftmatcherConfig:
    """Settings of the whole pipeline.

    Attributes:
        matching: How features are compared.
        prompting: How the match map becomes prompts.
        decision: How the map is cut, and when a find counts.
    """

    matching: MatchingConfig = field(default_factory=MatchingConfig)
    prompting: PromptingConfig = field(default_factory=PromptingConfig)
    decision: DecisionConfig = field(default_factory=DecisionConfig)
