"""Speed and memory of the embedded back-end.

    python bench/speed.py            # everything, a few minutes
    python bench/speed.py --smoke    # one small pass of each part

Prints medians; ratios are taken within the run. The pictures are synthetic textures, so that the script
needs no data; sizes are those of the PerSeg photographs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import jax
import numpy as np
import psutil
from scipy.optimize import linear_sum_assignment

from softmatch_jax import Softmatcher, matching
from softmatch_jax.imaging import resize_image, write_image


def picture(size: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A textured scene with a textured disc on it, and the disc."""
    rng = np.random.default_rng(seed)
    height, width = size
    scene = resize_image(rng.integers(0, 120, (60, 60, 3), np.uint8), size).astype(int)
    disc = resize_image(rng.integers(90, 250, (60, 60, 3), np.uint8), size).astype(int)
    y, x = np.mgrid[:height, :width]
    centre = rng.uniform(0.35, 0.65, 2) * size
    mask = np.hypot(y - centre[0], x - centre[1]) < 0.25 * min(size)
    scene[mask] = disc[mask] // 2 + np.array([120, 60, 10])
    return np.clip(scene, 0, 255).astype(np.uint8), mask


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Median wall time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return median(times)


def importing(repeats: int) -> None:
    """Import time of the package and of its main class, in fresh interpreters."""
    for line in ("import softmatch_jax", "from softmatch_jax import Softmatcher"):
        taken = seconds(lambda line=line: subprocess.run([sys.executable, "-c", line], check=True), repeats)
        bare = seconds(lambda: subprocess.run([sys.executable, "-c", ""], check=True), repeats)
        print(f"| {line} | {taken - bare:.2f} s |")


def segmenting(size: int, repeats: int) -> None:
    """Encoding a reference, and targets of one size after another."""
    matcher, key = Softmatcher.embedded(), jax.random.key(0)
    image, mask = picture((size, size), 0)
    taken = seconds(lambda: _reference(matcher, image, mask), 1)
    print(f"| first reference, {size}x{size}, compilation included | {taken:.2f} s |")
    print(f"| reference, mask | {seconds(lambda: _reference(matcher, image, mask), repeats):.2f} s |")
    reference = matcher.reference(image, mask)
    shapes = [(size, size), (size, size), (size * 3 // 4, size), (size, size // 2)]
    for number, shape in enumerate(shapes):
        target, _ = picture(shape, number + 1)
        first = number == 0
        taken = seconds(
            lambda target=target: matcher.segment(target, reference, key=key).labels, 1 if first else repeats
        )
        note = "first target, compilation included" if first else "target"
        print(f"| {note}, {shape[1]}x{shape[0]} | {taken:.2f} s |")
    target, _ = picture(shapes[0], 1)
    for step, taken in matcher.segment(target, reference, key=key).timings.items():
        print(f"| ... of which {step} | {taken:.3f} s |")


def _reference(matcher: Softmatcher, image: np.ndarray, mask: np.ndarray) -> object:
    return matcher.reference(image, mask).encoded.features.values


def kernels(patches: int, repeats: int) -> None:
    """Matching alone, 768 dimensions, a quarter of the reference masked: ratios to the exact collapse."""
    keys = jax.random.split(jax.random.key(0))
    reference = jax.random.normal(keys[0], (patches // 4, 768))
    target = jax.random.normal(keys[1], (patches, 768))
    calls = {
        "geometric_mean": jax.jit(lambda r, t: matching.geometric_mean(r, t, temperature=0.1)),
        "geometric_mean_dense": jax.jit(lambda r, t: matching.geometric_mean_dense(r, t, temperature=0.1)),
        "arithmetic_mean": jax.jit(lambda r, t: matching.arithmetic_mean(r, t, temperature=0.1)),
        "scipy linear_sum_assignment": lambda r, t: linear_sum_assignment(
            np.asarray(matching.unit_norm(r) @ matching.unit_norm(t).T), maximize=True
        ),
    }
    base = None
    for name, call in calls.items():
        jax.block_until_ready(call(reference, target))
        taken = seconds(lambda call=call: call(reference, target), repeats)
        base = base or taken
        print(f"| {name}, {patches // 4} x {patches} patches | {1e3 * taken:.2f} ms, {taken / base:.0f} x |")


def folder(size: int, count: int) -> None:
    """Wall time and peak resident memory of the command over a folder of pictures."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "targets").mkdir()
        image, mask = picture((size, size), 0)
        write_image(root / "a.png", image)
        write_image(root / "mask.png", np.repeat(mask[..., None] * np.uint8(255), 3, axis=2))
        for number in range(count):
            write_image(root / "targets" / f"{number:03d}.jpg", picture((size, size), number)[0])
        command = [
            sys.executable,
            "-m",
            "softmatch_jax",
            "segment",
            "--reference",
            "a.png",
            "--mask",
            "mask.png",
        ]
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, "targets", "-o", "out", "--quiet"], cwd=root, stdout=subprocess.DEVNULL
        )
        peak = _peak_memory(process)
        status = process.wait()
        taken = time.perf_counter() - start
        if status:
            raise SystemExit(f"softmatch segment ended with status {status}")
        print(f"| folder of {count} pictures of {size} px, each | {taken / count:.2f} s |")
        print(f"| ... peak resident memory | {peak / 1e9:.2f} GB |")


def _peak_memory(process: subprocess.Popen[bytes]) -> int:
    """Largest resident set seen until the process ends, in bytes."""
    watched, peak = psutil.Process(process.pid), 0
    pause = threading.Event()
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        pause.wait(0.02)
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true")
    smoke = parser.parse_args().smoke
    size, repeats = (320, 1) if smoke else (1280, 5)
    print("| what | median |\n|---|---|")
    importing(repeats)
    segmenting(size, repeats)
    kernels(256 if smoke else 1024, repeats)
    folder(size, 3 if smoke else 100)


if __name__ == "__main__":
    main()
