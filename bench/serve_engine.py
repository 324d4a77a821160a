"""How long a person waits for the engine of the web app.

    python bench/serve_engine.py --data DIR    # pictures of DIR/perseg, 1280 px; a minute
    python bench/serve_engine.py --smoke       # made-up pictures, one round

Prints medians and 95th percentiles, first of what a person waits for: a stroke until its mask, and until the
first target is matched with the new reference; then of the stages on their own. Pictures are encoded before.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from softmatch_jax._types import Labels
from softmatch_jax.imaging import read_image, read_mask, resize_image, resize_mask, write_image
from softmatch_jax.serve.engine.local import LocalEngine
from softmatch_jax.serve.engine.requests import Completion, Example, Examples, Matching, Picture
from softmatch_jax.serve.engine.service import embedded_service
from softmatch_jax.serve.project.documents import Scribble

SIDE = 1280


def photographs(data: Path, folder: Path) -> list[tuple[Picture, np.ndarray]]:
    """The objects of ``perseg``, each with its mask, their longer side 1280 px."""
    found = []
    for path in sorted(data.glob("perseg/*/*.jpg")):
        image, mask = read_image(path), read_mask(path.with_suffix(".png"))
        scale = SIDE / max(mask.shape)
        size = (round(mask.shape[0] * scale), round(mask.shape[1] * scale))
        found.append((_stored(resize_image(image, size), folder), resize_mask(mask, size)))
    if not found:
        raise SystemExit(f"{data}/perseg has no pictures; expected <object>/0N.jpg with 0N.png")
    return found


def drawn(folder: Path, count: int, side: int) -> list[tuple[Picture, np.ndarray]]:
    """Speckled discs on speckled grounds."""
    made = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:side, :side]
        mask = np.hypot(x - side * rng.uniform(0.4, 0.6), y - side * rng.uniform(0.4, 0.6)) < side / 5
        image = resize_image(rng.integers(40, 90, (60, 60, 3), np.uint8), (side, side))
        image[mask] = image[mask] // 2 + np.array([150, 40, 20], np.uint8)
        made.append((_stored(image, folder), mask))
    return made


def _stored(image: np.ndarray, folder: Path) -> Picture:
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    write_image(folder / f"{digest}.png", image)
    return Picture(digest, folder / f"{digest}.png")


def stroke(mask: np.ndarray, seed: int) -> Scribble:
    """A short stroke within an object."""
    rng = np.random.default_rng(seed)
    rows, columns = np.nonzero(mask)
    middle = np.array([np.median(columns), np.median(rows)]) + rng.uniform(-8, 8, 2)
    half = 0.08 * np.sqrt(mask.sum())
    points = ((middle[0] - half, middle[1]), (middle[0] + half, middle[1] + rng.uniform(-4, 4)))
    return Scribble(points=points, width=max(4.0, half / 3))


def examples(picture: Picture, labels: Labels) -> Examples:
    """One reference."""
    digest = hashlib.sha256(picture.digest.encode() + labels.tobytes()).hexdigest()
    return Examples(
        digest=digest, references=(Example(picture=picture, class_id="c1", labels=labels),), phrases={}
    )


def waits(engine: LocalEngine, pictures: list[tuple[Picture, np.ndarray]], rounds: int) -> None:
    """Strokes while all other targets are matched in the background."""
    times: dict[str, list[float]] = {}

    def took(name: str, call: Callable[[], object]) -> object:
        started = time.perf_counter()
        answer = call()
        times.setdefault(name, []).append(time.perf_counter() - started)
        return answer

    for number in range(rounds):
        (picture, mask), (target, _) = (
            pictures[number % len(pictures)],
            pictures[(number + 1) % len(pictures)],
        )
        request = Completion(picture=picture, prompts=(stroke(mask, number),))
        started = time.perf_counter()
        made = took("stroke to mask", lambda request=request: engine.submit_completion(request).result())
        shown = examples(picture, made.labels)
        question = Matching(picture=target, examples=shown, seed=0)
        took("mask to first target", lambda q=question: engine.submit_matching(q, priority=1).result())
        times.setdefault("stroke to first target", []).append(time.perf_counter() - started)
        took("a second target", lambda q=question: engine.submit_matching(q, priority=1).result())
        far = Scribble(points=((20, 20), (60, 24)), width=8, positive=True)
        better = Completion(picture=picture, prompts=(far,), base=made.labels)
        took("correction", lambda request=better: engine.submit_completion(request).result())
        queue = [
            engine.submit_matching(Matching(picture=other, examples=shown, seed=1)) for other, _ in pictures
        ]
        busy = Completion(picture=picture, prompts=(stroke(mask, number + 1000),))
        took("stroke to mask, busy", lambda request=busy: engine.submit_completion(request).result())
        for future in queue:
            future.cancel() or future.result()
    report(times)


def report(times: dict[str, list[float]]) -> None:
    """A table of what was measured."""
    print("| what | median | p95 |\n|---|---|---|")
    for name, values in times.items():
        print(f"| {name} | {1e3 * median(values):.0f} ms | {1e3 * float(np.quantile(values, 0.95)):.0f} ms |")


def stages(pictures: list[tuple[Picture, np.ndarray]], rounds: int) -> None:
    """The stages of one target, without queue and thread."""
    import jax

    service = embedded_service()
    (picture, mask), (target, _) = pictures[0], pictures[1]
    laps: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        labels = service.complete(Completion(picture=picture, prompts=(stroke(mask, number),))).labels
        started = time.perf_counter()
        joined = service._joined(examples(picture, labels))
        taken = {"join": time.perf_counter() - started}
        encoded = service._encoded(target)
        taken |= service.matcher.segment(encoded, joined, key=jax.random.key(0)).timings
        (answer,) = service.match([Matching(picture=target, examples=examples(picture, labels), seed=0)])
        taken["all of match"] = answer.seconds
        for name, value in taken.items() if number else ():
            laps.setdefault(name, []).append(value)
    report(laps)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of real pictures; made-up ones when left out")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--smoke", action="store_true", help="one round on small pictures")
    words = parser.parse_args()
    rounds, side, count = (1, 128, 2) if words.smoke else (words.rounds, SIDE, 20)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = photographs(words.data, folder) if words.data else drawn(folder, count, side)
        pictures = (pictures * 20)[:20] if words.data else pictures
        started = time.perf_counter()
        engine = LocalEngine(embedded_service)
        for future in [engine.submit_encode(picture) for picture, _ in pictures]:
            future.result()
        print(f"ready and {len(pictures)} pictures encoded after {time.perf_counter() - started:.1f} s\n")
        waits(engine, pictures, rounds)
        engine.close()
        print()
        stages(pictures, rounds)


if __name__ == "__main__":
    main()
