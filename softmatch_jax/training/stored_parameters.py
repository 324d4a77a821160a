"""The parameters in the checkpoints of a training, apart from the state of its optimiser."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from softmatch_jax._checks import InputError
from softmatch_jax.training.arrays_on_disk import describe_leaves
from softmatch_jax.training.checkpoints import (
    DamagedCheckpoint,
    checkpoint_path,
    read_about,
    read_state,
    stored_steps,
)
from softmatch_jax.training.config import TrainConfig
from softmatch_jax.training.sharding import device_mesh, replicated
from softmatch_jax.training.step import TrainState, start_state
from softmatch_jax.training.task import Parameters, Task


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredParameters:
    """What a checkpoint holds.

    Attributes:
        step: Number of steps done.
        params: The parameters after them.
        averaged: Their running average.
        about: What is written beside them: task, settings, config, data, versions.
    """

    step: int
    params: Parameters
    averaged: Parameters
    about: Mapping[str, Any]


def read_parameters(folder: Path, task: Task, step: int | None = None) -> StoredParameters:
    """Reads the parameters of a checkpoint, on one device.

    Args:
        folder: Of the training.
        task: Whose parameters these are; its name is that of the training.
        step: Of the checkpoint; by default the newest that is whole, damaged ones with a warning.

    Raises:
        InputError: There is no such checkpoint, it is damaged, or of another task.
    """
    steps = stored_steps(folder)
    if not steps:
        raise InputError(f"{folder} holds no checkpoint; expected the folder of a training.")
    if step is not None and step not in steps:
        raise InputError(
            f"{folder} has no checkpoint after step {step}; expected one of {', '.join(map(str, steps))}."
        )
    for number in reversed(steps) if step is None else [step]:
        path = checkpoint_path(folder, number)
        try:
            about = read_about(path)
            like = _like(path, task, about)
            state = read_state(path, about, like)
        except OSError as error:
            if step is not None:
                raise InputError(
                    f"The checkpoint {path} is damaged ({error}); take another step of "
                    f"{', '.join(map(str, steps))}."
                ) from None
            said = f"The checkpoint {path} is damaged ({error}) and passed over for an earlier one."
            warnings.warn(said, DamagedCheckpoint, stacklevel=2)
            continue
        return StoredParameters(step=number, params=state.params, averaged=state.averaged, about=about)
    raise InputError(f"{folder} holds no checkpoint that can be read; expected one that is whole.")


def _like(path: Path, task: Task, about: Mapping[str, Any]) -> TrainState:
    """Types and shapes of the state in a checkpoint, without its arrays."""
    if about["task"] != task.name:
        raise InputError(f"{path} is of the training {about['task']!r}; expected {task.name!r}.")
    mesh = device_mesh(1)
    try:
        config = TrainConfig(**about["config"])
    except TypeError:
        raise InputError(
            f"{path} has settings that are unknown here; use the version that wrote it."
        ) from None
    blank = jax.eval_shape(lambda: start_state(task, config, mesh))
    like: TrainState = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(  # type: ignore[no-untyped-call]
            leaf.shape, leaf.dtype, sharding=replicated(mesh)
        ),
        blank,
    )
    if describe_leaves(like) != about["leaves"]:
        raise InputError(f"{path} is of a model with other sizes; use the version that wrote it.")
    return like
