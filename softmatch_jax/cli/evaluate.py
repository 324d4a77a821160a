"""``softmatch evaluate``: open the data, run every method over the episodes, and report."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from softmatch_jax._checks import InputError, check_positive
from softmatch_jax._types import Size
from softmatch_jax.cli.backend import check_models
from softmatch_jax.cli.evaluate_arguments import parse_labels, parse_shard
from softmatch_jax.cli.evaluate_config import EvaluateConfig
from softmatch_jax.cli.evaluate_methods import load_method, load_methods
from softmatch_jax.cli.names import file_slug, printable
from softmatch_jax.cli.plain_warnings import plain_warnings
from softmatch_jax.cli.progress import progress
from softmatch_jax.cli.records import to_json
from softmatch_jax.cli.sharing import check_sharing
from softmatch_jax.data.annotating import Annotator
from softmatch_jax.data.catalogue import FOLDED, PUBLISHED, DataSource, open_episodes
from softmatch_jax.data.episodes import EpisodeSet, Sampling
from softmatch_jax.evaluation.counting import Counts
from softmatch_jax.evaluation.markdown import TABLE, write_table
from softmatch_jax.evaluation.records import EpisodeRecord, finished
from softmatch_jax.evaluation.report import report_run, reports_beside
from softmatch_jax.evaluation.run_file import RESULTS, SHEETS, check_run, start_run
from softmatch_jax.evaluation.running import (
    EvaluationProtocol,
    Place,
    choose_places,
    made_with,
    run_episodes,
    shard,
)
from softmatch_jax.pipelines.one_class import OneClass

_MOST_FAILURES = 20


@dataclass(frozen=True)
class Recipe:
    """Makes a method anew, in another process: settings travel, models do not.

    Attributes:
        config: Settings.
        method: Its name.
    """

    config: EvaluateConfig
    method: str

    def __call__(self) -> OneClass:
        """Loads the models."""
        return load_method(self.config, self.method, None)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One method on one set of episodes.

    Attributes:
        method: Its name.
        segmenter: The method.
        protocol: What it is asked.
        places: Which episodes.
        root: Where the run is kept.
    """

    method: str
    segmenter: OneClass
    protocol: EvaluationProtocol
    places: list[Place]
    root: Path


def run_evaluate(
    config: EvaluateConfig, *, stdout: TextIO | None = None, stderr: TextIO | None = None
) -> int:
    """Evaluates and writes records, results, contact sheets and a table.

    Args:
        config: Settings.
        stdout: Gets the table, or the results as JSON; by default standard output.
        stderr: Gets the progress; by default standard error.

    Returns:
        0, or 1 if an episode failed.

    Raises:
        InputError: Something the user gave cannot be used.
    """
    with plain_warnings(stderr):
        return _run(config, stdout or sys.stdout, stderr or sys.stderr)


def _run(config: EvaluateConfig, stdout: TextIO, stderr: TextIO | None) -> int:
    _check(config)
    protocols = [_protocol(config, fold) for fold in _folds(config)]
    methods = load_methods(config, stderr)
    jobs = [
        _job(config, segmenter, method, protocol, number)
        for method, segmenter in methods.items()
        for number, protocol in enumerate(protocols)
    ]
    _start(config, jobs)
    left = [_left(config, job) for job in jobs]
    with progress(sum(map(len, left)), quiet=config.quiet, stream=stderr) as step:
        for job, places in zip(jobs, left, strict=True):
            _answer(config, job, places, step)
    documents = [report_run(job.root, job.protocol, job.places) for job in jobs]
    # Those of other methods that are there from earlier calls stay in the table.
    others = reports_beside(config.output, documents[0], {job.root for job in jobs})
    table = write_table(config.output, documents + others)
    text = printable(to_json({"runs": documents})) if config.json else table
    print(text, end="", file=stdout, flush=True)
    _say_where(config, jobs, documents, stdout)
    return 1 if any(document["episodes"]["failed"] for document in documents) else 0


def _check(config: EvaluateConfig) -> None:
    """The cheap checks, before anything is read."""
    if config.resume and config.overwrite:
        raise InputError("--resume and --overwrite are given together; expected one of them.")
    check_sharing(config)
    root, output = (Path(os.path.realpath(path)) for path in (config.root, config.output))
    if config.dataset == "folder" and output.is_relative_to(root):
        raise InputError(
            f"The output {config.output} is in the data's folder {config.root}, where results would be taken "
            "for data; expected a folder elsewhere (-o)."
        )
    check_positive("--seeds", config.seeds)
    check_positive("--workers", config.workers)
    if config.fold and config.dataset not in FOLDED:
        raise InputError(
            f"--fold is given for {config.dataset}, which has no folds; expected it with "
            f"{' or '.join(FOLDED)} only (leave it out)."
        )
    check_models(config)


def _folds(config: EvaluateConfig) -> Sequence[int]:
    if config.dataset not in FOLDED:
        return (0,)
    return tuple(dict.fromkeys(config.fold)) or range(4)


