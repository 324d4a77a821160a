"""``softmatch train sam``: open the data, train, and say how to use what came of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from softmatch_jax._checks import InputError, check_positive
from softmatch_jax.cli.names import printable
from softmatch_jax.cli.train_arguments import DataWords, parse_data, parse_stages
from softmatch_jax.cli.train_config import TrainSamConfig
from softmatch_jax.cli.train_ending import say_end
from softmatch_jax.cli.train_run_file import check_free, check_run, describe_run, read_run, write_run
from softmatch_jax.cli.train_validation import open_validation
from softmatch_jax.data.region_sources import open_region_pictures
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.tiny_weights import load_weights
from softmatch_jax.training.loop import train
from softmatch_jax.training.region_batches import RegionBatches, RegionSource
from softmatch_jax.training.sam_recipe import RECIPES, SamRecipe
from softmatch_jax.training.sam_task import SamTask
from softmatch_jax.training.sharding import device_mesh


def run_sam(config: TrainSamConfig, *, stdout: TextIO | None = None, stderr: TextIO | None = None) -> int:
    """Trains, and leaves checkpoints, metrics and learning curves in the output folder.

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
    recipe = config.recipe(parse_stages(config.stages))
    used = _check(config, recipe)
    sources = open_sources([parse_data(text) for text in config.data])
    validate = open_validation(config.validate, config.validate_pictures, sources)
    initial = None if config.init is None else load_weights(Path(config.init))
    task = SamTask(recipe.sam, initial=initial)
    batches = RegionBatches(sources, recipe.batches)
    document = describe_run(config.preset, recipe, batches, task.settings["initial"])
    if used:
        check_run(config.output, document)
    else:
        batches.batch(recipe.training.seed, 0)  # bad data should show before there is a folder
        write_run(config.output, document)
    if not config.quiet:
        _say_data(sources, stderr)
    result = train(
        task,
        batches,
        recipe.training,
        config.output,
        resume=config.resume,
        quiet=config.quiet,
        stream=stderr,
        validate=validate,
    )
    if read_run(config.output) is None:  # a training that was not started here, but has the same identity
        write_run(config.output, document)
    next_steps = (
        f"To export the weights: softmatch train export {printable(config.output)} -o weights.safetensors",
        "To use them: softmatch segment ... --embedded-masks tiny --embedded-weights weights.safetensors",
    )
    steps = recipe.training.steps
    return say_end(result, steps, config.output, next_steps, quiet=config.quiet, stdout=stdout, stderr=stderr)


def open_sources(data: Sequence[DataWords]) -> list[RegionSource]:
    """The data sets to train on; those that would have one name are numbered.

    Raises:
        InputError: There are none, or as :func:`open_region_pictures`.
    """
    if not data:
        raise InputError(
            "No data was given; expected at least one --data KIND:FOLDER, such as bsds500:/data/BSR:train."
        )
    names: list[str] = []
    for each in data:
        same = sum(other.name == each.name for other in data[: len(names)])
        names.append(f"{each.name} {same + 1}" if same else each.name)
    return [
        RegionSource(
            name=name,
            pictures=open_region_pictures(each.kind, each.root, each.part),
            weight=1.0 if each.weight is None else each.weight,
        )
        for name, each in zip(names, data, strict=True)
    ]


def _check(config: TrainSamConfig, recipe: SamRecipe) -> bool:
    """The cheap checks, before anything is read; whether there is a training in the output folder."""
    if config.preset not in RECIPES:
        raise InputError(
            f"--preset is {config.preset!r}; expected {', '.join(RECIPES)}, the only one so far."
        )
    check_positive("--validate-pictures", config.validate_pictures)
    used = check_free(config.output, resume=config.resume)
    device_mesh(recipe.training.devices)
    parts = recipe.training.devices * recipe.training.accumulate
    for _, side, count in recipe.batches.stages:
        SamConfig.tiny(side)
        if count % parts:
            raise InputError(
                f"--stages has batches of {count} pictures; expected a multiple of {parts}, which is "
                "--devices times --accumulate."
            )
    return used


def _say_data(sources: Sequence[RegionSource], stderr: TextIO) -> None:
    total = sum(source.weight for source in sources)
    for source in sources:
        share = f"{100 * source.weight / total:.0f} % of what is drawn"
        line = f"Data: {source.name}, {len(source.pictures)} pictures, {share}."
        print(printable(line), file=stderr, flush=True)
