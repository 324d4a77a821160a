"""From the words after ``softmatch study`` to settings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import tyro

from softmatch_jax._checks import InputError
from softmatch_jax.cli.method_options import refuse_of_pipelines
from softmatch_jax.cli.study_config import ON_ENCODERS, ON_TRAININGS, STUDIES, StudyConfig

_NOT_EMPTY = ("--root", "--output", "-o", "--views", "--contender", "--embedded-weights", "--held-folder")
_OF_DATA = (
    "root", "sampling", "fold", "folds", "scheme", "novel", "exclude", "held-share", "held-folder",
    "held-seed", "grouping", "classes", "layout", "mask-threshold", "void", "label", "min-area",
)  # fmt: skip


def parse_study(words: Sequence[str]) -> StudyConfig:
    """Parses the command line; prints help or a parser's error and exits where asked to.

    Raises:
        InputError: There is no such study, an option has no effect, or a value is out of range.
        SystemExit: Help was asked for, or a word cannot be parsed.
    """
    for option, after in pairwise([*words, "-"]):
        name, equals, value = option.partition("=")
        if name in _NOT_EMPTY and (value if equals else after) == "":
            name = "--output" if name == "-o" else name
            raise InputError(f"{name} is empty; expected a value (perhaps a shell variable is not set).")
    config: StudyConfig = tyro.cli(StudyConfig, prog="softmatch study", args=list(words))
    if config.study not in STUDIES:
        raise InputError(f"{config.study!r} is not a study; expected one of {', '.join(STUDIES)}.")
    given = [
        word.partition("=")[0].removeprefix("--").replace("_", "-") for word in words if word[:2] == "--"
    ]
    refuse_of_pipelines(words)
    _check_settings(config, given)
    _check_data(config, given)
    return config


def parse_contenders(texts: Sequence[str]) -> list[tuple[str, str]]:
    """``NAME=WEIGHTS`` as names and files.

    Raises:
        InputError: One is not in this form.
    """
    found = []
    for text in texts:
        name, equals, file = text.partition("=")
        if not (equals and name.strip() and file):
            raise InputError(
                f"--contender is {text!r}; expected NAME=WEIGHTS, such as prosam=runs/prosam.safetensors."
            )
        found.append((name.strip(), file))
    return found


def _check_settings(config: StudyConfig, given: Sequence[str]) -> None:
    """Refuses settings of another study."""
    for name in (*ON_ENCODERS, "trainings"):
        wrong = next((option for option in given if option.startswith(f"{name}.")), None)
        if wrong is not None and name != config.settings:
            raise InputError(
                f"--{wrong} is given for the study {config.study}; expected settings of "
                f"--{config.settings}.* (leave it out)."
            )
    if config.plan and config.study not in ON_TRAININGS:
        raise InputError(
            f"--plan is given for the study {config.study}, which compares no trainings; expected it with "
            f"{', '.join(ON_TRAININGS)} (leave it out)."
        )


def _check_data(config: StudyConfig, given: Sequence[str]) -> None:
    """Refuses data that are not named, named twice, or options that do not go with them."""
    if config.views is not None and config.dataset is not None:
        raise InputError("Both --views and --dataset say where questions come from; expected one of them.")
    if config.views is None and config.dataset is None:
        raise InputError("No data was given; expected --dataset NAME --root FOLDER, or --views KIND:FOLDER.")
    if config.dataset is not None and config.root is None:
        raise InputError(f"--dataset {config.dataset} needs its folder; expected --root FOLDER.")
    others = [option for option in given if option in _OF_DATA] if config.views is not None else []
    others += [option for option in given if option.startswith("view.")] if config.views is None else []
    if others:
        owner = "a data set" if config.views is not None else "--views"
        raise InputError(f"--{others[0]} is given without {owner}; expected both, or neither.")
    if config.study == "domain" and (config.dataset != "pascal5i" or config.fold is None):
        raise InputError(
            "The study domain asks encoders of a fold of COCO-20i about PASCAL; expected --dataset pascal5i "
            "with --fold, the fold that they were trained on."
        )
    if config.study == "domain" and "grouping" in given:
        raise InputError("--grouping is given for the study domain, which has both; leave it out.")