def _sampling(config: EvaluateConfig) -> Sampling:
    if config.sampling is not None:
        return config.sampling
    return "published" if config.dataset in PUBLISHED else "corrected"


def _protocol(config: EvaluateConfig, fold: int) -> EvaluationProtocol:
    episodes = open_episodes(
        DataSource(
            dataset=config.dataset,
            root=config.root,
            shots=config.shots,
            sampling=_sampling(config),
            fold=fold,
            grouping=config.folds,
            classes=config.class_name,
            layout=config.layout,
            mask_threshold=config.mask_threshold,
            void=config.void,
            labels=parse_labels(config.label),
            min_area=config.min_area,
            test_classes=config.test_classes,
        )
    )
    annotate = Annotator(kind=config.annotation, mode=config.annotation_mode)
    return EvaluationProtocol(
        episodes=episodes, annotate=annotate, raster=parse_raster(config.raster, episodes)
    )


def parse_raster(text: str | None, episodes: EpisodeSet) -> Size | None:
    """The size that pictures are squashed to.

    Raises:
        InputError: It is none of ``published``, ``own`` and a number of pixels.
    """
    if text == "own" or (text is None and episodes.sampling == "corrected"):
        return None
    if text in (None, "published"):
        if text and episodes.raster is None:
            raise InputError(
                f"--raster is published, but {episodes.name} has no published raster; expected a number of "
                "pixels, or own."
            )
        return episodes.raster
    if not (text or "").isdecimal() or int(text or "") < 1:
        raise InputError(f"--raster is {text!r}; expected published, own, or a number of pixels such as 518.")
    return int(text or ""), int(text or "")


def _job(
    config: EvaluateConfig, segmenter: OneClass, method: str, protocol: EvaluationProtocol, number: int
) -> Job:
    name = method
    if config.dataset in FOLDED:
        name = f"{method}.{file_slug(protocol.episodes.name, 80, dots=False)}"
    places = choose_places(len(protocol.episodes), seeds=range(config.seeds), episodes=config.episodes)
    return Job(
        method=method,
        segmenter=segmenter,
        protocol=protocol,
        places=places,
        root=config.output / name,
    )


def _start(config: EvaluateConfig, jobs: Sequence[Job]) -> None:
    """Makes the folders of the runs, or none where one of them cannot be used."""
    rules = {
        "resume": config.resume,
        "overwrite": config.overwrite,
        "join": config.shard is not None,
    }
    made = [made_with(job.protocol, job.segmenter) for job in jobs]
    for step in (check_run, start_run):
        for job, how in zip(jobs, made, strict=True):
            step(job.root, how, **rules)


def _left(config: EvaluateConfig, job: Job) -> list[Place]:
    """The share of this shard that is not done yet."""
    done = finished(job.root)
    number, of = parse_shard(config.shard)
    return [place for place in shard(job.places, number, of) if place not in done]


def _answer(config: EvaluateConfig, job: Job, places: list[Place], step: Any) -> None:
    def told(record: EpisodeRecord) -> None:
        step(_outcome(job, record))

    if config.ray is None:
        run_episodes(job.protocol, job.segmenter, places, job.root, workers=config.workers, step=told)
    elif places:
        from softmatch_jax.evaluation.ray_running import run_on_ray

        run_on_ray(
            Recipe(config, job.method),
            job.protocol,
            places,
            job.root,
            workers=config.ray,
            address=config.ray_address,
            gpus_per_worker=config.ray_gpus,
            step=told,
        )


def _outcome(job: Job, record: EpisodeRecord) -> str:
    """One line about one episode."""
    where = printable(f"{job.root.name}: {record.class_name}: {record.target}")
    if record.error is not None:
        return printable(f"failed: {where}: {record.error}")
    verdict = " (absent)" if record.absent else ""
    return f"{where}: IoU {Counts(*record.counts).iou:.3f}{verdict}"


def _say_where(
    config: EvaluateConfig, jobs: Sequence[Job], documents: Sequence[dict[str, Any]], stdout: TextIO
) -> None:
    """The last lines for a person: what failed, and where to look."""
    if config.json:
        return
    failures = [failure for document in documents for failure in document["failures"]]
    for failure in failures[:_MOST_FAILURES]:
        line = f"failed: {failure['class']}: {failure['target']}: {failure['error']}"
        print(printable(line), file=stdout)
    if len(failures) > _MOST_FAILURES:
        print(f"... and {len(failures) - _MOST_FAILURES} more; see {RESULTS} of the runs.", file=stdout)
    worst = next((job.root / SHEETS[-1] for job in jobs if (job.root / SHEETS[-1]).exists()), None)
    look = "" if worst is None else f"; look at {printable(worst)} for the worst cases"
    print(f"\nThe table is in {printable(config.output / TABLE)}{look}.", file=stdout, flush=True)
