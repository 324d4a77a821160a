"""How prompt encoders are trained; the defaults of ``softmatch train prosam``. Kept free of JAX."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from softmatch_jax.models.prosam.config import DistributionConfig, PromptEncoderConfig
from softmatch_jax.training.config import TrainConfig
from softmatch_jax.training.prompt_config import PromptTrainConfig

RecipeName: TypeAlias = Literal["embedded", "published"]
MethodName: TypeAlias = Literal["t", "gaussian", "vrp", "vrp+2"]
"""ProSAM with Student's t, with a Gaussian; VRP-SAM; and VRP-SAM as large as ProSAM (Table 9)."""


@dataclass(frozen=True, kw_only=True)
class PromptRecipe:
    """All that decides what is learned, but for the data.

    Attributes:
        training: How the parameters are optimised.
        encoder: Sizes and choices of the encoder; ``channels`` and ``dim`` are those of the frozen models.
        distribution: What prompts are drawn from.
        prompts: What the prompts are trained for.
        batch_size: Pairs of a batch.
        epochs: Decides the number of steps where it is given.
        validate_epochs: Decides how often held-out pairs are asked for where it is given.
        annotation_mode: How references are annotated.
    """

    training: TrainConfig
    encoder: PromptEncoderConfig
    distribution: DistributionConfig = field(default_factory=DistributionConfig)
    prompts: PromptTrainConfig = field(default_factory=PromptTrainConfig)
    batch_size: int
    epochs: float | None = None
    validate_epochs: float | None = None
    annotation_mode: Literal["published", "fixed"] = "fixed"

    def of_method(self, method: MethodName) -> PromptRecipe:
        """The same for another method: its encoder, its distribution, and one sample where all are equal."""
        if method in ("t", "gaussian"):
            family: Literal["student", "gaussian"] = "student" if method == "t" else "gaussian"
            return replace(self, distribution=replace(self.distribution, family=family))
        extra = 2 if method == "vrp+2" else 0
        return replace(
            self,
            encoder=replace(self.encoder, variational=False, extra_linear=extra),
            distribution=replace(self.distribution, family="none"),
            prompts=replace(self.prompts, samples=1),
        )


EMBEDDED = PromptRecipe(
    training=TrainConfig(
        steps=800,
        optimiser="muon",
        learning_rate=3e-3,
        warmup_steps=20,
        weight_decay=1e-4,
        ema_decay=0.98,
        log_every=50,
        save_every=200,
        validate_every=200,
    ),
    encoder=PromptEncoderConfig(
        channels=192, dim=128, prompts=16, dropout=0.0, feature_gain=10.0, likeness="minmax", to_grid="area"
    ),
    batch_size=8,
)
"""For the small SAM that comes with the package, and its features."""

PUBLISHED = PromptRecipe(
    training=TrainConfig(
        seed=321,
        learning_rate=1e-4,
        warmup_steps=0,
        weight_decay=1e-6,
        clip_norm=0.0,
        ema_decay=0.0,
    ),
    encoder=PromptEncoderConfig(),
    prompts=PromptTrainConfig(loss_side=512),
    batch_size=2,
    epochs=100,
    validate_epochs=1,
    annotation_mode="published",
)
"""That of the papers (ProSAM 5.1, and VRP-SAM's code where it says nothing). The code lets the rate
fall along one cosine, the paper restarts it after 15 epochs; one cosine is the default, because 100 epochs
end in the middle of a period. A share of the pictures is held out to choose the encoder by, which the code
does not do (``--held-share 0 --select novel``)."""

RECIPES: dict[RecipeName, PromptRecipe] = {"embedded": EMBEDDED, "published": PUBLISHED}
"""By name."""
