"""Which options go with which method of ``softmatch segment``."""

from __future__ import annotations

from collections.abc import Sequence

from softmatch_jax._checks import InputError
from softmatch_jax.cli.config import SegmentConfig

_OF_PROSAM = ("--weights", "--prosam-backbone", "--strategy", "--samples", "--skip-uncertainty", "--complete")
_OF_SOFTMATCHER = (
    "--stride",
    "--embedded-masks",
    "--embedded-features",
    "--variant",
    "--text",
    "--features",
    "--features-revision",
    "--text-model",
    "--text-model-revision",
    "--size",
    "--fit",
    "--layer",
    "--norm",
)
_GROUPS_OF_SOFTMATCHER = ("--matching.", "--prompting.", "--decision.", "--completion.")
_OF_BOTH = "--decision.min-area"
_OF_PIPELINES = ("--cache", "--cache-half", "--cache-limit-mb", "--chunk")
_FOUNDATION = (
    "--masks",
    "--masks-revision",
    "--runtime",
    "--device",
    "--dtype",
    "--offline",
    "--cache",
    "--cache-half",
    "--cache-limit-mb",
    "--chunk",
    "--prosam-backbone",
)


def check_method_options(config: SegmentConfig, words: Sequence[str]) -> None:
    """Checks that no option is given that the method would pass over.

    Args:
        config: What the words were parsed to.
        words: Of the command line, those of the references aside.

    Raises:
        InputError: One is, or the foundation's prompt encoder is not named.
    """
    given = _given(words)
    if config.method != "prosam":
        _refuse(given, _OF_PROSAM, "the method softmatcher", "--method prosam")
        return
    refuse_of_matching(words, "--method softmatcher")
    if config.backend == "embedded":
        _refuse(given, _FOUNDATION, "the embedded models", "--backend foundation")
        return
    _refuse(given, ("--embedded-weights",), "the foundation models", "--backend embedded")
    if config.weights is None:
        raise InputError(
            "--method prosam with --backend foundation has no weights of its own; expected --weights FILE "
            "with it (softmatch train prosam makes them)."
        )


def refuse_of_matching(words: Sequence[str], cure: str) -> None:
    """Raises ``InputError`` for an option that says how features are matched, where prosam is the method.

    Args:
        words: Of the command line.
        cure: What would make such an option count.
    """
    own = [option for option in _given(words) if option != _OF_BOTH]
    grouped = [option for option in own if option.startswith(_GROUPS_OF_SOFTMATCHER)]
    _refuse(own, (*_OF_SOFTMATCHER, *grouped), "the method prosam", cure)


def refuse_of_pipelines(words: Sequence[str]) -> None:
    """Raises ``InputError`` for an option that a study, which runs no pipeline, passes over."""
    for option in _given(words):
        if option in (*_OF_SOFTMATCHER, *_OF_PIPELINES):
            raise InputError(
                f"{option} has no effect on a study, which asks the encoders alone; leave it out."
            )


def _given(words: Sequence[str]) -> list[str]:
    end = words.index("--") if "--" in words else len(words)
    return [_option(word) for word in words[:end] if word.startswith("--")]


def _option(word: str) -> str:
    """The option of a word, that of a switch for either of its forms."""
    return word.partition("=")[0].replace("_", "-").replace("--no-", "--", 1)


def _refuse(given: Sequence[str], passed_over: Sequence[str], what: str, cure: str) -> None:
    for option in given:
        if option in passed_over:
            raise InputError(
                f"{option} has no effect on {what}; expected {cure} with it (or leave {option} out)."
            )
