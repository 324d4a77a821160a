"""From the words after ``softmatch train`` to settings."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from softmatch_jax._checks import InputError

if TYPE_CHECKING:
    from softmatch_jax.cli.train_config import ExportConfig, Stages, TrainSamConfig
    from softmatch_jax.cli.train_prosam_config import TrainProsamConfig

_FORM = "KIND:FOLDER[:PART][=WEIGHT], such as bsds500:/data/BSR:train=0.85"
_DRIVE = re.compile(r"[A-Za-z]:")
_PART = re.compile(r"[\w-]+")

_OF_EMBEDDED = ("--embedded-weights",)
_OF_FOUNDATION = (
    "--prosam-backbone", "--masks", "--masks-revision", "--sam-fit", "--runtime", "--device", "--dtype",
    "--offline",
)  # fmt: skip
_OF_DATASET = (
    "--sampling", "--fold", "--folds", "--scheme", "--novel", "--exclude", "--held-share", "--held-folder",
    "--held-seed", "--grouping", "--classes", "--layout", "--mask-threshold", "--void", "--label",
    "--min-area",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DataWords:
    """A data set as the command line names it.

    Attributes:
        kind: Of the data.
        root: Their folder.
        part: A part of them, or ``None`` for all.
        weight: How often pictures are drawn from here, relative to other data; ``None`` if it is not said.
    """

    kind: str
    root: Path
    part: str | None = None
    weight: float | None = None

    @property
    def name(self) -> str:
        """Without the place on this machine, so that a training may go on elsewhere."""
        words = [
            self.kind,
            self.root.resolve().name if self.kind in ("folder", "masks") else "",
            self.part or "",
        ]
        return " ".join(word for word in words if word)


def parse_data(text: str, option: str = "--data") -> DataWords:
    r"""Reads ``KIND:FOLDER[:PART][=WEIGHT]``.

    The kind ends at the first colon. The weight follows the last ``=``, if there is one in the last name of
    the path. The part follows the last colon left, if it is a plain word (letters, digits, ``_`` and ``-``);
    an empty one stands for all. The colon of a drive (``C:\data``) belongs to the folder.

    Raises:
        InputError: It is not in this form.
    """
    kind, colon, rest = text.partition(":")
    if not (kind and colon):
        raise InputError(f"{option} is {text!r}; expected {_FORM}.")
    place, weight = _split_weight(text, rest, option)
    drive = _DRIVE.match(place)
    start = drive.end() if drive else 0
    folder, colon, part = place[start:].rpartition(":")
    if colon and (not part or _PART.fullmatch(part)):
        place = place[:start] + folder
    else:
        part = ""
    if not place:
        raise InputError(
            f"{option} is {text!r}, without a folder (perhaps a shell variable is not set); expected {_FORM}."
        )
    return DataWords(kind=kind, root=Path(place).expanduser(), part=part or None, weight=weight)


def _split_weight(text: str, rest: str, option: str) -> tuple[str, float | None]:
    """What stands before the weight, and the weight."""
    last = re.split(r"[/\\]", rest)[-1]
    if "=" not in last:
        return rest, None
    place, _, word = rest.rpartition("=")
    try:
        weight = float(word)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise InputError(
            f"{option} is {text!r}, with the weight {word!r}; expected a number above 0 (where = belongs to "
            "the folder's name, write =1 behind it)."
        )
    return place, weight


def parse_stages(text: str) -> Stages:
    """Reads ``STEP:SIDE:COUNT``, with commas between stages.

    Raises:
        InputError: It is not in this form.
    """
    stages = []
    for stage in text.split(","):
        words = stage.strip().split(":")
        if len(words) != 3 or not all(word.isdecimal() for word in words):
            raise InputError(
                f"--stages is {text!r}; expected STEP:SIDE:COUNT with commas between, such as "
                "0:128:4,13000:192:4."
            )
        stages.append((int(words[0]), int(words[1]), int(words[2])))
    return tuple(stages)


def parse_sam(words: Sequence[str]) -> TrainSamConfig:
    """Parses what follows ``softmatch train sam``; prints help or a parser's error and exits where asked to.

    Raises:
        InputError: A setting is out of its range, or a folder or file is empty.
        SystemExit: Help was asked for, or a word cannot be parsed.
    """
    from softmatch_jax.cli.train_config import TrainSamConfig

    _check_given(words, ("-o", "--output", "--init", "--data", "--validate"))
    return tyro.cli(TrainSamConfig, prog="softmatch train sam", args=list(words))


def parse_prosam(words: Sequence[str]) -> TrainProsamConfig:
    """Parses what follows ``softmatch train prosam``, as :func:`parse_sam` does.

    Raises:
        InputError: As there, or an option has no effect with the others.
    """
    from softmatch_jax.cli.train_prosam_config import TrainProsamConfig, default_settings

    folders = ("--root", "--views", "--validate-views", "--held-folder", "--embedded-weights", "--cache")
    _check_given(words, ("-o", "--output", "--init", *folders))
    config = tyro.cli(
        TrainProsamConfig,
        prog="softmatch train prosam",
        args=list(words),
        default=default_settings(words),
    )
    _check_effect(config, [word.partition("=")[0].replace("_", "-") for word in words])
    return config


def _check_effect(config: TrainProsamConfig, given: Sequence[str]) -> None:
    """Raises ``InputError`` for an option that would be passed over."""
    passed_over: tuple[str, ...]
    if config.backend == "embedded":
        passed_over, what, cure = _OF_FOUNDATION, "the embedded models", "--backend foundation"
    else:
        passed_over, what, cure = _OF_EMBEDDED, "the foundation models", "--backend embedded"
    for options, owner, expected in (
        (passed_over, what, cure),
        (() if config.dataset else _OF_DATASET, "a training without a data set", "--dataset"),
        (("--held-share",) if config.held_folder else (), "a held-out folder", "no --held-folder"),
        (("--validate-pairs",) if config.select == "none" else (), "--select none", "another --select"),
    ):
        for option in given:
            if option in options:
                raise InputError(
                    f"{option} has no effect on {owner}; expected {expected} with it (or leave {option} out)."
                )
    pairs = [("--steps", "--epochs"), ("--validate-every", "--validate-epochs")]
    for one, other in (*pairs, ("--restart-every", "--restart-epochs")):
        if one in given and other in given:
            raise InputError(f"Both {one} and {other} are given; expected one of them.")
    if config.schedule == "cosine" and {"--restart-every", "--restart-epochs"} & set(given):
        raise InputError(
            "The learning rate does not restart along one cosine; expected --schedule restarts with "
            "--restart-every or --restart-epochs."
        )


def parse_export(words: Sequence[str]) -> ExportConfig:
    """Parses what follows ``softmatch train export``, as :func:`parse_sam` does."""
    from softmatch_jax.cli.train_config import ExportConfig

    _check_given(words, ("-o", "--output"))
    return tyro.cli(ExportConfig, prog="softmatch train export", args=list(words))


def _check_given(words: Sequence[str], options: Sequence[str]) -> None:
    """Raises ``InputError`` for an empty word, which would stand for the current folder."""
    for option, after in pairwise([*words, "-"]):
        name, equals, value = option.partition("=")
        if name in options and (value if equals else after) == "":
            name = "--output" if name == "-o" else name
            raise InputError(f"{name} is empty; expected a value (perhaps a shell variable is not set).")
