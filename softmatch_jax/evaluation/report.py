"""The results of a run, from its records: numbers with intervals, failures, and sheets of cases."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from softmatch_jax.evaluation.boundaries import BoundaryCounts
from softmatch_jax.evaluation.case_sheets import write_sheets
from softmatch_jax.evaluation.counting import Counts
from softmatch_jax.evaluation.intervals import bootstrap, spread
from softmatch_jax.evaluation.pooling import EpisodeScore, PooledScores
from softmatch_jax.evaluation.rates import Confusion
from softmatch_jax.evaluation.records import EpisodeRecord, read_records
from softmatch_jax.evaluation.run_file import RESULTS, read_run
from softmatch_jax.evaluation.running import NOTHING_SAID, EvaluationProtocol, Place
from softmatch_jax.evaluation.table import EpisodeTable
from softmatch_jax.imaging import atomic_write_text

_DIGITS = 6
_PROTOCOL = ("softmatch", "shots", "sampling", "annotation", "raster", "seeds")
_CONFUSION = (
    "true_positive_rate",
    "false_negative_rate",
    "true_negative_rate",
    "false_positive_rate",
    "true_positive_share",
    "false_negative_share",
    "true_negative_share",
    "false_positive_share",
)


@dataclass(frozen=True)
class RunRecords:
    """The records of the episodes that were asked for, each once, in their order.

    Attributes:
        done: Those that were answered.
        failed: Those whose files or annotations could not be used.
        missing: Number of those without a record.
    """

    done: list[EpisodeRecord]
    failed: list[EpisodeRecord]
    missing: int


def reports_beside(output: Path, like: Mapping[str, Any], but: Collection[Path]) -> list[dict[str, Any]]:
    """Results of the same protocol that earlier calls left in an output folder, by the runs' names.

    Args:
        output: The folder of runs.
        like: Results whose protocol is wanted.
        but: Runs that are not wanted. What is damaged is passed over, too.
    """
    found = []
    for path in sorted(output.glob(f"*/{RESULTS}")):
        if path.parent in but:
            continue
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(document, dict) and all(document.get(name) == like[name] for name in _PROTOCOL):
            found.append(document)
    return found


def collect(root: Path, places: Sequence[Place] | None = None) -> RunRecords:
    """Reads the records of a run; of an episode that failed and was then done, the latter counts.

    Args:
        root: The run's folder.
        places: The episodes that were asked for; all that have a record when ``None``.
    """
    known: dict[Place, EpisodeRecord] = {}
    for record in read_records(root):
        earlier = known.get(record.place)
        if earlier is None or earlier.error is not None:
            known[record.place] = record
    wanted = sorted(known) if places is None else places
    found = [known[place] for place in wanted if place in known]
    return RunRecords(
        done=[record for record in found if record.error is None],
        failed=[record for record in found if record.error is not None],
        missing=len(wanted) - len(found),
    )


def scores(records: Sequence[EpisodeRecord]) -> list[EpisodeScore]:
    """What the statistics take of records."""
    return [
        EpisodeScore(
            seed=record.seed,
            index=record.index,
            class_name=record.class_name,
            target=record.target,
            counts=Counts(*record.counts),
            boundary=BoundaryCounts(*record.boundary),
        )
        for record in records
    ]


def report_run(root: Path, protocol: EvaluationProtocol, places: Sequence[Place]) -> dict[str, Any]:
    """Writes the results and the contact sheets of a run.

    Args:
        root: The run's folder.
        protocol: What was asked.
        places: The episodes that were asked for, whether or not all are done yet.

    Returns:
        The results, as written.

    Raises:
        InputError: A file cannot be read or written.
    """
    found = collect(root, places)
    document = results(root, found)
    if found.done:
        ious = [Counts(*record.counts).iou for record in found.done]
        write_sheets(root, protocol, found.done, ious)
    write_results(root, document)
    return document


def write_results(root: Path, document: Mapping[str, Any]) -> None:
    """Writes the results of a run; bytes in names that are no text become question marks.

    Raises:
        InputError: The file cannot be written.
    """
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    atomic_write_text(root / RESULTS, text.encode(errors="surrogateescape").decode(errors="replace"))


def results(root: Path, found: RunRecords) -> dict[str, Any]:
    """The numbers of a run as a document."""
    done, failed = found.done, found.failed
    document: dict[str, Any] = {
        **read_run(root),
        "seeds": sorted({record.seed for record in done}),
        "episodes": {
            "asked": len(done) + len(failed) + found.missing,
            "done": len(done),
            "failed": len(failed),
            "missing": found.missing,
            "called_absent": sum(record.absent for record in done),
            "without_reference": sum(record.reason == NOTHING_SAID for record in done),
        },
        "failures": [
            {"seed": r.seed, "index": r.index, "class": r.class_name, "target": r.target, "error": r.error}
            for r in failed
        ],
    }
    if done:
        document |= _numbers(scores(done))
        document["timings"] = {"median_seconds": float(np.median([record.seconds for record in done]))}
    return _rounded(document)


def _numbers(rows: Sequence[EpisodeScore]) -> dict[str, Any]:
    table, pooled = EpisodeTable.of(rows), PooledScores(rows)
    over_seeds = spread(table)
    confusion = Confusion(pooled.counts)
    return {
        "metrics": {
            name: {
                "value": interval.value,
                "low": interval.low,
                "high": interval.high,
                "seed_mean": over_seeds[name].mean,
                "seed_deviation": over_seeds[name].deviation,
            }
            for name, interval in bootstrap(table).items()
        },
        "classes": {
            name: {
                "episodes": score.episodes,
                "iou": score.iou,
                "mean_iou": score.mean_iou,
                "boundary_iou": score.boundary_iou,
                "boundary_f": score.boundary_f,
            }
            for name, score in pooled.by_class().items()
        },
        "confusion": {name: getattr(confusion, name) for name in _CONFUSION},
    }


def _rounded(value: Any) -> Any:
    """All floats to six significant digits; what is not finite is None."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return value
