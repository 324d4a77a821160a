"""``run.json`` in the folder of a training: what it was started with, for people and for exports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from softmatch_jax import __version__
from softmatch_jax._checks import InputError
from softmatch_jax.data.files import make_folder
from softmatch_jax.imaging import atomic_write_text
from softmatch_jax.training.checkpoints import stored_steps
from softmatch_jax.training.metrics import FILE as METRICS
from softmatch_jax.training.metrics import read_metrics
from softmatch_jax.training.region_batches import RegionBatches
from softmatch_jax.training.sam_recipe import SamRecipe

RUN = "run.json"
"""Name of the file in the folder of a training."""

_TIMES = ("pictures_per_second", "waiting", "stepping", "other", "compiling", "learning_rate", "grad_norm")
_MUST_AGREE = ("kind", "preset", "models", "data", "init", "select", "recipe")


def describe_run(preset: str, recipe: SamRecipe, batches: RegionBatches, init: str | None) -> dict[str, Any]:
    """What decides a training, as JSON can hold it.

    Args:
        preset: The model.
        recipe: The settings.
        batches: The data.
        init: Checksum of the weights to start from, if there are any.
    """
    data = [
        {"name": source.name, "weight": source.weight, "pictures": len(source.pictures)}
        for source in batches.sources
    ]
    settings = {
        "training": recipe.training.learned_with(),
        "sam": asdict(recipe.sam),
        **asdict(recipe.batches),
    }
    document = {
        "kind": "sam",
        "preset": preset,
        "data": data,
        "digest": batches.digest,
        "init": init,
        "recipe": settings,
        "code": __version__,
    }
    return plain_json(document)


def plain_json(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as it is read back."""
    plain: dict[str, Any] = json.loads(json.dumps(document))
    return plain


def is_used(folder: Path) -> bool:
    """Whether there is a training in the folder."""
    return bool(stored_steps(folder)) or (folder / METRICS).exists()


def check_free(folder: Path, *, resume: bool) -> bool:
    """Whether there is a training in the folder; raises ``InputError`` if so and it is not to go on."""
    used = is_used(folder)
    if used and not resume:
        raise InputError(
            f"{folder} holds an earlier training; give --resume to go on with it, or choose an empty folder "
            "for a new one."
        )
    return used


def check_run(folder: Path, now: Mapping[str, Any]) -> None:
    """Raises ``InputError`` unless the training in the folder was started like this; says what differs.

    One without the file is left to its checkpoints, which know a digest of the data alone.
    """
    before = read_run(folder)
    if before is None:
        return
    before = {"kind": kind_of(before), **before}
    for name in _MUST_AGREE:
        for place, was, here in _differences(before.get(name), now.get(name), name):
            raise InputError(
                f"{folder} holds another training: {place} is {was!r} there and {here!r} here; resume "
                "with the settings and data it was started with, or choose an empty folder for a new one."
            )


def write_run(folder: Path, document: Mapping[str, Any]) -> None:
    """Writes the file, and makes the folder.

    Raises:
        InputError: It cannot be written.
    """
    atomic_write_text(make_folder(folder) / RUN, json.dumps(document, indent=1) + "\n")


def read_run(folder: Path) -> dict[str, Any] | None:
    """The file's content; ``None`` if there is no such file.

    Raises:
        InputError: It cannot be read.
    """
    path = folder / RUN
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text("utf-8"))
        if not isinstance(document, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); take it away to go on without it.") from None
    return document


def kind_of(run: Mapping[str, Any]) -> str:
    """What was trained: sam, which earlier versions did not write down, or prosam."""
    return str(run.get("kind", "sam"))


def last_metrics(folder: Path, step: int) -> dict[str, float | None]:
    """The last of each metric up to a step; those of a measurement on held-out data with its step."""
    last: dict[str, float | None] = {}
    for record in read_metrics(folder / METRICS):
        if (record["step"] or 0) <= step:
            last |= {name: value for name, value in record.items() if name not in _TIMES}
    return last


def _differences(before: Any, now: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Where two documents differ, and the values there."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{place}.{key}")
    elif before != now:
        yield place.removeprefix("recipe."), _short(before), _short(now)


def _short(value: Any) -> Any:
    """Lists of data as their names and weights."""
    if isinstance(value, Sequence) and not isinstance(value, str) and value and isinstance(value[0], dict):
        return [" ".join(str(part) for part in entry.values()) for entry in value]
    return value
