"""Time, error and memory of the SAM mask decoder for many prompts on one image, against torch.

    python bench/decoder.py                  # about five minutes on two cores
    python bench/decoder.py --smoke          # a small decoder, one round
    python bench/decoder.py --device gpu     # both on the accelerator, float32

The peer is transformers' ``SamModel`` behind its image encoder. Both sides have the same weights (random,
with biases, gains and positions as training leaves them), the same image embedding and the same prompts,
whose encoding is timed too. torch decodes all prompts in one call, or some at a time: as many as make it
fastest. Ours prepares the image in every call, unless the column says otherwise. Contenders run in turn, once
in each round; ratios are medians over rounds.

The machine must be idle: the threads of torch wait for each other after every operation, and another
program that takes one core slows it far more than by half. This file imports neither JAX nor torch: the
device is chosen first.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from decoder_peers import Call, Prompts, Torch

PACKAGES = ("jax", "jaxlib", "flax", "torch", "transformers")
CHUNKS = (1, 2, 4, 8, 16)
SEARCHED = 32  # prompts on which the best chunk is found, at most


@dataclass
class Times:
    """Seconds of every contender, one entry for each round, and what the first round gave."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Of a contender."""
        return median(self.seconds[name])

    def ratio(self, slow: str, fast: str) -> float:
        """Median over rounds of how many times faster."""
        return median(a / b for a, b in zip(self.seconds[slow], self.seconds[fast], strict=True))


def turns(calls: dict[str, Call], *, budget: float, least: int, most: int = 15) -> Times:
    """Runs all in turn, between ``least`` and ``most`` rounds; past ``budget`` seconds none is begun."""
    times, start = Times({name: [] for name in calls}), time.perf_counter()
    for number in range(most):
        if number >= least and time.perf_counter() - start > budget:
            break
        for name, call in calls.items():
            time.sleep(0.02)  # the threads of the one before are still waiting for work, and burn a core
            begun = time.perf_counter()
            result = call()
            times.seconds[name].append(time.perf_counter() - begun)
            times.results.setdefault(name, result)
    return times


def difference(torch_logits: list[Any], ours: Any) -> float:
    """Largest difference of logits over their range."""
    theirs = np.concatenate([part.cpu().numpy()[0] for part in torch_logits])
    return float(np.abs(theirs - np.asarray(ours)).max() / np.ptp(theirs))


def best_chunk(peer: Torch, prompts: Prompts) -> int:
    """The number of prompts at a time with which torch is fastest."""
    fewer = prompts.first(SEARCHED)
    sizes = [size for size in CHUNKS if size <= prompts.count]
    taken = turns({str(size): peer.call(fewer, size) for size in sizes}, budget=0, least=1)
    return min(sizes, key=lambda size: taken.median(str(size)))


