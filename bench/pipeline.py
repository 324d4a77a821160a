"""Where the time of the foundation pipeline goes, stage by stage: first and repeated prompts.

    python bench/pipeline.py                                   # random weights of the published sizes
    python bench/pipeline.py --features DIR --masks DIR        # or the real ones
    python bench/pipeline.py --smoke                           # tiny models, one pass

Without weights, models of the published sizes are made with random ones and saved in the original format,
so that the real loading code runs; times do not depend on what the weights have learnt, but for how many
proposals survive, and SAM's head for predicted IoU is set so that they do. A repeated prompt is a new
scribble on a picture whose features are cached: scribble to reference mask, match, sample, decode, merge.
Medians, and the worst.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median

import jax
import numpy as np
import torch
import transformers

from softmatch_jax import Polyline, Scribbles, Segmentation, Softmatcher, SoftmatcherConfig
from softmatch_jax.imaging import resize_image
from softmatch_jax.pipelines import CacheConfig, FeatureCache, ModelsConfig

KEY = jax.random.key(0)
STAGES = ("references", "match", "sample", "decode", "merge", "verify", "assemble")
WARM = 6
"""Scribbles after the first that are not counted: each may bring prompts of a new padded length."""

PACKAGES = ("jax", "flax", "torch", "transformers")


def random_features(folder: Path, *, tiny: bool) -> str:
    """A DINOv2-B with random weights, or a tiny one."""
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 112}
    config = transformers.Dinov2Config(**(sizes if tiny else {"image_size": 518}), patch_size=14)
    transformers.Dinov2Model(config).save_pretrained(folder)
    return str(folder)


def random_masks(folder: Path, *, tiny: bool) -> str:
    """A SAM ViT-B with random weights, or a tiny one, whose masks are predicted to be good."""
    vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 256}
    vision["global_attn_indexes"] = [1]
    prompts = {"image_size": 256, "image_embedding_size": 16} if tiny else {}
    config = transformers.SamConfig(
        vision_config=transformers.SamVisionConfig(**(vision if tiny else {})),
        prompt_encoder_config=transformers.SamPromptEncoderConfig(**prompts),
    )
    model = transformers.SamModel(config).requires_grad_(False)
    model.prompt_encoder.shared_embedding.positional_embedding.normal_()
    matrix = model.prompt_encoder.shared_embedding.positional_embedding
    model.shared_image_embedding.positional_embedding.copy_(matrix)
    head = model.mask_decoder.iou_prediction_head.proj_out
    head.weight.mul_(0.01)
    head.bias.fill_(0.9)
    for network in model.mask_decoder.output_hypernetworks_mlps:
        network.proj_out.weight.mul_(1e3)  # logits of some tens, so that masks are stable
    model.save_pretrained(folder)
    return str(folder)


def picture(size: tuple[int, int], seed: int) -> np.ndarray:
    """A textured scene with a textured disc in its middle."""
    rng = np.random.default_rng(seed)
    scene = resize_image(rng.integers(0, 120, (60, 60, 3), np.uint8), size).astype(int)
    y, x = np.mgrid[: size[0], : size[1]]
    disc = np.hypot(y - size[0] / 2, x - size[1] / 2) < 0.25 * min(size)
    scene[disc] += np.array([120, 60, 10])
    return np.clip(scene, 0, 255).astype(np.uint8)


def scribbles(size: tuple[int, int], number: int) -> Scribbles:
    """Two strokes on the disc and one beside it, somewhere else for every number."""
    height, width = size
    rng = np.random.default_rng(number)
    middle = np.array([width, height]) / 2
    strokes = []
    for _ in range(2):
        points = middle + rng.uniform(-0.15, 0.15, (3, 2)) * min(size)
        strokes.append(Polyline(tuple(map(tuple, points)), 12))
    beside = rng.uniform(0.02, 0.2, (3, 2)) * np.array([width, height])
    return Scribbles((*strokes, Polyline(tuple(map(tuple, beside)), 12, False)))


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def row(name: str, *seconds: float) -> None:
    """Prints a line of the table, in milliseconds."""
    print(f"| {name} | " + " | ".join(f"{1e3 * value:,.1f}" for value in seconds) + " |", flush=True)


def encoding(matcher: Softmatcher, size: tuple[int, int], folder: Path, repeats: int) -> None:
    """Encoders and cache, each for the first time and again."""
    images = [picture(size, seed) for seed in range(100, 101 + repeats)]
    print("\n| encode one picture, ms | first | repeated |\n|---|---|---|")
    for name, call in (
        ("DINOv2", lambda image: matcher.features(image[None]).values),
        ("SAM", _rows(matcher)),
    ):
        times = [timed(lambda image=image, call=call: call(image)) for image in images]
        row(name, times[0], median(times[1:]))
    kept = replace(matcher, cache=FeatureCache(CacheConfig(folder=folder)))
    kept.encode(images[0])
    row("both, from memory", *[timed(lambda: kept.encode(images[0]).features.values) for _ in range(2)])
    times = []
    for _ in range(1 + repeats):
        fresh = replace(matcher, cache=FeatureCache(CacheConfig(folder=folder)))
        times.append(timed(lambda fresh=fresh: fresh.encode(images[0]).features.values))
    row("both, from disk", times[0], median(times[1:]))


def _rows(matcher: Softmatcher) -> Callable[[np.ndarray], object]:
    return lambda image: matcher.masks.encode(image).rows


def prompting(name: str, matcher: Softmatcher, size: tuple[int, int], repeats: int) -> None:
    """From a new scribble to the target's new mask, features cached."""
    source, target = (matcher.encode(picture(size, seed)) for seed in (0, 1))

    def once(number: int) -> tuple[float, float, Segmentation]:
        start = time.perf_counter()
        reference = matcher.reference(source, scribbles(size, number), class_name="disc")
        grown = time.perf_counter() - start
        found = matcher.segment(target, reference, key=KEY)
        return time.perf_counter() - start, grown, found

    runs = [once(number) for number in range(1 + WARM + repeats)]
    later = runs[1 + WARM :]
    print(f"\n| {name}: from scribble to mask, ms | first, compiling | repeated | worst |\n|---|---|---|---|")
    _stage("scribble to reference mask", [run[1] for run in [runs[0], *later]])
    for stage in STAGES:
        _stage(stage, [found.timings[stage] for _, _, found in [runs[0], *later]])
    _stage("matching: references + match", [_matching(found) for _, _, found in [runs[0], *later]])
    _stage("all", [run[0] for run in [runs[0], *later]])
    _, _, found = later[-1]
    entry = found.classes[0]
    print(
        f"\n{len(set(entry.proposals.prompts.tolist()))} prompts of {len(entry.points)} points, "
        f"{len(entry.proposals)} proposals, {len(entry.kept)} kept, {len(entry.instances)} instances."
    )


