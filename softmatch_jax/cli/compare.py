"""``softmatch compare``: two evaluations, episode by episode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro import conf

from softmatch_jax._checks import InputError
from softmatch_jax.cli.names import printable

if TYPE_CHECKING:
    from softmatch_jax.evaluation.pairing import Comparison
    from softmatch_jax.evaluation.pooling import EpisodeScore

_MUST_AGREE = ("data", "lists", "sampling", "raster")
_MOST_CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Compares two evaluations over the same episodes: is B better than A, and where?

    Attributes:
        a: The folder of a run: that of one method in an output folder of softmatch evaluate.
        b: The folder of another.
        common: Compare the episodes that both have, where one lacks some.
        json: Print the results as JSON, and nothing else, on standard output.
    """

    a: Annotated[Path, conf.Positional, conf.arg(metavar="A")]
    b: Annotated[Path, conf.Positional, conf.arg(metavar="B")]
    common: Annotated[bool, conf.FlagCreatePairsOff, conf.arg(help_behavior_hint="")] = False
    json: Annotated[bool, conf.FlagCreatePairsOff, conf.arg(help_behavior_hint="")] = False


@dataclass(frozen=True)
class Run:
    """An evaluation that is to be compared.

    Attributes:
        root: Its folder.
        made_with: What it was made with.
        scores: Its episodes, without those that failed.
    """

    root: Path
    made_with: dict[str, Any]
    scores: list[EpisodeScore] = field(repr=False)


def run_compare(words: Sequence[str]) -> int:
    """Runs what follows ``softmatch compare``.

    Returns:
        0.

    Raises:
        InputError: A folder holds no run, or the runs asked different questions.
        SystemExit: Help was asked for, or a word cannot be parsed.
    """
    config = tyro.cli(CompareConfig, prog="softmatch compare", args=list(words))
    from softmatch_jax.cli.records import to_json
    from softmatch_jax.evaluation.pairing import compare
    from softmatch_jax.evaluation.table import EpisodeTable

    a, b = _load(config.a), _load(config.b)
    _check_comparable(a, b)
    left_out = 0
    if config.common:
        a, b, left_out = _common(a, b)
    else:
        _check_complete(a, b)
    found = compare(EpisodeTable.of(a.scores), EpisodeTable.of(b.scores))
    differences = list(_differences(a.made_with, b.made_with))
    if config.json:
        document = {"a": str(a.root), "b": str(b.root), "differ_in": differences, "left_out": left_out}
        document |= asdict(found)
        document["differences"] = {name: one._asdict() for name, one in found.differences.items()}
        print(printable(to_json(document)), end="")
    else:
        print(_report(a, b, differences, found, left_out), end="")
    return 0


def _load(root: Path) -> Run:
    from softmatch_jax.evaluation.report import collect, scores
    from softmatch_jax.evaluation.run_file import RUN, read_run

    inside = sorted(path.parent for path in root.glob(f"*/{RUN}"))
    if not (root / RUN).is_file() and inside:
        if len(inside) > 1:
            names = ", ".join(path.name for path in inside)
            raise InputError(
                f"{root} holds {len(inside)} runs ({names}); expected the folder of one of them."
            )
        root = inside[0]
    made_with = read_run(root)
    done = collect(root).done
    if not done:
        raise InputError(f"{root} has no finished episode; expected some (run softmatch evaluate first).")
    return Run(root, made_with, scores(done))


def _check_comparable(a: Run, b: Run) -> None:
    for name in _MUST_AGREE:
        before, now = a.made_with.get(name), b.made_with.get(name)
        if before != now:
            # The lists are kept as a checksum, which tells a person nothing.
            what = (
                "the classes, the pictures or how masks are read differ"
                if name == "lists"
                else f"{name} is {before} and {now}"
            )
            raise InputError(
                f"{a.root} and {b.root} asked different questions: {what}; expected runs over the same "
                "episodes."
            )


def _check_complete(a: Run, b: Run) -> None:
    """Raises ``InputError`` where one run lacks an episode that the other has."""
    first, second = ({(s.seed, s.index) for s in run.scores} for run in (a, b))
    if first != second:
        raise InputError(
            f"{len(first - second)} of the episodes done in {a.root} are not in {b.root}, and "
            f"{len(second - first)} the other way; expected the same (finish both runs, or compare what they "
            "share with --common)."
        )


def _common(a: Run, b: Run) -> tuple[Run, Run, int]:
    """Both runs without the episodes that one of them lacks, and how many there were."""
    both = {(s.seed, s.index) for s in a.scores} & {(s.seed, s.index) for s in b.scores}
    if not both:
        raise InputError(f"{a.root} and {b.root} have no episode in common; expected the same seeds.")
    kept = [
        Run(run.root, run.made_with, [s for s in run.scores if (s.seed, s.index) in both]) for run in (a, b)
    ]
    return kept[0], kept[1], len(a.scores) + len(b.scores) - 2 * len(both)


def _differences(a: Mapping[str, Any], b: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """All settings in which two runs differ, in words."""
    for key in (*a, *(key for key in b if key not in a)):
        name = f"{where}.{key}" if where else key
        before, now = a.get(key), b.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _differences(before, now, name)
        elif before != now:
            yield f"{name}: {before} | {now}"


def _report(a: Run, b: Run, differences: list[str], found: Comparison, left_out: int) -> str:
    from softmatch_jax.evaluation.markdown import HEADINGS

    lines = [f"A: {printable(a.root)}", f"B: {printable(b.root)}", ""]
    lines += [f"{a.made_with['data']}, {len(a.scores)} episodes."]
    if left_out:
        lines += [f"{left_out} episodes that only one of them has are left out."]
    lines += ["", "Settings that differ, A | B:", *(f"  {text}" for text in differences or ["none"]), ""]
    lines += ["| B minus A | percent points | 95 % interval |", "|---|---|---|"]
    lines += [
        f"| {HEADINGS[name]} | {100 * one.value:+.2f} | [{100 * one.low:+.2f}, {100 * one.high:+.2f}] |"
        for name, one in found.differences.items()
    ]
    lines += [
        "",
        f"Targets: B better on {found.wins}, alike on {found.ties}, A better on {found.losses}. Were A and B "
        f"interchangeable, a difference of mean IoU this large would come with p = {found.p_value:.2g} (sign "
        "flips over the targets).",
    ]
    by_class = sorted(found.by_class.items(), key=lambda item: -abs(item[1]))
    if len(by_class) > 1:
        lines += ["", "Classes that changed most (pooled IoU, percent points):"]
        lines += [f"  {name}: {100 * value:+.1f}" for name, value in by_class[:_MOST_CLASSES]]
    if found.changes:
        lines += ["", "Episodes that changed most (IoU in A, in B):"]
        lines += [
            f"  {one.before:.3f} {one.after:.3f}  {one.class_name}: {one.target} (seed {one.seed}, index "
            f"{one.index})"
            for one in found.changes
        ]
    return printable("\n".join(lines)) + "\n"
