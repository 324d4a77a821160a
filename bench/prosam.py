"""Time and memory of training and using a prompt encoder on a frozen SAM.

    python bench/prosam.py                       # both sizes; many minutes on two cores
    python bench/prosam.py --sizes tiny
    python bench/prosam.py --sizes full --parts steps batches --repeats 20      # on a GPU
    python bench/prosam.py --smoke               # a small pass of steps and inference

``tiny`` is the shipped SAM at 128 pixels with the encoder of ``bench/prosam_claim.py``; ``full`` the decoder
of SAM at its published size, random weights, with 64 x 64 features of 1536 channels and 50 prompts of 256
numbers, two pairs to a batch. All that is frozen is drawn at random beforehand and lies on the device, as if
it were cached. Times are medians of contenders that run in turn, without compilation; ratios are medians over
rounds. Memory is measured in a process for each setting: what the compiler plans for intermediate results,
and by how much the resident set grows in a step (on an accelerator: the peak of what is in use).
The machine must be idle.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from decoder import turns
from flax import nnx

from softmatch_jax.models.proposals import Proposals
from softmatch_jax.models.prosam.config import PromptEncoderConfig
from softmatch_jax.models.prosam.frozen_sam import EncodedScene, FrozenSam, Scene
from softmatch_jax.models.prosam.predictor import PictureFeatures, Predictor
from softmatch_jax.models.prosam.weights import encoder_of, expected_shapes
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.model import Sam
from softmatch_jax.models.sam.tiny_generator import TinySam, TinySamConfig
from softmatch_jax.prompting import PatchGrid
from softmatch_jax.training.config import TrainConfig
from softmatch_jax.training.prompt_config import PromptTrainConfig
from softmatch_jax.training.prompt_task import PromptTask
from softmatch_jax.training.sharding import device_mesh, place
from softmatch_jax.training.step import make_step, start_state

PARTS = ("steps", "inference", "memory", "batches")
MEMORY: tuple[dict[str, Any], ...] = (
    {"samples": 1},
    {"samples": 10},
    {"samples": 10, "chunk": 5},
    {"samples": 10, "chunk": 2},
    {"samples": 10, "chunk": 1},
    {"samples": 10, "chunk": 2, "recompute": True},
)


@dataclass(frozen=True)
class Size:
    """Of a decoder, of the features and of a batch."""

    name: str
    encoder: PromptEncoderConfig
    grid: int
    pairs: int
    pixels: int


SIZES = {
    "tiny": Size("tiny", PromptEncoderConfig(channels=192, dim=128, prompts=16), 16, 8, 128),
    "full": Size("full", PromptEncoderConfig(), 64, 2, 1024),
    "smoke": Size("smoke", PromptEncoderConfig(channels=16, dim=128, prompts=4), 8, 2, 64),
}


class BareDecoder:
    """SAM's prompt encoder and decoder at the published size, random, with no image encoder."""

    name = "random SAM"

    def __init__(self) -> None:
        graph, blank = nnx.split(nnx.eval_shape(lambda: Sam(SamConfig.base(), rngs=nnx.Rngs(0))))
        rng = np.random.default_rng(0)

        def drawn(leaf: Any) -> Any:
            shape = leaf.shape
            return jnp.asarray(rng.normal(size=shape) / np.sqrt(max(1, np.prod(shape[:-1]))), jnp.float32)

        self._sam = nnx.merge(graph, jax.tree.map(drawn, blank))

    def parts(self) -> Any:
        """Both."""
        return self._sam.prompt_encoder, self._sam.mask_decoder


@dataclass(frozen=True)
class Nothing:
    """Stands in for a feature extractor that has done its work."""

    dim: int
    name: str = "random features"


def frozen_sam(size: Size) -> FrozenSam:
    """The SAM of a size."""
    if size.name == "full":
        return FrozenSam(BareDecoder())  # type: ignore[arg-type]
    return FrozenSam(TinySam.load(config=TinySamConfig(size=size.pixels)))


