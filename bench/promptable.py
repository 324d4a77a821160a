"""How well a mask generator finds held-out regions and whole objects from one box or one point.

    python bench/promptable.py --generator tiny [--weights FILE]
    python bench/promptable.py --generator sam:CHECKPOINT      # a hub id, a folder or a .pth file
    python bench/promptable.py --generator grabcut --limit 20  # some of the pictures of BSDS500
    python bench/promptable.py --generator tiny --output new.json --against old.json

Regions: those of the first person in every picture of BSDS500 val that cover 1 to 60 % of it; up to four a
picture are drawn with the seed. Objects: PerSeg and one class of FSS-1000. A prompt is the tight box, the
point deepest inside, or a pixel drawn at random. IoU is taken at the size of the picture and averaged over
regions, its interval is over pictures. Beside it: the filled box, the ellipse in it, OpenCV's GrabCut from
the box, plain and as the embedded mask generator, and how well other people agree with the first.

The data lie beside the project (``../shared/data``) or where ``SOFTMATCH_DATA`` points.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import jax
import numpy as np
from promptable_baselines import BASELINES, best_region

from softmatch_jax.data.bsds500 import read_regions
from softmatch_jax.data.published_pairs import list_pairs
from softmatch_jax.data.truths import GreyTruth
from softmatch_jax.evaluation import Counts, Interval, compare
from softmatch_jax.evaluation.intervals import resampled
from softmatch_jax.evaluation.region_items import (
    PROMPT_KINDS,
    PromptKind,
    RegionItem,
    draw_regions,
    region_item,
)
from softmatch_jax.evaluation.regions import (
    RegionScore,
    predictor,
    region_iou,
    region_scores,
    region_table,
)
from softmatch_jax.imaging import atomic_write_text, fit_longest, read_image, resize_image
from softmatch_jax.models import GrabCut, MaskGenerator
from softmatch_jax.prompting import prompts_from_points

OBJECTS = {"PerSeg": ("perseg/*", 1), "FSS-1000": ("fss1000_sample/*", 128)}
"""For each set of whole objects its folders and the grey level from which a mask is object."""

REGIONS = "BSDS500 val"
LONGEST = 1280
REPEATS = 5


Sets: TypeAlias = Mapping[str, Sequence[RegionItem]]


@dataclass(frozen=True)
class Row:
    """The scores of one contender on one set."""

    data: str
    contender: str
    scores: list[RegionScore]

    def lines(self) -> Iterator[tuple[PromptKind, bool]]:
        """The kinds of prompts, each with the generator's answer and the best where they can differ."""
        for kind in PROMPT_KINDS:
            own = [score for score in self.scores if score.prompt == kind]
            if own:
                yield kind, False
            if any(score.best != score.answer for score in own):
                yield kind, True


def opened(options: argparse.Namespace, masks: str) -> MaskGenerator | None:
    """The generator with ``single`` or ``multiple`` masks for a prompt; none where it has one kind only."""
    kind, _, checkpoint = options.generator.partition(":")
    if kind == "grabcut":
        return GrabCut() if masks == "single" else None
    if kind == "tiny":
        from softmatch_jax.models.sam.tiny_generator import TinySam

        return TinySam.load(options.weights, masks=masks)
    from softmatch_jax.models.sam.generator import SamGeneratorConfig, SamMaskGenerator

    return SamMaskGenerator.load(checkpoint, config=SamGeneratorConfig(masks=masks))


def photographs(data: Path, limit: int | None) -> list[Path]:
    """Pictures of BSDS500 val, by name."""
    return list(islice(sorted((data / "bsds500" / "val").glob("*.jpg")), limit))


def regions(data: Path, limit: int | None, seed: int) -> list[RegionItem]:
    """Regions that the first person drew."""
    return [
        draw_regions(path.stem, read_image(path), read_regions(_map(path, 0)), seed=seed)
        for path in photographs(data, limit)
    ]


