"""What an evaluation costs besides the method: time of the loop by stage, and memory.

    python bench/evaluation.py            # 500 episodes of 640x480 a run, some ten minutes
    python bench/evaluation.py --smoke    # 20 small pictures, some seconds

The data are synthetic: 5 classes of textured discs, JPEG with PNG masks. Every run is a fresh process, so
that peaks of memory compare; the method is called once before its clock starts, which leaves compilation out.
*Overhead* is what the run took beyond the seconds that its records give to the method. Threads that read
ahead may slow the method itself, which that hides, so the same calls are also timed with nothing beside them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import jax
import numpy as np
import PIL.Image
import psutil
from speed import picture

from softmatch_jax import Softmatcher
from softmatch_jax.data.annotating import Annotator
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.data.folder import open_folder
from softmatch_jax.data.fss1000_draws import published_references
from softmatch_jax.evaluation.boundaries import count_boundaries
from softmatch_jax.evaluation.case_sheets import write_sheets
from softmatch_jax.evaluation.counting import Counts, count
from softmatch_jax.evaluation.intervals import bootstrap
from softmatch_jax.evaluation.preparing import Prepared, prepare
from softmatch_jax.evaluation.records import EpisodeRecord, RecordWriter
from softmatch_jax.evaluation.report import collect, report_run, scores
from softmatch_jax.evaluation.run_file import start_run
from softmatch_jax.evaluation.running import (
    EvaluationProtocol,
    Place,
    choose_places,
    keep_mask,
    made_with,
    run_episodes,
)
from softmatch_jax.evaluation.segmenter import Segmenter
from softmatch_jax.evaluation.table import EpisodeTable
from softmatch_jax.imaging import write_image
from softmatch_jax.pipelines.one_class import Found, one_class

CLASSES = 5
OVERHEAD_BAR = 5.0  # percent
GROWTH_BAR = 5.0  # percent, from a short run to one SHORT times as long
SHORT = 10
METHODS = ("embedded", "stand-in")
ALONE = 100  # calls of the method that are timed with nothing beside them


@dataclass(frozen=True)
class Trial:
    """One run in a process of its own.

    Attributes:
        method: ``embedded``, or ``stand-in``, which takes no time.
        workers: Threads that read ahead.
        episodes: How many.
    """

    method: str
    workers: int
    episodes: int

    @property
    def name(self) -> str:
        """Of the folder of the run."""
        return f"{self.method}-{self.workers}-{self.episodes}"


@dataclass(frozen=True)
class StandIn:
    """Finds the same disc everywhere, at once."""

    name: str = "stand-in"

    @property
    def settings(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def __call__(self, target: np.ndarray, references: Sequence[Any], *, key: jax.Array) -> Found:
        """The disc."""
        return Found(disc(target.shape[:2]), False, None)


def disc(size: tuple[int, int]) -> np.ndarray:
    """A disc in the middle, a quarter of the shorter side in radius."""
    y, x = np.ogrid[: size[0], : size[1]]
    return (y - size[0] / 2) ** 2 + (x - size[1] / 2) ** 2 < (min(size) / 4) ** 2


def make_pictures(root: Path, count: int, size: tuple[int, int]) -> None:
    """``count`` pictures with masks, shared out among the classes."""
    for number in range(count):
        folder = root / f"class{number % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        image, mask = picture(size, number)
        write_image(folder / f"{number:04d}.jpg", image)
        PIL.Image.fromarray(mask * np.uint8(255)).save(folder / f"{number:04d}.png")


def protocol_of(data: Path) -> EvaluationProtocol:
    """Masks as annotation, one reference, pictures at their own size."""
    episodes = CorrectedEpisodes(open_folder(data), 1)
    return EvaluationProtocol(episodes=episodes, annotate=Annotator(kind="mask", mode="fixed"))


def read(protocol: EvaluationProtocol, place: Place) -> Prepared:
    """One episode in memory."""
    seed, index = place
    return prepare(protocol.episodes, protocol.annotate, raster=None, seed=seed, index=index)


def ask(segmenter: Segmenter, prepared: Prepared, place: Place) -> float:
    """Seconds that the method takes for one episode, as the loop asks it."""
    start = time.perf_counter()
    key = jax.random.fold_in(jax.random.key(place[0]), place[1])
    segmenter(prepared.target.image, prepared.references, key=key)
    return time.perf_counter() - start


def segmenter_of(method: str) -> Segmenter:
    """The method of a trial."""
    return StandIn() if method == "stand-in" else one_class("geometric", Softmatcher.embedded())


def carry_out(trial: Trial, data: Path, root: Path) -> dict[str, float]:
    """A run in this process: its wall time, the method's seconds within it, and those of a call alone."""
    protocol, segmenter = protocol_of(data), segmenter_of(trial.method)
    places = choose_places(len(protocol.episodes), seeds=(0,), episodes=trial.episodes)
    ask(segmenter, read(protocol, places[0]), places[0])
    start_run(root, made_with(protocol, segmenter), resume=False, overwrite=False, join=False)
    taken: list[float] = []

    def step(record: EpisodeRecord) -> None:
        if record.error is not None:
            raise SystemExit(record.error)
        taken.append(record.seconds)

    some = choose_places(len(protocol.episodes), seeds=(0,), episodes=min(ALONE, trial.episodes))
    # Half of them before and half after, for a machine whose speed changes.
    alone = [ask(segmenter, read(protocol, place), place) for place in some[::2]]
    start = time.perf_counter()
    run_episodes(protocol, segmenter, places, root, workers=trial.workers, step=step)
    wall = time.perf_counter() - start
    alone += [ask(segmenter, read(protocol, place), place) for place in some[1::2]]
    return {"wall": wall, "method": sum(taken), "alone": mean(alone) * len(places)}


