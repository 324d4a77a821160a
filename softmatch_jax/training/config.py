"""The settings of a training; the command line is generated from this class. Kept free of JAX."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from softmatch_jax._checks import InputError, check_positive

FREE = frozenset(
    {"log_every", "save_every", "validate_every", "keep", "devices", "workers", "ahead", "max_skipped"}
    | {"max_minutes"}
)
"""Settings that a resumed training may change: they do not decide what is learned."""

_LATER = {"restart_every": 0}
"""Settings that trainings of earlier versions do not name, with the value that stands for what those did."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the parameters are optimised, and what is kept on the way.

    Attributes:
        steps: Number of steps; the learning rate comes down over them.
        seed: Seed of the parameters, the batches and all other randomness.
        optimiser: adamw; or muon, which gets further in a step that takes longer.
        learning_rate: The highest rate.
        final_rate: The rate that the last step comes down to, as a share of the highest.
        warmup_steps: Steps over which the rate rises from nothing; then it falls along a cosine.
        restart_every: Steps after the warm-up from one restart of the rate at its highest to the next, each
            along a cosine of its own; 0, or as many as there are, for one cosine.
        weight_decay: Decay of weights with two axes or more, times the rate.
        beta1: Memory of the gradient's mean, in [0, 1).
        beta2: Memory of the gradient's square, in [0, 1).
        clip_norm: Gradients with a larger norm are scaled down to it; 0 turns it off.
        ema_decay: Memory of the averaged parameters, in [0, 1); it grows up to this in the first steps.
        accumulate: Parts that a batch is cut into, to need less memory; the gradient is their mean.
        devices: Devices that share a batch.
        log_every: Steps between two lines of metrics.
        save_every: Steps between two checkpoints.
        validate_every: Steps between two measurements on held-out data, where there are any.
        keep: Number of checkpoints kept, the newest.
        workers: Threads that make batches.
        ahead: Batches made ahead of need.
        max_skipped: Stop after this many steps in a row whose loss or gradient was not finite.
        max_minutes: Stop after this time with a checkpoint, to be resumed later.
    """

    steps: int = 10_000
    seed: int = 0
    optimiser: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-3
    final_rate: float = 0.0
    warmup_steps: int = 200
    restart_every: int = 0
    weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.999
    clip_norm: float = 1.0
    ema_decay: float = 0.995
    accumulate: int = 1
    devices: int = 1
    log_every: int = 50
    save_every: int = 500
    validate_every: int = 2000
    keep: int = 3
    workers: int = 1
    ahead: int = 4
    max_skipped: int = 10
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        counts = ("steps", "accumulate", "devices", "log_every", "save_every", "keep", "workers", "ahead")
        for name in (*counts, "validate_every", "max_skipped"):
            if getattr(self, name) < 1:
                raise InputError(f"training.{name} is {getattr(self, name)}; expected 1 or more.")
        if self.optimiser not in ("adamw", "muon"):
            raise InputError(f"training.optimiser is {self.optimiser!r}; expected 'adamw' or 'muon'.")
        check_positive("training.learning_rate", self.learning_rate)
        for name in ("warmup_steps", "restart_every", "weight_decay", "clip_norm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"training.{name} is {getattr(self, name)}; expected 0 or more.")
        for name in ("beta1", "beta2", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"training.{name} is {getattr(self, name)}; expected a number in [0, 1).")
        if not 0 <= self.final_rate <= 1:
            raise InputError(f"training.final_rate is {self.final_rate}; expected a share in [0, 1].")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"training.seed is {self.seed}; expected 0 or more, below 2**32.")
        if self.max_minutes is not None:
            check_positive("training.max_minutes", self.max_minutes)

    def learned_with(self) -> dict[str, Any]:
        """The settings that a checkpoint must share; later ones only where they are in use."""
        return {
            name: value
            for name, value in vars(self).items()
            if name not in FREE and not (name in _LATER and value == _LATER[name])
        }