def objects(data: Path, folders: str, threshold: int, seed: int) -> list[RegionItem]:
    """Whole objects; pictures are named with their folder."""
    items = []
    for folder in sorted(path for path in data.glob(folders) if path.is_dir()):
        for pair in list_pairs(folder, folder):
            image, name = read_image(pair.image), f"{folder.name}/{pair.stem}"
            truth = GreyTruth(pair.mask, threshold).read(image.shape[:2]).mask
            items.append(region_item(name, image, [truth], regions=["object"], seed=seed))
    return items


def _map(photograph: Path, person: int) -> Path:
    return photograph.with_name(f"{photograph.stem}_{person}.png")


def people(data: Path, items: Sequence[RegionItem]) -> None:
    """Prints the IoU of each region with the best one of every other person: their mean, and their best."""
    sums = []
    for item in items:
        maps, photograph = [], data / "bsds500" / "val" / f"{item.name}.jpg"
        while _map(photograph, len(maps) + 1).exists():
            maps.append(read_regions(_map(photograph, len(maps) + 1)))
        found = np.array([[best_region(mask, labels) for labels in maps] for mask in item.masks])
        if found.size:
            sums.append([found.mean(axis=1).sum(), found.max(axis=1).sum(), len(found)])
    means = resampled(
        lambda total: {
            "another person, on average": total[..., 0, 0] / total[..., 0, 2],
            "the best of the other people": total[..., 0, 1] / total[..., 0, 2],
        },
        np.array(sums), np.zeros(len(sums), int), level=0.95, replicates=2000, seed=0,
    )  # fmt: skip
    for name, interval in means.items():
        total = int(sum(number for *_, number in sums))
        print(f"| {REGIONS} | {name} | fitting region | {total} | {cell(interval)} |", flush=True)


def shown(rows: Iterable[Row]) -> list[Row]:
    """Prints a line for each kind of prompt, as soon as it is known."""
    kept = []
    for row in rows:
        kept.append(row)
        for kind, best in row.lines():
            number = sum(score.prompt == kind for score in row.scores)
            told = cell(region_iou(row.scores, kind, best=best))
            print(f"| {row.data} | {row.contender} | {asked(kind, best)} | {number} | {told} |", flush=True)
    return kept


def asked(kind: PromptKind, best: bool) -> str:
    return f"{kind}, best of its masks" if best else kind


