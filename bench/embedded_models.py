"""Which of the models that come with the package do best on real pictures: what the default goes by.

    python bench/embedded_models.py [--data FOLDER] [--set NAME=FOLDER ...] [-o embedded-out] [--weights FILE]

Every combination of mask generator (GrabCut, the tiny SAM, both) and features (descriptor, tiny SAM's,
joined) over the same few episodes of every folder, with reference masks and with scribbles. Runs are as of
``softmatch evaluate``, so the command goes on where it was stopped. It prints a table of mIoU with its mean
over the folders and the paired difference to GrabCut on the descriptor, and seconds a target.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from real_folders import NO_BAR, gap, opened, run_left, table_of

from softmatch_jax import Softmatcher, SoftmatcherConfig
from softmatch_jax.data.annotating import Annotator
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.data.episodes import ClassLists
from softmatch_jax.evaluation.running import EvaluationProtocol
from softmatch_jax.pipelines.one_class import SoftmatcherOneClass

MASKS = ("grabcut", "tiny", "both")
FEATURES = ("descriptor", "joined", "tiny")
KINDS = ("mask", "scribble")
STRIDE = 8


@dataclass(frozen=True)
class Cell:
    """One combination."""

    kind: str
    features: str
    masks: str

    @property
    def name(self) -> str:
        """Of the cell's folder."""
        return f"{self.kind}-{self.features}-{self.masks}"


def run_cell(cell: Cell, lists: Mapping[str, ClassLists], args: argparse.Namespace) -> float:
    """Runs what is left of one cell; seconds for each of its episodes."""
    config = SoftmatcherConfig.embedded(cell.masks)
    config = replace(config, decision=replace(config.decision, min_resemblance=NO_BAR))
    matcher = Softmatcher.embedded(
        config, stride=STRIDE, masks=cell.masks, features=cell.features, weights=args.weights
    )
    method, seconds, count = SoftmatcherOneClass(matcher), 0.0, 0
    for name, of_set in lists.items():
        protocol = EvaluationProtocol(
            episodes=CorrectedEpisodes(of_set, 1), annotate=Annotator(kind=cell.kind, mode="fixed")
        )
        ran, took = run_left(args.output / cell.name / name, protocol, method, args.seeds, args.episodes)
        seconds, count = seconds + took, count + ran
    return seconds / max(count, 1)


def report(grid: list[Cell], names: list[str], output: Path) -> Iterator[str]:
    """The lines of the table."""
    yield "| annotation | features | masks | " + " | ".join(names) + " | mean | minus GrabCut | 95 % |"
    yield "|---|---|---|" + "---|" * (len(names) + 3)
    for cell in grid:
        base = replace(cell, features=FEATURES[0], masks=MASKS[0])
        tables = {name: table_of(output / cell.name / name) for name in names}
        values = [tables[name].metrics()["mean_iou"] for name in names]
        end = " | "
        if cell != base:
            end = gap({name: table_of(output / base.name / name) for name in names}, tables)
        columns = " | ".join(f"{value:.3f}" for value in values)
        where = f"{cell.kind} | {cell.features} | {cell.masks}"
        yield f"| {where} | {columns} | {np.mean(values):.3f} | {end} |"


def main() -> None:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SOFTMATCH_DATA", beside)))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=FOLDER", help="your own instead")
    parser.add_argument("-o", "--output", type=Path, default=Path("embedded-out"))
    parser.add_argument("--episodes", type=int, default=8, help="of each folder")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="that draw the episodes")
    parser.add_argument("--kinds", nargs="+", default=KINDS, help="of annotation")
    parser.add_argument("--features", nargs="+", default=FEATURES)
    parser.add_argument("--masks", nargs="+", default=MASKS)
    parser.add_argument("--weights", type=Path, help="of the tiny SAM; the shipped ones by default")
    args = parser.parse_args()
    lists = opened(args.data, args.set)
    pairs = [(FEATURES[0], MASKS[0]), *itertools.product(args.features, args.masks)]
    grid = [Cell(kind, *pair) for kind in args.kinds for pair in dict.fromkeys(pairs)]
    for cell in grid:
        print(f"{cell.name}: {run_cell(cell, lists, args):.2f} s a target", flush=True)
    lines = list(report(grid, list(lists), args.output))
    (args.output / "embedded.md").write_text("\n".join(lines) + "\n")
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