def in_fresh_process(trial: Trial, data: Path, root: Path) -> dict[str, float]:
    """What :func:`carry_out` returns, with the ``peak`` of resident memory in bytes."""
    command = [sys.executable, __file__, "--data", str(data), "--root", str(root)]
    with subprocess.Popen(
        [*command, "--trial", json.dumps(asdict(trial))], stdout=subprocess.PIPE
    ) as process:
        watched, peak, pause = psutil.Process(process.pid), 0, threading.Event()
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            pause.wait(0.02)
        told = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"A run ended with status {process.returncode}: {trial}")
    return {**json.loads(told), "peak": peak}


def verdict(value: float, bar: float) -> str:
    """Columns for a figure in percent and its bar."""
    return f"{value:.1f} % | < {bar:g} % | {'yes' if value < bar else 'NO'}"


def trials_of(episodes: int, *, smoke: bool) -> list[Trial]:
    """The runs to make: both methods, with one worker and two; and a tenth as long, for memory."""
    if smoke:
        return [Trial("embedded", 2, episodes // 4), Trial("stand-in", 2, episodes)]
    long = [Trial(method, workers, episodes) for method in METHODS for workers in (1, 2)]
    return long + [Trial(method, 2, episodes // SHORT) for method in METHODS]


def runs(trials: Sequence[Trial], data: Path, roots: Path) -> dict[Trial, dict[str, float]]:
    """Makes the runs, and prints what each took."""
    print("| run | wall | an episode | method, of the records | method, alone | peak memory |")
    print("|---|---|---|---|---|---|")
    seen: dict[Trial, dict[str, float]] = {}
    for trial in trials:
        seen[trial] = row = in_fresh_process(trial, data, roots / trial.name)
        times = f"{row['wall']:.2f} s | {1e3 * row['wall'] / trial.episodes:.1f} ms | {row['method']:.2f} s"
        what = f"{trial.method}, {trial.episodes} episodes, workers: {trial.workers}"
        print(f"| {what} | {times} | {row['alone']:.2f} s | {row['peak'] / 1e6:.0f} MB |", flush=True)
    return seen


def figures(seen: Mapping[Trial, Mapping[str, float]], episodes: int) -> Iterator[str]:
    """Rows of the figures that have a bar."""
    for workers in (1, 2):
        row = seen[Trial("embedded", workers, episodes)]
        inside, beside = (100 * (1 - row[of] / row["wall"]) for of in ("method", "alone"))
        yield f"overhead, workers: {workers} | {verdict(inside, OVERHEAD_BAR)}"
        yield f"... to the method alone, workers: {workers} | {verdict(beside, OVERHEAD_BAR)}"
    for method in METHODS:
        short, long = (seen[Trial(method, 2, number)]["peak"] for number in (episodes // SHORT, episodes))
        what = f"more memory for {episodes} episodes than for {episodes // SHORT}, {method}"
        yield f"{what} | {verdict(100 * (long / short - 1), GROWTH_BAR)}"


def stages(data: Path, root: Path, number: int) -> Iterator[tuple[str, float]]:
    """What the loop does for an episode, one stage after another: names and median seconds."""
    protocol = protocol_of(data)
    places = choose_places(len(protocol.episodes), seeds=(0,), episodes=number)
    episodes = [protocol.episodes.episode(*place) for place in places]
    truths = [episode.target.read().truth for episode in episodes]
    found = disc(truths[0].mask.shape)
    yield "draw", each(lambda k: protocol.episodes.episode(*places[k]), number)
    yield (
        "read target and reference",
        each(lambda k: (episodes[k].target.read(), episodes[k].references[0].read()), number),
    )
    for kind in ("mask", "scribble", "box", "point"):
        mark = Annotator(kind=kind, mode="fixed")
        yield f"annotate, {kind}", each(lambda k, mark=mark: mark(truths[k], seed=0, index=k, shot=0), number)
    yield "count", each(lambda k: count(found, truths[k].mask), number)
    yield "boundaries", each(lambda k: count_boundaries(found, truths[k].mask), number)
    yield "mask written", each(lambda k: keep_mask(root, places[k], found), number)
    record = EpisodeRecord(
        seed=0, index=0, class_name="class0", target="class0/0000", references=("class0/0005",)
    )
    with RecordWriter(root) as writer:
        yield "record written", each(lambda k: writer.write(record), number)


def each(call: Callable[[int], object], number: int) -> float:
    """Median seconds of ``number`` calls."""
    taken = []
    for k in range(number):
        start = time.perf_counter()
        call(k)
        taken.append(time.perf_counter() - start)
    return median(taken)


def once(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    return each(lambda k: call(), 1)


def around(data: Path, root: Path, episodes: int) -> Iterator[tuple[str, float]]:
    """What comes before and after the loop: names and seconds."""
    yield f"folder opened, {len(list(data.rglob('*.jpg')))} pictures", once(lambda: open_folder(data))
    protocol = protocol_of(data)
    places = choose_places(len(protocol.episodes), seeds=(0,), episodes=episodes)
    done = collect(root, places).done
    rows = scores(done)
    ious = [Counts(*record.counts).iou for record in done]
    yield f"report of {len(done)} episodes", once(lambda: report_run(root, protocol, places))
    yield "... of which records read", once(lambda: collect(root, places))
    yield "... of which bootstrap", once(lambda: bootstrap(EpisodeTable.of(rows)))
    yield "... of which sheets", once(lambda: write_sheets(root, protocol, done, ious))
    for shots in (1, 5):
        published_references.cache_clear()
        taken = once(lambda shots=shots: published_references(0, shots, 240))
        yield f"published draws of FSS-1000, 2400 episodes, {shots} shots", taken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--episodes", type=int, default=500, help="of the long runs; the data have 500")
    for inner in ("--trial", "--data", "--root"):  # of the processes that this one starts
        parser.add_argument(inner, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.trial:
        print(json.dumps(carry_out(Trial(**json.loads(args.trial)), Path(args.data), Path(args.root))))
        return
    size, count = ((120, 160), 20) if args.smoke else ((480, 640), 500)
    episodes = min(args.episodes, count)
    if episodes < SHORT:
        parser.error(f"--episodes is {episodes}; expected at least {SHORT}.")
    with tempfile.TemporaryDirectory() as name:
        data, roots = Path(name) / "data", Path(name) / "runs"
        make_pictures(data, count, size)
        seen = runs(trials_of(episodes, smoke=args.smoke), data, roots)
        if not args.smoke:
            print("\n| figure | value | bar | met |\n|---|---|---|---|")
            print("\n".join(f"| {row} |" for row in figures(seen, episodes)))
        print("\n| stage of an episode, median | time |\n|---|---|")
        for what, taken in stages(data, roots / "stages", min(100, episodes)):
            print(f"| {what} | {1e3 * taken:.2f} ms |", flush=True)
        print("\n| before and after | time |\n|---|---|")
        for what, taken in around(data, roots / Trial("stand-in", 2, episodes).name, episodes):
            print(f"| {what} | {taken:.2f} s |", flush=True)


if __name__ == "__main__":
    main()