class Bench:
    """One model, one image, and the tables."""

    def __init__(self, options: argparse.Namespace) -> None:
        import decoder_peers

        self.options, self.peers = options, decoder_peers
        model = decoder_peers.reference(options.smoke, options.device)
        decoder, prompts = model.config.mask_decoder_config, model.config.prompt_encoder_config
        self.dim, self.side, pixels = decoder.hidden_size, prompts.image_embedding_size, prompts.image_size
        self.rng, self.pixels = np.random.default_rng(0), pixels
        shape = (self.dim, self.side, self.side)
        embedding = self.rng.normal(size=shape).astype(np.float32)
        self.torch = decoder_peers.Torch(model, embedding)
        self.ours = decoder_peers.Ours(model, embedding)

    def points(self, count: int, bars: tuple[float | None, float | None] = (None, None)) -> Prompts:
        """Prompts of one point each, anywhere."""
        xy = self.rng.uniform(0, self.pixels, (count, 1, 2)).astype(np.float32)
        return self.peers.Prompts(name=f"{count} point{'s' * (count > 1)}, 3 masks", points=xy, bars=bars)

    def times(self) -> None:
        """The table of times."""
        tokens = self.rng.normal(size=(1, 50, self.dim)).astype(np.float32)
        embeddings = self.peers.Prompts(name="50 embeddings, 1 mask", tokens=tokens, bars=(1.5, 1.5))
        bars = {16: (3, 2), 64: (4, 2.5), 128: (4, 2.5)}
        counts = (1, 4) if self.options.smoke else (1, 16, 64, 128)
        print(
            "| prompts | torch, one batch | torch, best chunks | ours | image prepared | ours a prompt ",
            end="",
        )
        print("| prompts/s: torch, ours | ours to batch | ours to chunks | difference | rounds |")
        print("|---" * 11 + "|", flush=True)
        for prompts in (*(self.points(count, bars.get(count, (None, None))) for count in counts), embeddings):
            self.row(prompts)

    def row(self, prompts: Prompts) -> None:
        """One row of it."""
        chunk, count = best_chunk(self.torch, prompts), prompts.count
        chunks = "batch" if chunk == count else "chunks"
        calls = {
            "batch": self.torch.call(prompts, count),
            chunks: self.torch.call(prompts, chunk),
            "ours": self.ours.call(prompts),
            "prepared": self.ours.call(prompts, prepared=True),
        }
        turns({name: calls[name] for name in ("ours", "prepared")}, budget=0, least=1)  # compiles
        least, most = (1, 1) if self.options.smoke else (3, 15)
        times = turns(calls, budget=25, least=least, most=most)
        ms = {name: 1e3 * times.median(name) for name in calls}
        faster = [times.ratio(name, "ours") for name in ("batch", chunks)]
        told = [
            f"{f:.2f} x" + (f" (bar {b})" if b and not self.options.smoke else "")
            for f, b in zip(faster, prompts.bars, strict=True)
        ]
        off = max(difference(times.results["batch"], times.results[name]) for name in ("ours", "prepared"))
        cells = [
            prompts.name,
            f"{ms['batch']:.0f} ms",
            f"{ms[chunks]:.0f} ms, by {chunk}",
            f"{ms['ours']:.1f} ms",
            f"{ms['prepared']:.1f} ms",
            f"{ms['ours'] / count:.1f} ms",
            f"{1e3 * count / min(ms['batch'], ms[chunks]):.1f}, {1e3 * count / ms['ours']:.1f}",
            *told,
            f"{off:.1e}",
            str(len(times.seconds["ours"])),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)

    def peak(self, which: str, count: int) -> int | None:
        """Growth of the process by one call of a contender."""
        prompts = self.points(count)
        return self.peers.growth(
            self.ours.call(prompts) if which == "ours" else self.torch.call(prompts, count)
        )

    def memory(self) -> None:
        """XLA's temporaries, and growth of fresh processes."""
        smoke = self.options.smoke
        counts = (1, 4) if smoke else (16, 64)
        temporaries = ", ".join(f"{self.ours.temporaries(n) / 1e6:.1f} MB at {n}" for n in counts)
        print(f"\nXLA temporaries of ours, points: {temporaries} (bar 100 MB).")
        if self.options.device == "gpu":
            return
        for which in ("torch", "ours"):
            command = [sys.executable, __file__, "--peak", which, "--count", str(counts[-1])]
            taken = self.peak(which, counts[-1]) if smoke else None
            if not smoke:
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                said = done.stdout.split()[-1]
                taken = None if said == "None" else int(said)
            told = "not measured here" if taken is None else f"{taken / 1e6:.0f} MB"
            name = {"torch": "torch, one batch", "ours": "ours"}[which]
            print(f"Peak above what was there, {counts[-1]} points, outputs included, {name}: {told}.")


def machine() -> str:
    """Where and with what this runs."""
    import jax
    import torch

    model, file = platform.machine(), Path("/proc/cpuinfo")
    if file.exists():
        names = [line.partition(":")[2] for line in file.read_text().splitlines() if "model name" in line]
        model = names[0].strip() if names else model
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    load = f"load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads of torch, {load}"
    return (
        f"{model}, {threads}; {jax.devices()[0].device_kind}; Python {platform.python_version()}, {versions}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a small decoder, few prompts, one round")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--peak", choices=("torch", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=64, help=argparse.SUPPRESS)
    options = parser.parse_args()
    # Before JAX is imported.
    os.environ["JAX_PLATFORMS"] = {"cpu": "cpu", "gpu": "cuda"}[options.device]
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if options.peak:
        return print(Bench(options).peak(options.peak, options.count))
    said = machine()
    bench = Bench(options)
    print(said, end="\n\n", flush=True)
    bench.times()
    bench.memory()


if __name__ == "__main__":
    main()
