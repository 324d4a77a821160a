"""The loop that all trainings share: data, one step, metrics, checkpoint."""

from __future__ import annotations

import io
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax.data.files import make_folder
from softmatch_jax.imaging import atomic_write_bytes
from softmatch_jax.training.checkpoints import Checkpoints, Identity
from softmatch_jax.training.config import TrainConfig
from softmatch_jax.training.curves import draw_curves
from softmatch_jax.training.display import Display
from softmatch_jax.training.metrics import FILE, MetricsFile, Record, Window, check_names
from softmatch_jax.training.prefetch import Prefetcher
from softmatch_jax.training.sharding import count_pictures, device_mesh, place
from softmatch_jax.training.step import DeviceBatch, Outcome, Step, TrainState, make_step, start_state
from softmatch_jax.training.stopping import Stopper
from softmatch_jax.training.task import BatchSource, Described, Parameters, Task
from softmatch_jax.training.timing import Clock

_IN_FLIGHT = 2
"""Steps that may be under way on the device: enough to keep it busy, few enough to find a bad batch again."""


@dataclass(frozen=True)
class TrainResult:
    """What a training came to.

    Attributes:
        params: The parameters after the last step.
        averaged: Their running average, which is what to use.
        step: Number of steps done.
        skipped: How many of them were skipped, because they were not finite.
        history: The lines of metrics.
        stopped: Why the training stopped before its last step, or ``None``.
    """

    params: Parameters
    averaged: Parameters
    step: int
    skipped: int
    history: tuple[Record, ...]
    stopped: str | None


def train(
    task: Task,
    source: BatchSource,
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    quiet: bool = False,
    stream: TextIO | None = None,
    validate: Callable[[Parameters], Mapping[str, float]] | None = None,
) -> TrainResult:
    """Trains ``task`` on the batches of ``source``; ``folder`` gets checkpoints, metrics and their curves.

    On SIGTERM, SIGINT or at the time limit the step is finished and a checkpoint written. A resumed training
    goes on as if it had never stopped: batches, keys and state are those of the number of the step.

    Args:
        task: What is learned.
        source: Where the batches come from.
        config: The settings.
        folder: Of this training alone; made if it does not exist.
        resume: Go on from the newest checkpoint in ``folder``, if there is one.
        quiet: Show no progress.
        stream: Where progress is shown; standard error by default.
        validate: Measures the averaged parameters on held-out data, every ``config.validate_every`` steps and
            at the end; its numbers become a line of metrics of their own.

    Raises:
        InputError: ``folder`` holds a training and ``resume`` is not set, or another training; there are
            fewer devices than asked for, or a batch cannot be dealt out to them; a checkpoint cannot be
            written; or the loss is not finite for too many steps in a row.
    """
    folder = Path(folder)
    mesh = device_mesh(config.devices)
    checkpoints = Checkpoints(folder, _identity(task, source, config), config.keep)
    _prepare(folder, checkpoints, resume)
    state, done, progress = _start(checkpoints, start_state(task, config, mesh))
    metrics, window, clock = MetricsFile(folder, done), Window(progress["window"]), Clock(progress["seconds"])
    program = _Program(make_step(task, config, mesh), clock, folder, config.max_skipped)

    def make(step: int) -> DeviceBatch:
        return place(source.batch(config.seed, step), mesh, config.accumulate)

    def save() -> None:
        program.settle()
        kept = {"window": window.kept(), "seconds": clock.seconds}
        checkpoints.save(done, state, kept)
        draw_curves(folder, metrics.history)

    shown = None if quiet else stream or sys.stderr
    with (
        Display(shown, config.steps, done) as display,
        Stopper(config.max_minutes) as stopper,
        Prefetcher(make, done, config.steps, workers=config.workers, ahead=config.ahead) as batches,
    ):
        if done:
            display.say(f"Resumed after step {done} of {config.steps}.")
        saved, reason = done, None
        while done < config.steps and reason is None:
            with clock.of("waiting"):
                batch = batches.next()
            state, outcome = program(done, state, batch)
            window.add(outcome)
            clock.count(count_pictures(batch))
            done += 1
            display.step(done)
            if done % config.log_every == 0 or done == config.steps:
                program.settle()
                record = {"step": done, **window.close(), **clock.read()}
                metrics.append(record)
                display.record(record)
            # Before the checkpoint: what comes after it is lost when the process is killed in between.
            if validate and (done % config.validate_every == 0 or done == config.steps):
                program.settle()
                record = {"step": done, **validate(state.averaged)}
                metrics.append(record)
                display.record(record)
                draw_curves(folder, metrics.history)
            if done % config.save_every == 0 or done == config.steps:
                save()
                saved = done
            reason = stopper.reason if done < config.steps else None
        if reason and saved != done:
            save()
        if reason:
            display.say(f"Stopped after step {done} of {config.steps}: {reason}. {_advice(folder)}")
    skipped = int(state.skipped)
    return TrainResult(state.params, state.averaged, done, skipped, tuple(metrics.history), reason)


