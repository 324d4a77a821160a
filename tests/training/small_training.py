"""A small network that learns a noisy function, for tests of the loop; also a program to interrupt."""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softmatch_jax.training.config import TrainConfig
from softmatch_jax.training.loop import TrainResult, train


@dataclass
class Regression:
    """Has a buffer that is not trained, and noise that depends on the key."""

    name: str = "regression"
    hidden: int = 8
    settings: dict[str, Any] = field(default_factory=lambda: {"noise": 0.1})

    def init(self, key):
        first, second = jax.random.split(key)
        return {
            "scale": jnp.arange(1, 4, dtype=jnp.int32),
            "first": {"kernel": jax.random.normal(first, (3, self.hidden)), "bias": jnp.zeros(self.hidden)},
            "second": [jax.random.normal(second, (self.hidden, 1)), jnp.zeros(1)],
        }

    def trainable(self, params):
        return {**jax.tree.map(lambda _: True, params), "scale": False}

    def loss(self, params, batch, key):
        x = batch["x"] / params["scale"].astype(jnp.float32)
        x = x + self.settings["noise"] * jax.random.normal(key, (x.shape[-1],))
        hidden = jnp.tanh(x @ params["first"]["kernel"] + params["first"]["bias"])
        out = hidden @ params["second"][0] + params["second"][1]
        error = jnp.mean((out[..., 0] - batch["y"]) ** 2)
        return error, {"size": jnp.mean(jnp.abs(out)), "drawn": jax.random.uniform(key)}


@dataclass
class Waves:
    """Points on a wave; from step ``wide_from`` on each picture has more of them."""

    digest: str = "waves"
    count: int = 8
    wide_from: int = 10**9
    fails_at: int | None = None
    bad: frozenset[int] = frozenset()
    pause: float = 0.0

    def batch(self, seed, step):
        if step == self.fails_at:
            raise RuntimeError("the data broke")
        time.sleep(self.pause)
        rng = np.random.default_rng([seed, step])
        x = rng.normal(size=(self.count, 6 if step >= self.wide_from else 4, 3)).astype(np.float32)
        y = np.sin(x.sum(axis=-1))
        if step in self.bad:
            y[0] = np.nan
        return {"x": x, "y": y}


def config(**changes) -> TrainConfig:
    return TrainConfig(**{"steps": 20, "warmup_steps": 3, "log_every": 4, "save_every": 5, **changes})


def fingerprint(result: TrainResult) -> str:
    """Of everything that is learned, bit for bit."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((result.params, result.averaged)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


TIMES = ("seconds", "pictures_per_second", "waiting", "stepping", "other", "compiling")


def numbers(result: TrainResult) -> list[dict[str, float]]:
    """The lines of metrics without the times."""
    return [{name: value for name, value in line.items() if name not in TIMES} for line in result.history]


if __name__ == "__main__":
    # folder, seconds a batch, resume or not
    outcome = train(
        Regression(),
        Waves(pause=float(sys.argv[2]), wide_from=8, bad=frozenset({1, 8, 9, 13})),
        config(ahead=1),
        Path(sys.argv[1]),
        resume=sys.argv[3] == "resume",
        stream=sys.stdout,
    )
    print("fingerprint", fingerprint(outcome), outcome.step, outcome.stopped)
