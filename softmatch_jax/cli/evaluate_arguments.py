"""From the words after ``softmatch evaluate`` to settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import tyro

from softmatch_jax._checks import InputError
from softmatch_jax.cli.arguments import check_options, chosen_settings
from softmatch_jax.cli.evaluate_config import EvaluateConfig
from softmatch_jax.cli.method_options import refuse_of_matching
from softmatch_jax.pipelines.one_class_names import ONE_CLASS_METHODS, PROSAM

DEFAULT_METHOD = "geometric"


def parse_evaluate(words: Sequence[str]) -> EvaluateConfig:
    """Parses the command line; prints help or a parser's error and exits where asked to.

    Raises:
        InputError: A method is unknown or given twice, or an option has no effect.
        SystemExit: Help was asked for, or a word cannot be parsed.
    """
    # Before the parser, which would find that the method does not go with other settings.
    if any(word.partition("=")[0] == "--matching.method" for word in words):
        raise InputError("--matching.method is given; expected --method NAME in its place.")
    settings, missing = chosen_settings(words), _missing()
    default = EvaluateConfig(
        dataset=missing,
        root=missing,
        output=missing,
        matching=settings.matching,
        prompting=settings.prompting,
        decision=settings.decision,
        completion=settings.completion,
    )
    config: EvaluateConfig = tyro.cli(
        EvaluateConfig, prog="softmatch evaluate", args=list(words), default=default
    )
    check_options(config.backend, words)
    _check_folders(words)
    config = replace(config, method=methods(config.method))
    _check_prosam(config)
    if config.method == (PROSAM,):
        refuse_of_matching(words, "a --method that matches")
    return config


def _check_prosam(config: EvaluateConfig) -> None:
    """Raises ``InputError`` unless a prompt encoder and what is said of it go together."""
    if PROSAM not in config.method:
        for option, value in (("weights", config.weights), ("prosam-backbone", config.prosam_backbone)):
            if value is not None:
                raise InputError(
                    f"--{option} has no effect on {', '.join(config.method)}; expected --method prosam with "
                    "it (or leave it out)."
                )
    elif config.backend == "embedded" and config.prosam_backbone is not None:
        raise InputError(
            "--prosam-backbone has no effect on the embedded models; expected --backend foundation with it "
            "(or leave it out)."
        )
    elif config.backend == "foundation" and config.weights is None:
        raise InputError(
            "--method prosam with --backend foundation has no weights of its own; expected --weights FILE "
            "with it (softmatch train prosam makes them)."
        )


def _check_folders(words: Sequence[str]) -> None:
    """Raises ``InputError`` for an empty word, which would stand for the current folder."""
    for option, after in pairwise([*words, "-"]):
        name, equals, value = option.partition("=")
        if name in ("--root", "--output", "-o") and (value if equals else after) == "":
            name = "--output" if name == "-o" else name
            raise InputError(f"{name} is empty; expected a folder (perhaps a shell variable is not set).")


def methods(names: Sequence[str]) -> tuple[str, ...]:
    """The methods that are asked for; ``all`` stands for every one that needs no training.

    Raises:
        InputError: One is unknown or given twice.
    """
    chosen = tuple(names) or (DEFAULT_METHOD,)
    for name in chosen:
        if name not in (*ONE_CLASS_METHODS, PROSAM, "all"):
            known = ", ".join((*ONE_CLASS_METHODS, PROSAM))
            raise InputError(f"--method is {name!r}; expected one of {known}, or all.")
    if "all" in chosen:
        return (*ONE_CLASS_METHODS, PROSAM) if PROSAM in chosen else ONE_CLASS_METHODS
    twice = next((name for name in chosen if chosen.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"--method {twice} is given twice; expected it once.")
    return chosen


def parse_labels(texts: Sequence[str]) -> dict[int, str] | None:
    """``3=road`` and the like as names by value; ``None`` for none.

    Raises:
        InputError: One is not in this form, or a value has two names.
    """
    names: dict[int, str] = {}
    for text in texts:
        value, equals, name = text.partition("=")
        if not (equals and value.strip().isdecimal() and name.strip()):
            raise InputError(f"--label is {text!r}; expected a value and its name, such as 3=road.")
        if int(value) in names:
            raise InputError(f"--label names the value {int(value)} twice; expected one name for it.")
        names[int(value)] = name.strip()
    return names or None


def _missing() -> Any:
    return tyro.MISSING


def parse_shard(text: str | None) -> tuple[int, int]:
    """``i/n`` as two numbers; the whole is 1/1.

    Raises:
        InputError: It is not in this form, or ``i`` is not in ``1..n``.
    """
    if text is None:
        return 1, 1
    first, slash, second = text.partition("/")
    if not (slash and first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second)):
        raise InputError(f"--shard is {text!r}; expected i/n with i from 1 to n, such as 1/4.")
    return int(first), int(second)
