"""``softmatch study``: a study of the ProSAM paper on trained encoders, with a document and a figure."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TextIO

import jax

from softmatch_jax import __version__
from softmatch_jax._checks import InputError
from softmatch_jax.cli.names import printable
from softmatch_jax.cli.progress import Step, progress
from softmatch_jax.cli.study_arguments import parse_contenders
from softmatch_jax.cli.study_config import ON_TRAININGS, StudyConfig
from softmatch_jax.cli.study_contenders import Entrant, load_contenders, read_entrant, read_entrants
from softmatch_jax.cli.study_data import StudyData, describe_data, open_data
from softmatch_jax.cli.study_training import Slot, commands, missing_slots
from softmatch_jax.data.files import make_folder
from softmatch_jax.imaging import atomic_write_text
from softmatch_jax.studies.centre import study_centre
from softmatch_jax.studies.curvature import study_curvature
from softmatch_jax.studies.descent import study_descent
from softmatch_jax.studies.noise import study_noise
from softmatch_jax.studies.question import Contender, Question
from softmatch_jax.studies.rates import study_rates
from softmatch_jax.studies.report import StudyResult
from softmatch_jax.studies.strategies_study import study_strategies
from softmatch_jax.studies.trainings import study_trainings

FORMAT = "softmatch-study-1"

_STUDIES: dict[str, Callable[..., StudyResult]] = {
    "noise": study_noise,
    "centre": study_centre,
    "strategies": study_strategies,
    "rates": study_rates,
    "curvature": study_curvature,
    "descent": study_descent,
}


def run_study(config: StudyConfig, *, stdout: TextIO | None = None, stderr: TextIO | None = None) -> int:
    """Asks the contenders, writes ``NAME.json`` and ``NAME.png``, and prints what came out.

    Args:
        config: Settings.
        stdout: Gets the conclusion, and how to train what is missing; by default standard output.
        stderr: Gets the progress; by default standard error.

    Returns:
        0.

    Raises:
        InputError: Something the user gave cannot be used. Nothing is written then.
    """
    stdout, stderr = stdout or sys.stdout, stderr or sys.stderr
    if config.plan:
        stored = [read_entrant(*named).stored for named in parse_contenders(config.contender)]
        print("\n".join(commands(config, missing_slots(config.study, stored))), file=stdout)
        return 0
    _check_free(config)
    entrants = read_entrants(config)
    parts = open_data(config)
    contenders = load_contenders(config, entrants)
    result = _ask(config, contenders, parts, stderr)
    make_folder(config.output)
    _write(config, entrants, parts, result, stderr)
    print(printable(result.conclusion), file=stdout)
    if config.study in ON_TRAININGS:
        missing = missing_slots(config.study, [entrant.stored for entrant in entrants])
        if missing:
            print(_advice(config, missing), file=stdout)
    return 0


def _advice(config: StudyConfig, missing: Sequence[Slot]) -> str:
    """How to train what is missing, or which, where the questions leave nothing to train on."""
    try:
        return "\n".join(["Not among the contenders; to train them:", *commands(config, missing)])
    except InputError:
        return f"Not among the contenders: {', '.join(slot.name for slot in missing)}."


def _ask(
    config: StudyConfig, contenders: list[Contender], parts: tuple[StudyData, ...], stderr: TextIO
) -> StudyResult:
    key = jax.random.key(config.seed)
    settings = getattr(config, config.settings)
    if config.study not in ON_TRAININGS:
        (part,) = parts
        with progress(part.count, quiet=config.quiet, stream=stderr) as step:
            questions = _told(part, step, contenders[0])
            return _STUDIES[config.study](contenders, questions, settings, key=key)
    looks = {(each.predictor.features.name, each.predictor.config.to_grid) for each in contenders}
    total = sum(part.count for part in parts) * len(looks)
    with progress(total, quiet=config.quiet, stream=stderr) as step:
        asks = {part.name: partial(_told, part, step) for part in parts}
        return study_trainings(config.study, contenders, asks, settings, key=key)


def _told(part: StudyData, step: Step, contender: Contender) -> Iterator[Question]:
    """The questions, each told of when it is through."""
    for question in part.asks(contender):
        yield question
        step(printable(f"{question.class_name} in {question.target}"))


def _check_free(config: StudyConfig) -> None:
    """Raises ``InputError`` where results are in the way."""
    if config.output.exists() and not config.output.is_dir():
        raise InputError(f"The output {config.output} is not a folder; expected another -o.")
    for suffix in (".json", ".png"):
        path = config.output / f"{config.study}{suffix}"
        if path.exists() and not config.overwrite:
            raise InputError(
                f"{path} is there already; expected --overwrite to replace it, or another folder (-o)."
            )


def _write(
    config: StudyConfig,
    entrants: list[Entrant],
    parts: tuple[StudyData, ...],
    result: StudyResult,
    stderr: TextIO,
) -> None:
    """The figure, and then the document, whose presence says that all is there."""
    figure = config.output / f"{config.study}.png"
    if importlib.util.find_spec("matplotlib") is not None:
        result.figure(figure)
    else:
        figure.unlink(missing_ok=True)  # an earlier one would show other numbers
        print(
            "There is no figure: matplotlib is not installed (pip install 'softmatch-jax[notebooks]').",
            file=stderr,
        )
    document: dict[str, Any] = {
        "format": FORMAT,
        "study": config.study,
        "code": __version__,
        "conclusion": result.conclusion,
        "data": describe_data(config, parts),
        "contenders": [entrant.describe() for entrant in entrants],
        "result": {name: value for name, value in result.to_json().items() if name != "conclusion"},
    }
    text = json.dumps(document, indent=2, allow_nan=False)
    atomic_write_text(config.output / f"{config.study}.json", f"{text}\n")
