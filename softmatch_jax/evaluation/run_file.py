"""What a run was made with: kept beside its records, compared before they are added to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from softmatch_jax._checks import InputError
from softmatch_jax.evaluation.records import FOLDER as RECORDS
from softmatch_jax.imaging import atomic_write_text

RUN = "run.json"
MASKS = "masks"
RESULTS = "results.json"
SHEETS = ("best.png", "median.png", "worst.png")


def first_difference(before: Any, now: Any, where: str = "") -> str | None:
    """The first place where two documents differ, in words; ``None`` for equal ones."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in (*now, *(key for key in before if key not in now)):
            inner = f"{where}.{key}" if where else str(key)
            found = first_difference(before.get(key), now.get(key), inner)
            if found is not None:
                return found
        return None
    return None if before == now else f"{where} was {before} and is {now}"


def read_run(root: Path) -> dict[str, Any]:
    """What the run in a folder was made with.

    Raises:
        InputError: There is no run, or its file is damaged.
    """
    path = root / RUN
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict) or "method" not in document:
            raise ValueError
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); expected a folder that softmatch evaluate wrote for "
            "one method."
        ) from None
    except ValueError:
        raise InputError(
            f"{path} is damaged; expected what softmatch evaluate wrote (run it again)."
        ) from None
    return document


def check_run(root: Path, made_with: Mapping[str, Any], *, resume: bool, overwrite: bool, join: bool) -> bool:
    """Whether a folder holds a run to go on with; nothing is written.

    Args:
        root: The folder; it need not exist.
        made_with: All that decides the records.
        resume: Whether records of an earlier run may stay.
        overwrite: Whether they may be removed.
        join: Whether others may be at work in the folder (shards), which counts as an earlier run that may
            stay.

    Raises:
        InputError: There are records that may neither stay nor go, or that were made differently (the
            message has the difference), or files in their place that are not ours.
    """
    # Looked at first: a shard that begins at the same time may write its run file at any moment.
    held = root.is_dir() and any(path.suffix != ".tmp" for path in root.iterdir())
    if not (root / RUN).exists():
        if held:
            raise InputError(
                f"{root} holds files that are not of a run; expected another output folder (-o)."
            )
        return False
    if overwrite:
        return False
    if not (resume or join):
        raise InputError(
            f"{root} holds an earlier run; expected --resume to go on with it, --overwrite to replace it, or "
            "another folder (-o)."
        )
    difference = first_difference(read_run(root), _as_kept(made_with))
    if difference is not None:
        raise InputError(
            f"The run in {root} was made differently: {difference}; expected the same settings to go on with "
            "it (use --overwrite to replace it, or another folder)."
        )
    return True


def start_run(root: Path, made_with: Mapping[str, Any], *, resume: bool, overwrite: bool, join: bool) -> None:
    """Makes the folder of a run, or opens it again; for the arguments see :func:`check_run`.

    Raises:
        InputError: As :func:`check_run`, or the folder cannot be written.
    """
    if check_run(root, made_with, resume=resume, overwrite=overwrite, join=join):
        return
    if (root / RUN).exists() and overwrite:
        remove_run(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{root} cannot be made ({error.strerror}); expected a folder that can be written (-o)."
        ) from None
    atomic_write_text(root / RUN, json.dumps(_as_kept(made_with), indent=1) + "\n")


def _as_kept(made_with: Mapping[str, Any]) -> Any:
    """Tuples as lists, as files hold them."""
    return json.loads(json.dumps(made_with))


def remove_run(root: Path) -> None:
    """Removes what a run has written, and nothing else; the run file last, so that the rest stays known.

    Raises:
        InputError: Something cannot be removed; records that stay would be taken for those of the next run.
    """
    try:
        for folder in (RECORDS, MASKS):
            if (root / folder).exists():
                shutil.rmtree(root / folder)
        for name in (RESULTS, *SHEETS, RUN):
            (root / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{error.filename or root} cannot be removed ({error.strerror}); check the folder's permissions, "
            "or choose another folder (-o)."
        ) from None
