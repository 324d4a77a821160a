"""What matters: method x temperature x shots x annotation, on folders of real pictures, in one figure.

    python bench/ablation.py [--data FOLDER] [--set NAME=FOLDER ...] [-o ablation-out] [--smoke]

Every cell is an evaluation of the embedded back-end over a few episodes of every folder, with the same
targets and references in all cells. Cells are runs as of ``softmatch evaluate``, so the command goes on where
it was stopped, and ``--shard i/n`` shares the cells among processes. It prints a table of the means over the
folders with paired differences to the defaults, and draws ``ablation.png``.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ablation_figure import draw
from real_folders import NO_BAR, gap, opened, run_left, table_of

from softmatch_jax import Softmatcher
from softmatch_jax.data.annotating import Annotator
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.evaluation.records import finished
from softmatch_jax.evaluation.running import EvaluationProtocol, choose_places
from softmatch_jax.pipelines import CacheConfig, FeatureCache, SoftmatcherConfig
from softmatch_jax.pipelines.one_class import SoftmatcherOneClass, with_method

METHODS = ("geometric", "arithmetic", "cumulant")
TEMPERATURES = (0.03, 0.1, 0.3)
SHOTS = (1, 2)
KINDS = ("mask", "scribble", "box", "point")
STRIDE = 8
MEMORY = 2 * 2**30  # bytes


@dataclass(frozen=True)
class Cell:
    """One combination.

    Attributes:
        method: Of matching.
        temperature: Of the softmax.
        shots: References for each target.
        kind: Of their annotation.
    """

    method: str
    temperature: float
    shots: int
    kind: str

    @property
    def name(self) -> str:
        """Of the cell's folder."""
        return f"{self.method}-{self.temperature:g}-{self.shots}-{self.kind}"


DEFAULT = Cell("geometric", 0.1, 1, "mask")


def cells(args: argparse.Namespace) -> list[Cell]:
    """The grid, the defaults first."""
    if args.smoke:
        grid = itertools.product(METHODS[:2], TEMPERATURES[1:2], SHOTS[:1], KINDS[:2])
    else:
        grid = itertools.product(args.methods, TEMPERATURES, SHOTS, args.kinds)
    return sorted({DEFAULT, *itertools.starmap(Cell, grid)}, key=lambda cell: (cell != DEFAULT, cell.name))


def is_done(cell: Cell, lists: dict, args: argparse.Namespace) -> bool:
    """Whether all episodes of a cell are recorded."""
    for name, of_set in lists.items():
        total = len(CorrectedEpisodes(of_set, cell.shots))
        places = choose_places(total, seeds=range(args.seeds), episodes=args.episodes)
        if not finished(args.output / cell.name / name).issuperset(places):
            return False
    return True


def run_cell(cell: Cell, lists: dict, matcher: Softmatcher, args) -> None:
    """Runs what is left of one cell."""
    config = with_method(matcher.config, cell.method)
    config = replace(config, matching=replace(config.matching, temperature=cell.temperature))
    method = SoftmatcherOneClass(replace(matcher, config=config))
    for name, of_set in lists.items():
        protocol = EvaluationProtocol(
            episodes=CorrectedEpisodes(of_set, cell.shots), annotate=Annotator(kind=cell.kind, mode="fixed")
        )
        run_left(args.output / cell.name / name, protocol, method, range(args.seeds), args.episodes)


def report(grid: Sequence[Cell], names: Sequence[str], output: Path) -> Iterator[str]:
    """The lines of the table: mIoU of each folder, their mean, and the difference to the defaults."""
    yield "| method | tau | shots | annotation | " + " | ".join(names) + " | mean | minus default | 95 % |"
    yield "|---|---|---|---|" + "---|" * (len(names) + 3)
    base = {name: table_of(output / DEFAULT.name / name) for name in names}
    for cell in grid:
        tables = {name: table_of(output / cell.name / name) for name in names}
        values = [tables[name].metrics()["mean_iou"] for name in names]
        interval = gap(base, tables) if cell != DEFAULT else " | "
        cols = " | ".join(f"{value:.3f}" for value in values)
        where = f"{cell.method} | {cell.temperature:g} | {cell.shots} | {cell.kind}"
        yield f"| {where} | {cols} | {np.mean(values):.3f} | {interval} |"


def main() -> None:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SOFTMATCH_DATA", beside)))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=FOLDER", help="your own instead")
    parser.add_argument("-o", "--output", type=Path, default=Path("ablation-out"))
    parser.add_argument("--episodes", type=int, default=8, help="of each folder and seed")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--kinds", nargs="+", default=KINDS, help="of annotation")
    parser.add_argument("--shard", default="1/1")
    parser.add_argument("--smoke", action="store_true", help="a corner of the grid, two episodes")
    args = parser.parse_args()
    if args.smoke:
        args.episodes = 2
    lists = opened(args.data, args.set)
    grid = cells(args)
    number, of = map(int, args.shard.split("/"))
    # Features are the same in all cells.
    cache = FeatureCache(CacheConfig(memory_bytes=MEMORY))
    config = SoftmatcherConfig()
    config = replace(config, decision=replace(config.decision, min_resemblance=NO_BAR))
    matcher = replace(Softmatcher.embedded(config, stride=STRIDE), cache=cache)
    for cell in grid[number - 1 :: of]:
        run_cell(cell, lists, matcher, args)
        print(f"{cell.name}: done", flush=True)
    # Cells of other calls in the same folder are reported, too; those with failed episodes do not compare.
    every = [Cell(*values) for values in itertools.product(METHODS, TEMPERATURES, SHOTS, KINDS)]
    grid = [cell for cell in every if is_done(cell, lists, args)]
    if DEFAULT not in grid:
        print("The cell of the defaults is not done yet; the shard that does it reports.")
        return
    lines = list(report(grid, list(lists), args.output))
    (args.output / "ablation.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    means = {cell: {name: table_of(args.output / cell.name / name) for name in lists} for cell in grid}
    draw(means, args.output / "ablation.png")


if __name__ == "__main__":
    main()
