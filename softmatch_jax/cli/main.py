"""The ``softmatch`` command: which subcommand, and what each end means to the shell.

Heavy imports are in the functions that need them, so that help and version come at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from softmatch_jax import __version__
from softmatch_jax._checks import InputError

_USAGE = """\
usage: softmatch [-h] [--version] COMMAND ...

Show one example, get the same kind of object in every other picture.

  segment    Segment in every target what the references show.
  evaluate   Measure methods on a data set, or on a folder of pictures and masks.
  compare    Compare two evaluations, episode by episode.
  merge      Put the results of shards together.
  train      Train a small segmenter, and export its weights.
  study      Repeat a study of the ProSAM paper on trained prompt encoders.
  data       Prepare and check the papers' data sets.
  models     List, fetch and verify the weights of public models.
  serve      Open a page to scribble, match, correct and export.
  export     Write a project's masks in a format of other tools.
  demo       See it work on two photographs; no files are needed.

softmatch segment --reference duck.jpg --mask duck.png --class-name duck photos/ -o out

For the options of a subcommand: softmatch segment --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: Words after the program's name; by default those of this process.

    Returns:
        0 when all went well, 1 when a target failed or a model is damaged, 2 when something the user gave
        cannot be used, 130 when interrupted, 141 when standard output was closed early, 143 when SIGTERM
        ended a training that then saved its state. Faults of ours raise.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _dispatch(words)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader, such as head, has seen enough. Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except InputError as error:
        print(f"softmatch: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"softmatch: interrupted{_continuation(words)}", file=sys.stderr)
        return 130
    except SystemExit as end:  # a parser has printed its help or its error
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _continuation(words: Sequence[str]) -> str:
    """How to go on after an interruption."""
    if list(words[:2]) == ["train", "sam"]:
        return "; what was saved is kept: give the same command with --resume to continue."
    things = {"segment": "targets", "evaluate": "episodes"}
    if not words or words[0] not in things:
        return "."
    instead = " in place of --overwrite" if "--overwrite" in words else ""
    kept = f"finished {things[words[0]]} are kept"
    return f"; {kept}: give the same command with --resume{instead} to continue."


def _dispatch(words: Sequence[str]) -> int:
    command, rest = (words[0], words[1:]) if words else ("--help", [])
    if command in ("-h", "--help"):
        print(_USAGE, end="")
        return 0
    if command == "--version":
        print(f"softmatch {__version__}")
        return 0
    runs = {
        "segment": _segment,
        "evaluate": _evaluate,
        "compare": _compare,
        "merge": _merge,
        "train": _train,
        "study": _study,
        "data": _data,
        "models": _models,
        "serve": _serve,
        "export": _export,
        "demo": _demo,
    }
    if command not in runs:
        *most, last = sorted(runs)
        raise InputError(
            f"{command!r} is not a command; expected {', '.join(most)} or {last} (see softmatch --help)."
        )
    return runs[command](rest)


def _segment(words: Sequence[str]) -> int:
    from softmatch_jax.cli.arguments import parse_segment

    config, references = parse_segment(words)
    from softmatch_jax.cli.run import run_segment

    return run_segment(config, references)


def _demo(words: Sequence[str]) -> int:
    import tyro

    from softmatch_jax.cli.demo import DemoConfig, run_demo

    markers = (tyro.conf.FlagCreatePairsOff,)
    return run_demo(tyro.cli(DemoConfig, prog="softmatch demo", args=words, config=markers))


def _evaluate(words: Sequence[str]) -> int:
    from softmatch_jax.cli.evaluate_arguments import parse_evaluate

    config = parse_evaluate(words)
    from softmatch_jax.cli.evaluate import run_evaluate

    return run_evaluate(config)


def _compare(words: Sequence[str]) -> int:
    from softmatch_jax.cli.compare import run_compare

    return run_compare(words)


def _merge(words: Sequence[str]) -> int:
    from softmatch_jax.cli.merge import run_merge

    return run_merge(words)


def _train(words: Sequence[str]) -> int:
    from softmatch_jax.cli.train import run_train

    return run_train(words)


def _study(words: Sequence[str]) -> int:
    from softmatch_jax.cli.study_arguments import parse_study

    config = parse_study(words)
    from softmatch_jax.cli.study import run_study

    return run_study(config)


def _data(words: Sequence[str]) -> int:
    from softmatch_jax.cli.data import run_data

    return run_data(words)


def _serve(words: Sequence[str]) -> int:
    from softmatch_jax.cli.serve import run_serve

    return run_serve(words)


def _export(words: Sequence[str]) -> int:
    from softmatch_jax.cli.export import run_export

    return run_export(words)


def _models(words: Sequence[str]) -> int:
    from softmatch_jax.cli.models import run_models

    return run_models(words)