def frozen_batch(sam: FrozenSam, size: Size, pairs: int) -> dict[str, np.ndarray]:
    """What a batch holds, drawn at random."""
    rng, config, cells = np.random.default_rng(0), sam.generator.parts()[1].config, size.grid
    side, channels = config.embedding_size, size.encoder.channels
    normal = {
        "reference": (cells, cells, channels),
        "target": (cells, cells, channels),
        "scene_rows": (side**2, config.dim),
    }
    if size.name != "full":  # SAM has no finer features
        normal["scene_double"] = (2 * side, 2 * side, config.upscaled[0])
        normal["scene_fourfold"] = (4 * side, 4 * side, config.upscaled[1])
    batch = {name: rng.normal(size=(pairs, *shape)).astype(np.float32) for name, shape in normal.items()}
    y, x = np.mgrid[: sam.side, : sam.side] / sam.side
    disc = np.hypot(y - 0.5, x - 0.5) < 0.25
    for name in ("mask", "pseudo"):
        batch[name] = rng.random((pairs, cells, cells)).astype(np.float32)
    for name in ("reference_valid", "target_valid"):
        batch[name] = np.ones((pairs, cells, cells), bool)
    batch["truth"] = np.tile(disc.astype(np.float32), (pairs, 1, 1))
    batch["inside"] = np.ones_like(batch["truth"])
    return batch


def weights_of(config: PromptEncoderConfig) -> dict[str, np.ndarray]:
    """Random weights of an encoder."""
    rng, made = np.random.default_rng(1), {}
    for name, shape in expected_shapes(config).items():
        values = rng.normal(size=shape) / np.sqrt(shape[0] if name.endswith("kernel") else 1)
        made[name] = (0.1 * values if name.endswith("bias") else values).astype(np.float32)
    return made


class Stepping:
    """A training, one compiled step at a time on one batch."""

    def __init__(self, sam: FrozenSam, size: Size, pairs: int | None = None, **prompts: Any) -> None:
        quick = {"xla_backend_optimization_level": 0} if size.name == "smoke" else None
        config, mesh = TrainConfig(steps=1000, warmup_steps=0, learning_rate=1e-4), device_mesh(1)
        settings = PromptTrainConfig(**prompts)
        task = PromptTask(sam, size.encoder, config=settings, initial=weights_of(size.encoder))
        self._batch = place(frozen_batch(sam, size, pairs or size.pairs), mesh, 1)
        self._state = start_state(task, config, mesh)
        step: Any = make_step(task, config, mesh)
        self._step = step.lower(self._state, self._batch).compile(compiler_options=quick)
        self.planned = self._step.memory_analysis()

    def __call__(self) -> None:
        """One step, to its end."""
        self._state, outcome = self._step(self._state, self._batch)
        jax.block_until_ready(self._state)
        assert bool(outcome.finite)


def steps(size: Size, options: argparse.Namespace) -> None:
    """K = 10 against K = 1, and the ways to save memory."""
    sam = frozen_sam(size)
    settings: dict[str, dict[str, Any]] = {"K=1": {"samples": 1}, "K=10": {"samples": 10}}
    if not options.smoke:
        settings["K=10, chunk 2"] = {"samples": 10, "chunk": 2}
        settings["K=10, chunk 2, recompute"] = {"samples": 10, "chunk": 2, "recompute": True}
    calls = {name: Stepping(sam, size, **setting) for name, setting in settings.items()}
    times = rounds(calls, options)
    print(f"\nA step of {size.pairs} pairs, {size.name}\n\n| | median | of K=1 |\n|---|---|---|")
    for name in calls:
        print(f"| {name} | {times.median(name):.3f} s | {times.ratio(name, 'K=1'):.2f} |")
    print(f"\nbar: K=10 at most 5 times K=1; it is {times.ratio('K=10', 'K=1'):.2f}", flush=True)


