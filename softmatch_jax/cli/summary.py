"""What a person is told: a line for each target while it runs, and a few lines at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from softmatch_jax.cli.layout import RESULTS, SHEET
from softmatch_jax.cli.names import printable

_MOST_LINES = 20


def outcome(entry: Mapping[str, Any], *, new: bool) -> str:
    """One line about one target.

    Args:
        entry: Its entry in the results.
        new: False if an earlier run had finished it.
    """
    if entry["status"] == "failed":
        return f"failed: {_error(entry)}"
    if not new:
        return f"{entry['target']}: kept from an earlier run"
    found = [
        f"{one['name']} absent" if one["absent"] else f"{one['name']} x{len(one['instances'])}"
        for one in entry["classes"]
    ]
    return f"{entry['target']}: {', '.join(found)}"


def summary(document: Mapping[str, Any], output: Path, *, shard: tuple[int, int] = (1, 1)) -> str:
    """The end of a run in a few lines: counts, where to look, what is absent, what failed.

    Args:
        document: The results.
        output: The folder they are in.
        shard: Which of how many; a part has no contact sheet to look at.
    """
    counts, targets = document["summary"], document["targets"]
    parts = [f"{counts['done']} segmented"]
    if document["timings"]["skipped"]:
        parts[0] += f" ({document['timings']['skipped']} of them by an earlier run)"
    if counts["absent"]:
        parts.append(f"no object found in {counts['absent']} of these")
    if counts["failed"]:
        parts.append(f"{counts['failed']} failed")
    noun = "target" if len(targets) == 1 else "targets"
    lines = [f"{len(targets)} {noun}: {', '.join(parts)}."]
    number, of = shard
    if of > 1:
        lines.append(
            f"This is shard {number} of {of}; when all are through, the same command with --resume in place "
            "of --shard puts them together (softmatch merge where their folders differ)."
        )
    elif counts["done"]:
        lines.append(f"Look at {printable(output / SHEET)} first; {RESULTS} beside it has the numbers.")
    absent = [
        f"absent: {entry['target']}: {found['reason']}"
        for entry in targets
        for found in entry.get("classes", ())
        if found["absent"]
    ]
    failed = [f"failed: {_error(entry)}" for entry in targets if entry["status"] == "failed"]
    for group in (absent, failed):
        lines += group[:_MOST_LINES]
        if len(group) > _MOST_LINES:
            lines.append(f"... and {len(group) - _MOST_LINES} more; see {RESULTS}.")
    return "\n".join(lines) + "\n"


def _error(entry: Mapping[str, Any]) -> str:
    text = str(entry["error"])
    return text if entry["target"] in text else f"{entry['target']}: {text}"
