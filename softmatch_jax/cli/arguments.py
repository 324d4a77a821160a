"""From the words of the command line to settings.

``--reference`` may be given many times, and what follows it belongs to it; parsers know no such
groups. So the words of the groups are taken out first, and each group, like the rest, is parsed by
itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

import tyro

from softmatch_jax._checks import InputError
from softmatch_jax.cli.config import ReferenceConfig, SegmentConfig
from softmatch_jax.cli.method_options import check_method_options
from softmatch_jax.pipelines.config import ModelsConfig, SoftmatcherConfig

REFERENCE_OPTIONS = tuple("--" + field.name.replace("_", "-") for field in fields(ReferenceConfig))
"""Options that describe a reference; each takes one value."""

_OF_EMBEDDED = ("--stride", "--embedded-masks", "--embedded-features", "--embedded-weights")
_OF_FOUNDATION = (
    "--variant",
    "--text",
    *("--" + field.name.replace("_", "-") for field in fields(ModelsConfig)),
    *("--no-" + field.name.replace("_", "-") for field in fields(ModelsConfig) if field.type == "bool"),
)
_REPEATABLE = ("--point", "--negative-point")
_PROGRAM = "softmatch segment"
_EXAMPLE = "\n\n  softmatch segment --reference duck.jpg --mask duck.png --class-name duck photos/ -o out\n"


class SplitWords(NamedTuple):
    """Words of a command line, sorted.

    Attributes:
        groups: For each ``--reference`` its words, all as ``--option=value``.
        rest: All other words in their order.
    """

    groups: tuple[tuple[str, ...], ...]
    rest: tuple[str, ...]


def split_references(words: Sequence[str]) -> SplitWords:
    """Takes the groups that ``--reference`` opens out of the words of a command line.

    Raises:
        InputError: An option of this set comes before any ``--reference``, twice in one group, or
            without its value.
    """
    groups: list[list[str]] = []
    rest: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        if word == "--":
            rest += words[position:]
            break
        option, equals, value = word.partition("=")
        option = option.replace("_", "-")
        position += 1
        if option not in REFERENCE_OPTIONS:
            rest.append(word)
            continue
        if not equals:
            value = _value(option, words[position : position + 1])
            position += 1
        if option == "--reference":
            groups.append([])
        _check_place(option, value, groups)
        groups[-1].append(f"{option}={value}")
    return SplitWords(tuple(map(tuple, groups)), tuple(rest))


def _value(option: str, following: Sequence[str]) -> str:
    """The word after an option; numbers may be negative, other values do not begin with a dash."""
    if following and (not following[0].startswith("-") or following[0][1:2].isdigit()):
        return following[0]
    found = f"is followed by {following[0]}" if following else "is the last word"
    raise InputError(f"{option} {found}; expected its value (one that begins with a dash as {option}=VALUE).")


def _check_place(option: str, value: str, groups: Sequence[Sequence[str]]) -> None:
    if not groups:
        raise InputError(
            f"{option} {value} comes before any --reference; expected --reference IMAGE first, then the "
            "options that describe it."
        )
    given = [word.partition("=")[0] for word in groups[-1]]
    if option in given and option not in _REPEATABLE:
        raise InputError(
            f"{option} is given twice for {groups[-1][0].replace('=', ' ', 1)}; expected it once "
            "(repeat --reference for another example)."
        )


@dataclass(frozen=True, kw_only=True)
class _SegmentHelp:
    """Both classes, for their help to be printed together."""

    reference: Annotated[ReferenceConfig, tyro.conf.OmitArgPrefixes]
    segment: Annotated[SegmentConfig, tyro.conf.arg(name="")]


def parse_segment(words: Sequence[str]) -> tuple[SegmentConfig, tuple[ReferenceConfig, ...]]:
    """Parses what follows ``softmatch segment``; prints help or a parser's error and exits where asked to.

    Raises:
        InputError: As :func:`split_references`, or there is no reference or no target.
        SystemExit: Help was asked for, or a word cannot be parsed.
    """
    options = words[: words.index("--")] if "--" in words else words
    if "-h" in options or "--help" in options:
        doc = (SegmentConfig.__doc__ or "").split("\n", 1)[0]
        missing: Any = tyro.MISSING
        help_default = _SegmentHelp(reference=ReferenceConfig(reference=missing), segment=preset(options))
        _parse(_SegmentHelp, ["--help"], default=help_default, description=doc + _EXAMPLE)
    groups, rest = split_references(words)
    following = dict(pairwise(rest))
    if "" in (following.get("-o"), following.get("--output")) or "--output=" in rest:
        raise InputError("--output is empty; expected a folder (perhaps a shell variable is not set).")
    if following.get("--cache") == "" or "--cache=" in rest:
        raise InputError("--cache is empty; expected a folder (perhaps a shell variable is not set).")
    config = _parse_interleaved(rest)
    check_method_options(config, rest)
    if config.method == "softmatcher":
        check_options(config.backend, rest)
    references = tuple(_parse(ReferenceConfig, group) for group in groups)
    if not references:
        raise InputError(
            "No reference was given; expected at least one, such as --reference a.jpg --mask a.png."
        )
    if not config.targets:
        raise InputError("No target was given; expected files, folders or patterns such as 'photos/*.jpg'.")
    return config, references


def preset(words: Sequence[str]) -> SegmentConfig:
    """The defaults that go with the back-end and the variant among the words; targets are missing."""
    chosen = chosen_settings(words)
    missing: Any = tyro.MISSING
    return SegmentConfig(
        targets=missing,
        output=missing,
        matching=chosen.matching,
        prompting=chosen.prompting,
        decision=chosen.decision,
        completion=chosen.completion,
    )


def chosen_settings(words: Sequence[str], *, masks: str = "grabcut") -> SoftmatcherConfig:
    """The settings of the pipeline that go with the back-end, its masks and the variant among the words.

    Args:
        words: The command line.
        masks: What makes masks with the embedded models where the words do not say.
    """
    if _last_value("--backend", words) != "foundation":
        return SoftmatcherConfig.embedded(_last_value("--embedded-masks", words) or masks)
    graph = _last_value("--variant", words) == "graph"
    return SoftmatcherConfig.graph() if graph else SoftmatcherConfig.foundation()


def _last_value(option: str, words: Sequence[str]) -> str | None:
    """The value of an option, the last one where it is given more than once."""
    found = None
    for word, after in pairwise([*words, ""]):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == option:
            found = value if equals else after
    return found


def check_options(backend: str, words: Sequence[str], *, masks: str = "grabcut") -> None:
    """Raises ``InputError`` where an option is given that the back-end would pass over.

    Args:
        backend: The pair of models.
        words: The command line.
        masks: What makes masks with the embedded models where the words do not say.
    """
    end = words.index("--") if "--" in words else len(words)
    given = [word.partition("=")[0].replace("_", "-") for word in words[:end]]
    if backend != "embedded":
        for option in given:
            if option in _OF_EMBEDDED:
                raise InputError(
                    f"{option} has no effect on the foundation models; expected --backend embedded with it "
                    f"(or leave {option} out)."
                )
        return
    if "--stride" in given and _last_value("--embedded-features", words[:end]) == "tiny":
        raise InputError(
            "--stride has no effect on the features of the small SAM; expected --embedded-features "
            "descriptor or joined with it (or leave --stride out)."
        )
    # A generator that takes points is prompted with scribbles, whichever back-end it belongs to.
    prompted = (_last_value("--embedded-masks", words[:end]) or masks) in ("tiny", "both")
    for option in given:
        if option in _OF_FOUNDATION or (option.startswith("--completion.") and not prompted):
            raise InputError(
                f"{option} has no effect on the embedded models; expected --backend foundation with it (or "
                f"leave {option} out)."
            )


def _parse_interleaved(words: Sequence[str]) -> SegmentConfig:
    """Parses targets that options may stand between; the parser takes only the first run of them."""
    end = words.index("--") if "--" in words else len(words)
    default = preset(words[:end])
    config, left = tyro.cli(
        SegmentConfig,
        prog=_PROGRAM,
        args=words[:end],
        default=default,
        return_unknown_args=True,
    )
    unknown = [word for word in left if word.startswith("-")]
    if unknown:
        # Once more, for the parser's own message with its suggestions.
        _parse(SegmentConfig, [f"--output={config.output}", *unknown], default=default)
    return replace(config, targets=(*config.targets, *left, *words[end + 1 :]))


def _parse(
    kind: Any,
    words: Sequence[str],
    *,
    default: Any = tyro.MISSING_NONPROP,
    description: str | None = None,
) -> Any:
    return tyro.cli(kind, prog=_PROGRAM, args=words, default=default, description=description)