class _Program:
    """Runs steps on the device, a few at a time, and watches over their losses."""

    def __init__(self, step: Step, clock: Clock, folder: Path, max_skipped: int) -> None:
        self._step, self._clock, self._folder, self._max_skipped = step, clock, folder, max_skipped
        self._seen: set[Any] = set()
        self._flying: deque[tuple[int, DeviceBatch, Outcome]] = deque()

    def __call__(self, number: int, state: TrainState, batch: DeviceBatch) -> tuple[TrainState, Outcome]:
        variant = tuple((name, array.shape, str(array.dtype)) for name, array in sorted(batch.items()))
        if variant not in self._seen:
            # JAX compiles within the call; what is under way is waited for first, to count as steps.
            self.settle()
            with self._clock.of("compiling"):
                state, outcome = self._step(state, batch)
            check_names(outcome.values)
            self._seen.add(variant)
        else:
            with self._clock.of("stepping"):
                state, outcome = self._step(state, batch)
        self._flying.append((number, batch, outcome))
        self.settle(_IN_FLIGHT - 1)
        return state, outcome

    def settle(self, left: int = 0) -> None:
        """Waits until no more than ``left`` steps are under way.

        Raises:
            InputError: Too many of them in a row were not finite.
        """
        while len(self._flying) > left:
            number, batch, outcome = self._flying.popleft()
            with self._clock.of("stepping"):
                in_a_row = int(outcome.in_a_row)
            if in_a_row >= self._max_skipped:
                path = self._folder / f"not_finite_step_{number:08d}.npz"
                _write_batch(path, batch)
                raise InputError(
                    f"Loss or gradient was not finite in {in_a_row} steps in a row, up to step {number}, "
                    f"whose batch is in {path}; look at it, or start anew with a lower learning rate."
                )


def _prepare(folder: Path, checkpoints: Checkpoints, resume: bool) -> None:
    """Makes the folder, and sees that no earlier training is overwritten."""
    make_folder(folder)
    if not resume and (checkpoints.steps() or (folder / FILE).exists()):
        raise InputError(
            f"{folder} holds an earlier training; resume it, or choose an empty folder for a new one."
        )


def _start(checkpoints: Checkpoints, state: TrainState) -> tuple[TrainState, int, dict[str, Any]]:
    """The state of the newest checkpoint, or that before the first step."""
    restored = checkpoints.restore(state)
    return restored or (state, 0, {"window": None, "seconds": 0.0})


def _identity(task: Task, source: BatchSource, config: TrainConfig) -> Identity:
    settings = dict(task.settings) if isinstance(task, Described) else {}
    return Identity(task=task.name, settings=settings, config=config.learned_with(), data=source.digest)


def _advice(folder: Path) -> str:
    return f"Its checkpoint is in {folder}; resume to go on."


def _write_batch(path: Path, batch: DeviceBatch) -> None:
    arrays: dict[str, Any] = {name: np.asarray(array) for name, array in jax.device_get(dict(batch)).items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    atomic_write_bytes(path, buffer.getvalue())
