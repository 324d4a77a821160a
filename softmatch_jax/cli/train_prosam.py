"""``softmatch train prosam``: open data and models, train, and keep the best encoder."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO, TypeAlias

import numpy as np

from softmatch_jax import __version__
from softmatch_jax._checks import InputError, check_positive
from softmatch_jax.cli.names import printable
from softmatch_jax.cli.train_ending import say_end
from softmatch_jax.cli.train_prosam_config import Select, TrainProsamConfig
from softmatch_jax.cli.train_prosam_data import PromptData, open_data
from softmatch_jax.cli.train_prosam_export import BEST, best_of, metadata_of
from softmatch_jax.cli.train_prosam_models import PromptModels, check_origin, open_models
from softmatch_jax.cli.train_run_file import check_free, check_run, plain_json, read_run, write_run
from softmatch_jax.models.prosam.weights import read_encoder, save_encoder
from softmatch_jax.training.config import TrainConfig
from softmatch_jax.training.loop import TrainResult, train
from softmatch_jax.training.metrics import FILE as METRICS
from softmatch_jax.training.metrics import read_metrics
from softmatch_jax.training.prompt_batches import PromptBatches
from softmatch_jax.training.prompt_task import PromptTask
from softmatch_jax.training.prompt_validation import PromptValidation
from softmatch_jax.training.sharding import device_mesh

Measure: TypeAlias = Callable[[Mapping[str, Any]], dict[str, float]]

_NOVEL = (
    "Note: the best encoder is chosen by the novel classes themselves (--select novel), as the published "
    "code does; what it then reaches on them is no figure for unseen classes."
)


def run_prosam(
    config: TrainProsamConfig, *, stdout: TextIO | None = None, stderr: TextIO | None = None
) -> int:
    """Trains, and leaves checkpoints, metrics, curves and the best encoder in the output folder.

    Args:
        config: Settings.
        stdout: Gets the last lines; by default standard output.
        stderr: Gets the progress; by default standard error.

    Returns:
        0, also when the time limit ended the training; 130 or 143 when a signal did.

    Raises:
        InputError: Something the user gave cannot be used. Nothing is written if that shows before training.
    """
    stdout, stderr = stdout or sys.stdout, stderr or sys.stderr
    used = _check(config)
    data = open_data(config)
    select = data.selection(config.select)
    training = settle_training(config, data.epoch)
    models = open_models(config)
    task = open_task(config, models)
    batches = PromptBatches(
        data.sources, models.store, task.encoder, size=config.batch_size, loss_side=task.config.loss_side
    )
    document = describe_prosam(config, training, task, data, models, batches.digest, select)
    validation = open_validation(config, task, data, models, select)
    if used:
        check_run(config.output, document)
    else:
        batches.batch(training.seed, 0)  # bad data should show before there is a folder
        write_run(config.output, document)
    if not config.quiet:
        _say_data(data, select, stderr)
    result = train(
        task,
        batches,
        training,
        config.output,
        resume=config.resume,
        quiet=config.quiet,
        stream=stderr,
        validate=None if validation is None else keeping_best(config.output, validation, task, document),
    )
    if read_run(config.output) is None:  # a training that was not started here, but has the same identity
        write_run(config.output, document)
    metric = None if validation is None else validation.metric
    return _say_end(config, training, metric, result, stdout, stderr)


def settle_training(config: TrainProsamConfig, epoch: int) -> TrainConfig:
    """The settings of the loop, with what is given in epochs of ``epoch`` pairs as steps.

    Raises:
        InputError: A number of epochs is not positive.
    """
    changes: dict[str, Any] = {}
    for name in ("epochs", "validate_epochs", "restart_epochs"):
        value = getattr(config, name)
        if value is not None:
            check_positive(f"--{name.replace('_', '-')}", value)
    steps = epoch / config.batch_size
    if config.epochs is not None:
        changes["steps"] = max(1, math.ceil(config.epochs * steps))
    if config.validate_epochs is not None:
        changes["validate_every"] = max(1, round(config.validate_epochs * steps))
    if config.schedule == "restarts" and not config.training.restart_every:
        changes["restart_every"] = max(1, round(config.restart_epochs * steps))
    return replace(config.training, **changes)


def open_task(config: TrainProsamConfig, models: PromptModels) -> PromptTask:
    """The task on these models.

    Raises:
        InputError: Settings do not fit each other, or the weights to start from are of another encoder.
    """
    store = models.store
    encoder = config.encoder.sized(store.features.dim, store.sam.dim)
    initial = None
    if config.init is not None:
        stored = read_encoder(Path(config.init).expanduser())
        check_origin(stored, models.about, config.init)
        if stored.config != encoder:
            now, was = asdict(encoder), asdict(stored.config)
            name = next(name for name in now if now[name] != was[name])
            raise InputError(
                f"{config.init} holds another encoder: encoder.{name} is {was[name]!r} there and "
                f"{now[name]!r} here; expected the same settings (--method and --encoder options)."
            )
        initial = stored.arrays
    return PromptTask(store.sam, encoder, config.distribution, config.prompts.plain(), initial=initial)


def open_validation(
    config: TrainProsamConfig, task: PromptTask, data: PromptData, models: PromptModels, select: Select
) -> PromptValidation | None:
    """What measures the encoder while it is trained; ``None`` where nothing is chosen."""
    if select == "none":
        return None
    questions = data.questions(select, config.validate_pairs)
    name = {"base": "val", "views": "val_views", "novel": "novel"}[select]
    return PromptValidation(name, questions, models.store, task.encoder, by_class=select != "views")


def describe_prosam(
    config: TrainProsamConfig,
    training: TrainConfig,
    task: PromptTask,
    data: PromptData,
    models: PromptModels,
    digest: str,
    select: Select,
) -> dict[str, Any]:
    """What decides a training, as JSON can hold it."""
    recipe = {
        "training": training.learned_with(),
        "encoder": asdict(task.encoder),
        "distribution": asdict(task.distribution),
        "prompts": task.settings["prompts"],
        "batch_size": config.batch_size,
        "annotation": [annotator.kind for annotator in data.annotators],
        "annotation_mode": config.annotation_mode,
        "sampling": config.sampling if data.data is not None else None,
        "view": asdict(config.view) if config.views else None,
    }
    digest_of_initial = None if config.init is None else read_encoder(Path(config.init).expanduser()).digest
    return plain_json(
        {
            "kind": "prosam",
            "models": models.about,
            "data": data.describe(),
            "digest": digest,
            "novel": list(data.data.novel) if data.data is not None else [],
            "init": digest_of_initial,
            "select": {"by": select, "pairs": config.validate_pairs, "digest": data.held_digest(select)},
            "recipe": recipe,
            "code": __version__,
        }
    )


def keeping_best(
    folder: Path, validation: PromptValidation, task: PromptTask, document: Mapping[str, Any]
) -> Measure:
    """Measures, and writes the encoder whenever it is better than all before, by the lines of metrics.

    These are cut where a resumed training goes on, so that one that was interrupted keeps the same encoder.
    """

    def measure(params: Mapping[str, Any]) -> dict[str, float]:
        found = validation(params)
        before = best_of(read_metrics(folder / METRICS), validation.metric)
        if before is None or found[validation.metric] > before[0]:
            save_encoder(
                folder / BEST,
                {name: np.asarray(array) for name, array in params["encoder"].items()},
                config=task.encoder,
                distribution=task.distribution,
                metadata={**metadata_of(document), **found},
            )
        return found

    return measure


def _check(config: TrainProsamConfig) -> bool:
    """The cheap checks, before anything is read; whether there is a training in the output folder."""
    check_positive("--batch-size", config.batch_size)
    check_positive("--validate-pairs", config.validate_pairs)
    used = check_free(config.output, resume=config.resume)
    device_mesh(config.training.devices)
    parts = config.training.devices * config.training.accumulate
    if config.batch_size % parts:
        raise InputError(
            f"--batch-size is {config.batch_size}; expected a multiple of {parts}, which is --devices times "
            "--accumulate."
        )
    return used


def _say_data(data: PromptData, select: Select, stderr: TextIO) -> None:
    total = sum(part.weight for part in data.parts)
    lines = []
    for part in data.parts:
        share = f"{100 * part.weight / total:.0f} % of what is drawn"
        lines.append(f"Data: {part.sources[0].name}, {part.pictures} pictures, {share}.")
    if data.data is not None and data.data.novel:
        lines.append(f"Novel classes, not trained on: {', '.join(data.data.novel)}.")
    if select == "novel":
        lines.append(_NOVEL)
    print(printable("\n".join(lines)), file=stderr, flush=True)


def _say_end(
    config: TrainProsamConfig,
    training: TrainConfig,
    metric: str | None,
    result: TrainResult,
    stdout: TextIO,
    stderr: TextIO,
) -> int:
    """The last lines, with the best encoder among them."""
    best = None if metric is None else best_of(result.history, metric)
    found = []
    if metric is not None and best is not None:
        last = [record[metric] for record in result.history if metric in record][-1]
        found = [f"Best {metric}: {best[0]:.4f} after step {best[1]} ({BEST}); last {last:.4f}."]
    use = f"--backend foundation --masks {config.masks} " if config.backend == "foundation" else ""
    tiny = "--embedded-weights FILE " if config.embedded_weights is not None else ""
    next_steps = (
        f"To export the weights: softmatch train export {printable(config.output)} -o weights.safetensors"
        + (" (with --best for the best)" if best is not None else ""),
        f"To use them: softmatch segment ... --method prosam {use}{tiny}--weights weights.safetensors",
    )
    return say_end(
        result,
        training.steps,
        config.output,
        next_steps,
        quiet=config.quiet,
        stdout=stdout,
        stderr=stderr,
        found=found,
    )
