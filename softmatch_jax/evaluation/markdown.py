"""The table that a person reads: a line for each method, and one for each of its folds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softmatch_jax.imaging import atomic_write_text

TABLE = "results.md"

HEADINGS = {
    "miou": "mIoU",
    "fb_iou": "FB-IoU",
    "mean_iou": "IoU per image",
    "boundary_iou": "boundary IoU",
    "boundary_f": "boundary F",
}
"""What the metrics are called in tables; for their formulas see :mod:`softmatch_jax.evaluation.pooling`."""

_FOLDED = 2


def write_table(root: Path, documents: Sequence[Mapping[str, Any]]) -> str:
    """Writes the table of some runs into a folder.

    Raises:
        InputError: It cannot be written.
    """
    text = table(documents)
    atomic_write_text(root / TABLE, text)
    return text


def table(documents: Sequence[Mapping[str, Any]]) -> str:
    """The table of some runs over one kind of data, in Markdown.

    Values are in percent, with their 95 % intervals over target pictures. The mean over folds is that of
    their values, as the papers print it; its interval takes the folds as independent.
    """
    first = documents[0]
    seeds = ", ".join(map(str, first["seeds"])) or "none"
    protocol = (
        f"{first['shots']}-shot, {first['sampling']} sampling, references annotated by "
        f"{first['annotation']}, pictures {_raster(first)}, seeds {seeds}"
    )
    lines = [f"# {_common(documents)}", "", f"{protocol}.", ""]
    lines += [
        "| method | data | episodes | " + " | ".join(HEADINGS.values()) + " | s per target |",
        "|---|---|---|" + "---|" * (len(HEADINGS) + 1),
    ]
    for method in dict.fromkeys(document["method"] for document in documents):
        runs = [document for document in documents if document["method"] == method]
        lines += [_line(run) for run in runs]
        measured = [run for run in runs if "metrics" in run]
        if len(measured) >= _FOLDED:
            lines.append(_mean_line(method, measured))
    lines += ["", *_notes(documents)]
    text = "\n".join(lines).rstrip() + "\n"
    # Bytes in the name of a folder may be no text.
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _common(documents: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(str(document["data"]) for document in documents))
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def _raster(document: Mapping[str, Any]) -> str:
    raster = document["raster"]
    return "at their own size" if raster is None else f"squashed to {raster[1]}x{raster[0]}"


def _line(run: Mapping[str, Any]) -> str:
    metrics = run.get("metrics", {})
    cells = [_cell(metrics.get(name)) for name in HEADINGS]
    seconds = f"{run['timings']['median_seconds']:.3g}" if "timings" in run else ""
    done = run["episodes"]["done"]
    data = str(run["data"]).replace("|", r"\|")
    return f"| {run['method']} | {data} | {done} | {' | '.join(cells)} | {seconds} |"


def _cell(metric: Mapping[str, Any] | None) -> str:
    if metric is None or metric["value"] is None:
        return ""
    value, low, high = (100 * metric[name] for name in ("value", "low", "high"))
    deviation = metric["seed_deviation"]
    spread = "" if deviation is None else f" ± {100 * deviation:.1f}"
    return f"{value:.1f}{spread} [{low:.1f}, {high:.1f}]"


def _mean_line(method: str, runs: Sequence[Mapping[str, Any]]) -> str:
    cells = []
    for name in HEADINGS:
        parts = [run["metrics"][name] for run in runs if name in run["metrics"]]
        if len(parts) < len(runs):
            cells.append("")
            continue
        value = sum(part["value"] for part in parts) / len(parts)
        below, above = (
            math.sqrt(sum((part["value"] - part[end]) ** 2 for part in parts)) / len(parts)
            for end in ("low", "high")
        )
        cells.append(f"**{100 * value:.1f}** [{100 * (value - below):.1f}, {100 * (value + above):.1f}]")
    done = sum(run["episodes"]["done"] for run in runs)
    return f"| {method} | mean of {len(runs)} | {done} | {' | '.join(cells)} |  |"


def _notes(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader must know besides: the meaning of the cells, and what is not in them."""
    lines = [
        "Percent, with 95 % intervals over target pictures; ± is the standard deviation over seeds. mIoU "
        "pools pixels by class."
    ]
    for document in documents:
        counts = document["episodes"]
        for key, what in (
            ("failed", "failed and are not counted"),
            ("missing", "are not done yet"),
            ("without_reference", "had no reference left by the annotation simulator and count as empty"),
        ):
            if counts[key]:
                share = f"{counts[key]} of {counts['asked']} episodes"
                lines.append(f"{document['method']}, {document['data']}: {share} {what}.")
    return lines
