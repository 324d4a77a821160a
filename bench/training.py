"""Where the time of a training step goes: data, device, the rest.

    python bench/training.py [--data FOLDER] [--steps 60] [--sides 128 192]

Trains the tiny model by its recipe for some steps on the regions of BSDS500 and CamVid, which lie beside the
project (``../shared/data``) or where ``SOFTMATCH_DATA`` points. Times are those of the loop's own clock,
without compilation; waiting is what a step waits for its batch. In the end a run is stopped halfway and
resumed, and its parameters are compared with those of a run that was not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from softmatch_jax.data.region_sources import open_region_pictures
from softmatch_jax.training.loop import train
from softmatch_jax.training.region_batches import RegionBatches, RegionSource
from softmatch_jax.training.sam_recipe import TINY
from softmatch_jax.training.sam_task import SamTask
from softmatch_jax.training.task import Batch


class Stopping:
    """A source that fails at a step, once."""

    def __init__(self, source: RegionBatches, at: int) -> None:
        self.source, self.at, self.digest = source, at, source.digest

    def batch(self, seed: int, step: int) -> Batch:
        """The batch of a step, or the end."""
        if step == self.at:
            raise KeyboardInterrupt
        return self.source.batch(seed, step)


def sources(data: Path) -> list[RegionSource]:
    found = []
    for kind, name, weight in (("bsds500", "bsds500", 0.85), ("camvid", "camvid", 0.15)):
        pictures = open_region_pictures(kind, data / name, "train")
        found.append(RegionSource(name=f"{name} train", pictures=pictures, weight=weight))
    return found


def split_of_a_step(data: Path, side: int, steps: int) -> None:
    """Prints a row of the table."""
    batches = RegionBatches(sources(data), replace(TINY.batches, stages=((0, side, 4),)))
    config = replace(TINY.training, steps=steps, warmup_steps=min(200, steps), log_every=steps // 2)
    with tempfile.TemporaryDirectory() as folder:
        result = train(SamTask(TINY.sam), batches, config, Path(folder), quiet=True)
    last = result.history[-1]
    each = 4e3 / last["pictures_per_second"]
    shares = " | ".join(f"{last[name]:.1%}" for name in ("waiting", "stepping", "other"))
    compiling = sum(row["compiling"] for row in result.history)
    print(f"| {side} | {each:.0f} ms | {last['pictures_per_second']:.1f} | {shares} | {compiling:.0f} s |")


def resumed_equals_uninterrupted(data: Path, steps: int) -> bool:
    """Whether a run that was stopped and resumed ends with the same bits."""
    batches = RegionBatches(sources(data), replace(TINY.batches, stages=((0, 64, 2),)))
    half = steps // 2
    config = replace(TINY.training, steps=steps, warmup_steps=1, log_every=1, save_every=half)
    task = SamTask(TINY.sam)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        whole = train(task, batches, config, Path(first), quiet=True)
        with contextlib.suppress(KeyboardInterrupt):
            train(task, Stopping(batches, half + 1), config, Path(second), quiet=True)
        resumed = train(task, batches, config, Path(second), resume=True, quiet=True)
    pairs = zip(*(jax.tree.leaves((run.params, run.averaged)) for run in (whole, resumed)), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def main() -> None:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SOFTMATCH_DATA", beside)))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 192])
    options = parser.parse_args()
    started = time.perf_counter()
    print(f"{platform.machine()}, {os.cpu_count()} cores, {jax.default_backend()}, jax {jax.__version__}\n")
    print("| side | a step of 4 pictures | pictures/s | waiting | on the device | other | compiling |")
    print("|---|---|---|---|---|---|---|")
    for side in options.sides:
        split_of_a_step(options.data, side, options.steps)
    same = resumed_equals_uninterrupted(options.data, 6)
    print(f"\nresumed equals uninterrupted, bit for bit: {'yes' if same else 'NO'}")
    print(f"({time.perf_counter() - started:.0f} s in all)")


if __name__ == "__main__":
    main()