def _stage(name: str, times: Sequence[float]) -> None:
    row(name, times[0], median(times[1:]), max(times[1:]))


def _matching(found: Segmentation) -> float:
    return found.timings["references"] + found.timings["match"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--features", help="DINOv2: a folder or hub id; random weights when left out")
    parser.add_argument("--masks", help="SAM: a folder, hub id or .pth file; random weights when left out")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    tiny, repeats = options.smoke, 1 if options.smoke else options.repeats
    size = (240, 320) if tiny else (960, 1280)
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    numbers = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"{platform.machine()}, {os.cpu_count()} cores, JAX on {jax.default_backend()}, {numbers}")
    print(f"pictures of {size[1]}x{size[0]}, {repeats} repeats")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        models = ModelsConfig(
            features=options.features or random_features(root / "features", tiny=tiny),
            masks=options.masks or random_masks(root / "masks", tiny=tiny),
            size=112 if tiny else 518,
            device=options.device,
        )
        start = time.perf_counter()
        matcher = Softmatcher.foundation(models)
        print(f"models loaded in {time.perf_counter() - start:.1f} s")
        encoding(matcher, size, root / "cache", min(repeats, 3))
        for name, settings in (
            ("clusters", SoftmatcherConfig.foundation()),
            ("graph", SoftmatcherConfig.graph()),
        ):
            decision = replace(settings.decision, min_purity=0.0, min_resemblance=-1e9)
            prompting(name, replace(matcher, config=replace(settings, decision=decision)), size, repeats)


if __name__ == "__main__":
    main()
