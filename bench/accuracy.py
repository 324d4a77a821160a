"""One-shot accuracy of a back-end on real photographs: the table later back-ends are compared on.

    python bench/accuracy.py [--data FOLDER] [--limit 20] [--features joined] [--masks tiny]

The data lie beside the project (``../shared/data``) or where ``SOFTMATCH_DATA`` points. One picture is
the reference, the next ones (at most ``--limit``) are targets; IoU is taken at original resolution and
averaged over targets. An object wrongly called absent counts as IoU 0. The last table shows what other bars
of resemblance would do, from the same answers.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import jax
import numpy as np
from real_folders import NO_BAR

from softmatch_jax import Reference, Softmatcher, SoftmatcherConfig, read_image, read_mask
from softmatch_jax.data import simulate_scribbles
from softmatch_jax.evaluation import intersection_over_union
from softmatch_jax.pipelines.embedded import EmbeddedFeatures, EmbeddedMasks

OBJECTS = ("cat", "duck_toy")
DEFECTS = ("blowhole", "break", "crack", "fray", "uneven")
SCRIBBLE_SEEDS = (0, 1, 2)
BARS = (0.0, 0.2, 0.3, 0.4, 0.45, 0.5, 0.6)


def load(stem: Path) -> tuple[np.ndarray, np.ndarray]:
    """Picture and mask; any grey level above zero is object (some masks hold several)."""
    return read_image(stem.with_suffix(".jpg")), read_mask(stem.with_suffix(".png"), threshold=1)


def stems(folder: Path, limit: int) -> list[Path]:
    """The reference and at most ``limit`` targets, in the order of their names."""
    return [path.with_suffix("") for path in sorted(folder.glob("*.jpg"))][: limit + 1]


Row = tuple[float, float, bool]
"""IoU of what was found, its resemblance, and whether nothing was found, whatever the bar."""


def score(matcher: Softmatcher, reference: Reference, targets: list[Path]) -> list[Row]:
    """The row of every target; a picture without a mask beside it does not show the object."""
    rows = []
    for stem in targets:
        image, truth = read_image(stem.with_suffix(".jpg")), stem.with_suffix(".png")
        found = matcher.segment(image, reference, key=jax.random.key(0)).classes[0]
        known = read_mask(truth, threshold=1) if truth.exists() else np.zeros_like(found.mask)
        overlap = intersection_over_union(found.mask, known)
        rows.append((overlap, found.resemblance, found.absent))
    return rows


def sets(matcher: Softmatcher, data: Path, limit: int) -> Iterator[tuple[str, Reference, list[Path]]]:
    """Name, reference and targets of every measurement."""
    for name in OBJECTS:
        reference, *targets = stems(data / "perseg" / name, 2)
        yield "PerSeg, mask", matcher.reference(*load(reference)), targets
    for seed in SCRIBBLE_SEEDS:
        for name in OBJECTS:
            reference, *targets = stems(data / "perseg" / name, 2)
            image, mask = load(reference)
            scribbles = simulate_scribbles(mask, count=3, key=jax.random.key(seed))
            yield "PerSeg, 3 scribbles", matcher.reference(image, scribbles), targets
    for name in DEFECTS:
        reference, *targets = stems(data / "mt_defects" / name, limit)
        yield f"magnetic tiles, {name}", matcher.reference(*load(reference)), targets
    reference, *targets = stems(data / "crackforest", limit)
    yield "CrackForest", matcher.reference(*load(reference)), targets


def absence(matcher: Softmatcher, data: Path) -> Iterator[tuple[str, list[Row]]]:
    """Rows for targets that do not show the object: the other one, and strangers from BSDS500."""
    strangers = stems(data / "bsds500" / "val", 1000)[::5]
    for name, other in (OBJECTS, OBJECTS[::-1]):
        image, mask = load(data / "perseg" / name / "00")
        scribbles = simulate_scribbles(mask, count=3, key=jax.random.key(0))
        for annotation in (mask, scribbles):
            reference = matcher.reference(image, annotation)
            yield "other object", score(matcher, reference, stems(data / "perseg" / other, 2))
        reference = matcher.reference(image, mask)
        yield "BSDS500, every fifth", score(matcher, reference, strangers)


def spread(values: np.ndarray) -> str:
    """Lowest, median and highest."""
    return " / ".join(f"{v:.2f}" for v in np.quantile(values, [0, 0.5, 1]))


def judged(rows: list[Row], bar: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """IoU, resemblance and absence under a bar of resemblance."""
    ious, alike, nothing = np.array(rows, float).T
    absent = (nothing > 0) | (alike < bar)
    return np.where(absent, 0, ious), alike, absent


def compare_bars(table: dict[str, list[Row]], strangers: dict[str, list[Row]]) -> None:
    """Prints what each bar finds of objects that are there, and lets through of those that are not."""
    columns = [*table, *(f"absent: {name}" for name in strangers)]
    print(f"\n| bar | {' | '.join(columns)} |")
    print("|---|" + "---|" * len(columns))
    for bar in BARS:
        found = [f"{judged(rows, bar)[0].mean():.3f}" for rows in table.values()]
        right = [f"{judged(rows, bar)[2].sum()} of {len(rows)}" for rows in strangers.values()]
        print(f"| {bar:g} | {' | '.join(found + right)} |")


def main() -> None:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SOFTMATCH_DATA", beside)))
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--masks", choices=get_args(EmbeddedMasks), default="grabcut")
    parser.add_argument("--features", choices=get_args(EmbeddedFeatures), default="descriptor")
    options = parser.parse_args()
    config = SoftmatcherConfig.embedded(options.masks)
    bar = config.decision.min_resemblance
    # Nothing is called absent for its resemblance, so that all bars can be looked at.
    config = replace(config, decision=replace(config.decision, min_resemblance=NO_BAR))
    matcher = Softmatcher.embedded(config, masks=options.masks, features=options.features)
    table: dict[str, list[Row]] = {}
    start = time.perf_counter()
    for name, reference, targets in sets(matcher, options.data, options.limit):
        table.setdefault(name, []).extend(score(matcher, reference, targets))
    print("| set | targets | mean IoU | lowest | resemblance | called absent |\n|---|---|---|---|---|---|")
    for name, rows in table.items():
        ious, alike, absent = judged(rows, bar)
        overlap = f"{ious.mean():.3f} | {ious.min():.3f}"
        print(f"| {name} | {len(rows)} | {overlap} | {spread(alike)} | {absent.sum()} |")
    strangers: dict[str, list[Row]] = {}
    for name, rows in absence(matcher, options.data):
        strangers.setdefault(name, []).extend(rows)
    print("\n| object not in the target | pairs | resemblance | called absent |\n|---|---|---|---|")
    for name, rows in strangers.items():
        _, alike, absent = judged(rows, bar)
        print(f"| {name} | {len(rows)} | {spread(alike)} | {absent.sum()} |")
    compare_bars(table, strangers)
    print(f"{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