def cell(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def own(options: argparse.Namespace, masks: str, generator: MaskGenerator, sets: Sets) -> Iterator[Row]:
    """The generator on all sets."""
    kinds = PROMPT_KINDS if masks == "single" else ("centre",)  # a box is meant in one way only
    if not generator.promptable:
        kinds = ("box",)
    for name, items in sets.items():
        yield Row(name, f"{options.generator}, {masks}", region_scores(predictor(generator), items, kinds))


def baselines(sets: Sets) -> Iterator[Row]:
    """What it must beat on all sets."""
    for name, items in sets.items():
        for contender, predict in BASELINES.items():
            yield Row(name, contender, region_scores(predict, items, ("box",)))


def timings(generator: MaskGenerator, photograph: Path) -> dict[str, float]:
    """Median seconds of each step for one photograph and eight points, after two rounds that compile."""
    image = read_image(photograph)
    image = resize_image(image, fit_longest(image.shape[:2], LONGEST))
    grid = np.stack(np.meshgrid([0.2, 0.4, 0.6, 0.8], [0.35, 0.65]), axis=-1).reshape(-1, 2)
    prompts = prompts_from_points(grid * image.shape[1::-1])
    steps: dict[str, list[float]] = {"encode": [], "decode 8 points": [], "masks at full size": [], "all": []}
    for _ in range(2 + REPEATS):
        ends = [time.perf_counter()]
        embedding = generator.encode(image)
        jax.block_until_ready(vars(embedding))  # the embedding itself is no tree of arrays
        ends.append(time.perf_counter())
        proposals = generator.decode(embedding, prompts)
        ends.append(time.perf_counter())
        assert proposals.masks.shape[1:] == image.shape[:2]  # made when asked for
        ends.append(time.perf_counter())
        for taken, seconds in zip(steps.values(), [*np.diff(ends), ends[-1] - ends[0]], strict=True):
            taken.append(float(seconds))
    return {name: median(taken[2:]) for name, taken in steps.items()}


def against(rows: Sequence[Row], path: Path) -> None:
    """Prints what changed since a run that was kept, region by region."""
    kept = read_rows(path)
    print(
        f"\n| against {path.name} | prompt | regions | mean IoU, change | p | pictures better, same, worse |"
    )
    print("|---" * 6 + "|")
    for row in rows:
        name = (row.data, row.contender.rpartition(", ")[2])
        twins = [old for old in kept if (old.data, old.contender.rpartition(", ")[2]) == name]
        for kind, best in row.lines() if twins else ():
            tables = [region_table(run.scores, kind, best=best) for run in (twins[0], row)]
            found = compare(*tables)
            cells = [
                f"{row.data}, {row.contender}",
                asked(kind, best),
                str(len(tables[0])),
                cell(found.differences["mean_iou"]),
                f"{found.p_value:.3g}",
                f"{found.wins}, {found.ties}, {found.losses}",
            ]
            print(f"| {' | '.join(cells)} |")


def read_rows(path: Path) -> list[Row]:
    """The rows of a run that was kept."""
    rows = json.loads(path.read_text("utf-8"))["rows"]
    return [Row(row["data"], row["contender"], [_score(**score) for score in row["scores"]]) for row in rows]


def _score(*, answer: Sequence[int], best: Sequence[int], **fields: Any) -> RegionScore:
    return RegionScore(answer=Counts(*answer), best=Counts(*best), **fields)


def main() -> None:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--generator", default="grabcut", help="grabcut, tiny or sam:CHECKPOINT")
    parser.add_argument("--weights", type=Path, help="of tiny; those that are shipped by default")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SOFTMATCH_DATA", beside)))
    parser.add_argument("--limit", type=int, help="pictures of BSDS500, the first by name")
    parser.add_argument("--seed", type=int, default=0, help="of the regions and the random points")
    parser.add_argument("--no-baselines", action="store_true", help="the generator alone")
    parser.add_argument("--output", type=Path, help="JSON with the pixels of every region")
    parser.add_argument("--against", type=Path, help="such a file, to compare with in pairs")
    options = parser.parse_args()
    kind, _, checkpoint = options.generator.partition(":")
    if kind not in ("grabcut", "tiny", "sam") or bool(checkpoint) != (kind == "sam"):
        parser.error(f"--generator is {options.generator}; expected grabcut, tiny or sam:CHECKPOINT")
    print(f"{platform.machine()}, {os.cpu_count()} cores, JAX {jax.__version__} on {jax.default_backend()}\n")
    sets = {REGIONS: regions(options.data, options.limit, options.seed)}
    sets |= {name: objects(options.data, *where, options.seed) for name, where in OBJECTS.items()}
    print("| data | contender | prompt | regions | mean IoU, 95 % interval |\n|---|---|---|---|---|")
    generator = opened(options, "single")
    rows, name = shown(own(options, "single", generator, sets)), generator.name
    seconds = timings(generator, options.data / "perseg" / "cat" / "00.jpg")
    del generator  # two large ones may not fit
    generator = opened(options, "multiple")
    if generator is not None:
        rows += shown(own(options, "multiple", generator, sets))
    if not options.no_baselines:
        rows += shown(baselines(sets))
        people(options.data, sets[REGIONS])
    print(f"\n| a photograph of {LONGEST} px, single masks | ms |\n|---|---|")
    for step, taken in seconds.items():
        print(f"| {step} | {1e3 * taken:.1f} |")
    if options.output:
        document = {"generator": name, "seed": options.seed, "limit": options.limit}
        document |= {"seconds": seconds, "rows": [asdict(row) for row in rows]}
        atomic_write_text(options.output, json.dumps(document) + "\n")
    if options.against:
        against(rows, options.against)


if __name__ == "__main__":
    main()