def inference(size: Size, options: argparse.Namespace) -> None:
    """A target's mask from the mean prompt against VRP-SAM's prompt: encoder and decoder."""
    sam = frozen_sam(size)
    batch = frozen_batch(sam, size, 1)
    grid = PatchGrid(
        image_size=(size.pixels,) * 2,
        input_size=(size.pixels,) * 2,
        stride=size.pixels // size.grid,
        offset=size.pixels / size.grid / 2,
        shape=(size.grid,) * 2,
    )
    near, far = (
        PictureFeatures(jnp.asarray(batch[name][0]), batch[f"{name}_valid"][0], grid)
        for name in ("reference", "target")
    )
    scene = Scene(*(batch[n][0] if (n := f"scene_{name}") in batch else None for name in Scene._fields))
    encoded = EncodedScene(jax.tree.map(jnp.asarray, scene), Proposals.empty((sam.side, sam.side)))

    def contender(variational: bool) -> Any:
        config = replace(size.encoder, variational=variational)
        features: Any = Nothing(config.channels)
        predictor = Predictor(features, sam, encoder_of(config, weights_of(config)))
        reference = predictor.reference(near, np.ones(grid.image_size, bool))

        def call() -> None:
            prompts = predictor.prompts(reference, far)
            jax.block_until_ready(predictor.decode(encoded, prompts.mean[None]))

        return call

    calls = {"VRP-SAM": contender(False), "ProSAM": contender(True)}
    times = rounds(calls, options, factor=4)
    ratio = times.ratio("ProSAM", "VRP-SAM")
    print(f"\nA mask, {size.name}: " + ", ".join(f"{n} {1e3 * times.median(n):.1f} ms" for n in calls))
    print(f"bar: equal within 3 %; the ratio is {ratio:.3f}", flush=True)


def memory(size: Size, options: argparse.Namespace) -> None:
    """What a step takes, in a process of its own for each setting."""
    print(f"\nMemory of a step of {size.pairs} pairs, {size.name}\n\n| | planned | measured |\n|---|---|---|")
    for setting in MEMORY[-1:] if options.smoke else MEMORY:
        line = [sys.executable, __file__, "--sizes", size.name, "--one", json.dumps(setting)]
        told = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
        shown = ", ".join(f"{name} {value}" for name, value in setting.items())
        print(f"| {shown} | {told['planned']:.0f} MiB | {told['measured']:.0f} MiB |", flush=True)


def one(size: Size, setting: dict[str, Any]) -> None:
    """Prints the memory of a setting, MiB."""
    step = Stepping(frozen_sam(size), size, **setting)
    process, ended, seen = psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def watch() -> None:
        while not ended.wait(0.002):
            seen.append(process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(2):
        step()
    ended.set()
    watcher.join()
    stats = jax.devices()[0].memory_stats() or {}
    measured = stats.get("peak_bytes_in_use", max(seen))
    print(json.dumps({"planned": step.planned.temp_size_in_bytes / 2**20, "measured": measured / 2**20}))


def batches(size: Size, options: argparse.Namespace) -> None:
    """Throughput with K = 10 by the size of a batch."""
    sam = frozen_sam(size)
    print(f"\nK = 10, {size.name}\n\n| pairs | a step | pairs/s |\n|---|---|---|")
    for pairs in (1,) if options.smoke else options.batch_sizes:
        taken = rounds({"step": Stepping(sam, size, pairs, samples=10)}, options).median("step")
        bar = " (bar on a GPU: 0.10 s)" if (size.name, pairs) == ("full", 2) else ""
        print(f"| {pairs} | {taken:.3f} s{bar} | {pairs / taken:.1f} |", flush=True)


def rounds(calls: dict[str, Any], options: argparse.Namespace, factor: int = 1) -> Any:
    """Runs each once to warm up, then all in turn."""
    for call in calls.values():
        call()
    count = options.repeats * factor
    return turns(calls, budget=60, least=min(3, count), most=count)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["tiny", "full"])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--repeats", type=int, default=15, help="rounds of steps; four times as many of masks"
    )
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--smoke", action="store_true", help="a small size, one round")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(SIZES[options.sizes[0]], json.loads(options.one))
        return
    if options.smoke:
        options.sizes, options.repeats = ["smoke"], 1
        if options.parts == list(PARTS):
            options.parts = ["steps", "inference"]
    started = time.perf_counter()
    device = jax.devices()[0].device_kind
    print(f"{platform.machine()}, {os.cpu_count()} cores, {device}, jax {jax.__version__}")
    run = {"steps": steps, "inference": inference, "memory": memory, "batches": batches}
    for name in options.sizes:
        for part in options.parts:
            run[part](SIZES[name], options)
    print(f"\n({time.perf_counter() - started:.0f} s in all)")


if __name__ == "__main__":
    main()
