"""``softmatch data``: make the lists of few-shot data sets, and compare them with published counts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import tyro
from tyro import conf

from softmatch_jax._checks import InputError
from softmatch_jax.cli.names import printable

if TYPE_CHECKING:
    from softmatch_jax.data.coco_masks import Tally
    from softmatch_jax.data.pascal_coco_counts import Report
    from softmatch_jax.data.pascal_coco_lists import Split
    from softmatch_jax.data.published_counts import Comparison

_USAGE = """\
usage: softmatch data [-h] {prepare,check} {pascal5i,coco20i} ...

Lists of the few-shot data sets PASCAL-5i and COCO-20i, made from their masks by the published rule. No
list needs to be downloaded.

  prepare    Read a data set once: paint class masks (coco20i), count the pixels of each class, write
             softmatch_lists.json. softmatch evaluate needs it for coco20i; for pascal5i it saves time.
  check      Compare the lists with the counts of the published ones; ends with 1 where they differ.

softmatch data prepare coco20i --root MSCOCO14
softmatch data check pascal5i --root VOCdevkit/VOC2012

For the options: softmatch data prepare coco20i --help
"""
_EVERY = 1000  # masks between two lines of progress, where there is no terminal

_Flag = Annotated[bool, conf.arg(help_behavior_hint="")]
_File = Annotated[Path | None, conf.DisallowNone, conf.arg(metavar="FILE", help_behavior_hint="")]
_Folder = Annotated[Path | None, conf.DisallowNone, conf.arg(metavar="FOLDER", help_behavior_hint="")]
_Root = Annotated[Path, conf.arg(metavar="FOLDER", help_behavior_hint="(required)")]
_Choice: TypeAlias = Literal["val", "train", "both"]


@dataclass(frozen=True, kw_only=True)
class PreparePascalConfig:
    """Counts the pixels of each class in the masks of PASCAL VOC 2012 with SBD.

    Attributes:
        root: The folder VOC2012 (JPEGImages, SegmentationClassAug, ImageSets), or one above it.
        output: Where to write softmatch_lists.json; by default VOC2012. Give it as --root afterwards.
        split: val is for evaluation, train for training.
        val_list: Pictures to evaluate, in order, in place of ImageSets/Segmentation/val.txt.
        train_list: Pictures to train on. By default train_noval.txt (of SBD) with train.txt in
            ImageSets/Segmentation, 5953 as published; else trainaug.txt; else all that have a mask and are
            not in val.txt.
    """

    root: _Root
    output: _Folder = None
    split: _Choice = "both"
    val_list: _File = None
    train_list: _File = None


@dataclass(frozen=True, kw_only=True)
class PrepareCocoConfig:
    """Paints the class masks of COCO 2014, and counts the pixels of each class.

    Masks that are there are kept, so that an interrupted command can be repeated. Without annotations, masks
    that lie in annotations/val2014 are counted. Annotations of val need about 1 GB of memory, of train 2 GB.

    Attributes:
        root: The folder with annotations, val2014 and train2014, or the one above it (MSCOCO14, COCO2014).
        output: Where to write masks and softmatch_lists.json; by default the data set's folder. Give it as
            --root afterwards.
        split: val is for evaluation, train for training.
        overlap: Which of two overlapping objects a pixel belongs to: the later in the file or the smaller.
            A crowd is under all objects. How the published masks were painted is not known.
        overwrite: Paint masks that are there anew.
        val_list: Pictures of val, in order; by default all that are annotated, by name. Published draws
            depend on the order, which only a published list tells.
        train_list: Pictures of train, likewise.
    """

    root: _Root
    output: _Folder = None
    split: _Choice = "val"
    overlap: Annotated[Literal["last", "smallest"], conf.arg(help_behavior_hint="(last)")] = "last"
    overwrite: _Flag = False
    val_list: _File = None
    train_list: _File = None


@dataclass(frozen=True, kw_only=True)
class CheckPascalConfig:
    """Compares the lists of PASCAL-5i with the counts of the published ones.

    Attributes:
        root: The data set, or the folder that prepare wrote to.
        split: Which lists. Those of train equal the published ones for the 5953 pictures of train_noval.txt
            and train.txt only.
    """

    root: _Root
    split: _Choice = "both"


@dataclass(frozen=True, kw_only=True)
class CheckCocoConfig:
    """Compares the lists of COCO-20i to evaluate with the counts of the published ones, where known.

    Differences of up to 1 percent are accepted: how the published masks were painted is not known.

    Attributes:
        root: The data set, or the folder that prepare wrote to.
    """

    root: _Root


def run_data(words: Sequence[str]) -> int:
    """Runs what follows ``softmatch data``.

    Returns:
        0, or 1 where lists that were checked differ from the published ones.

    Raises:
        InputError: No such command or data set, or the data set cannot be read or written.
        SystemExit: Help was asked for, or a word cannot be parsed.
    """
    if not words or words[0] in ("-h", "--help"):
        print(_USAGE, end="")
        return 0
    commands: dict[str, dict[str, tuple[Any, Callable[[Any], int]]]] = {
        "prepare": {
            "pascal5i": (PreparePascalConfig, _prepare_pascal),
            "coco20i": (PrepareCocoConfig, _prepare_coco),
        },
        "check": {
            "pascal5i": (CheckPascalConfig, _check_pascal),
            "coco20i": (CheckCocoConfig, _check_coco),
        },
    }
    command, rest = words[0], words[1:]
    if command not in commands:
        raise InputError(
            f"{command!r} is not a command; expected prepare or check (see softmatch data --help)."
        )
    if not rest or rest[0] in ("-h", "--help"):
        print(_USAGE, end="")
        return 0
    if rest[0] not in commands[command]:
        raise InputError(
            f"{rest[0]!r} is not a data set to {command}; expected pascal5i or coco20i (others need none)."
        )
    config, run = commands[command][rest[0]]
    program = f"softmatch data {command} {rest[0]}"
    return run(tyro.cli(config, prog=program, args=rest[1:], config=(conf.FlagCreatePairsOff,)))


def _splits(choice: _Choice) -> tuple[Split, ...]:
    return ("val", "train") if choice == "both" else (choice,)


def _prepare_pascal(config: PreparePascalConfig) -> int:
    from softmatch_jax.data.pascal_coco_counts import LISTS_NAME
    from softmatch_jax.data.pascal_lists import prepare_pascal

    with _progress() as report:
        folder = prepare_pascal(
            config.root,
            config.output,
            splits=_splits(config.split),
            val_list=config.val_list,
            train_list=config.train_list,
            report=report,
        )
    print(f"Wrote {printable(folder / LISTS_NAME)}.")
    return 0


def _prepare_coco(config: PrepareCocoConfig) -> int:
    from softmatch_jax.data.coco_prepare import PaintConfig, prepare_coco
    from softmatch_jax.data.pascal_coco_counts import LISTS_NAME

    given: dict[Split, Path | None] = {"val": config.val_list, "train": config.train_list}
    with _progress() as report:
        folder, tallies = prepare_coco(
            config.root,
            config.output,
            splits=_splits(config.split),
            config=PaintConfig(overlap=config.overlap, overwrite=config.overwrite),
            lists={split: path for split, path in given.items() if path is not None},
            report=report,
        )
    for split, tally in tallies.items():
        print(f"{split}2014: {_told(tally)}.")
    print(f"Wrote {printable(folder / LISTS_NAME)}.")
    return 0


def _told(tally: Tally) -> str:
    """What was met, without what was not."""
    told = [f"{tally.painted} masks painted, {tally.kept} kept"]
    if tally.missing:
        told.append(f"left out {tally.missing} annotated pictures without a file")
    rare = {
        "polygons cut off at the edge": tally.clipped,
        "polygons wholly outside": tally.outside,
        "polygons of fewer than 3 points": tally.degenerate,
    }
    return "; ".join(told + [f"{count} {what}" for what, count in rare.items() if count])


def _check_pascal(config: CheckPascalConfig) -> int:
    from softmatch_jax.data.pascal_lists import pascal_counts
    from softmatch_jax.data.published_counts import compare_pascal

    rows: list[Comparison] = []
    for split in _splits(config.split):
        with _progress() as report:
            counts = pascal_counts(config.root, split, report)
        rows += compare_pascal(counts, split)
    return _report(rows)


def _check_coco(config: CheckCocoConfig) -> int:
    from softmatch_jax.data.coco_lists import prepared_coco
    from softmatch_jax.data.published_counts import compare_coco

    _, prepared = prepared_coco(config.root, "val")
    return _report(list(compare_coco(prepared.splits["val"])))


def _report(rows: Sequence[Comparison]) -> int:
    """Prints a table of counts, and what differs."""
    width = max(len(row.what) for row in rows)
    print(f"{'list':{width}}  {'ours':>6}  published")
    for row in rows:
        published = "-" if row.published is None else str(row.published)
        print(f"{row.what:{width}}  {row.ours:6}  {published:>9}{'' if row.agrees else '  differs'}")
    different = [row for row in rows if not row.agrees]
    if not different:
        print("\nAll counts agree with the published ones.")
        return 0
    first = "; ".join(f"{row.what}: {row.ours}, published {row.published}" for row in different[:3])
    print(f"\n{len(different)} of {len(rows)} counts differ from the published ones, first {first}.")
    return 1


@contextmanager
def _progress() -> Iterator[Report]:
    """Yields what shows the progress: a bar in a terminal, now and then a line elsewhere."""
    if sys.stderr is None:
        yield lambda done, total: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
            task = bar.add_task("", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:

        def line(done: int, total: int) -> None:
            if done % _EVERY == 0:
                print(f"[{done}/{total}] masks", file=sys.stderr, flush=True)

        yield line
