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
usage: softmatch [-h] [--version] {segment,demo,models} ...

Show one example, get the same kind of object in every other picture.

  segment    Segment in every target what the references show.
  demo       See it work on two photographs; no files are needed.
  models     List, fetch and verify the weights of public models.

softmatch segment --reference duck.jpg --mask duck.png --class-name duck photos/ -o out

For the options of a subcommand: softmatch segment --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: Words after the program's name; by default those of this process.

    Returns:
        0 when all went well, 1 when a target failed or a model is damaged, 2 when something the user gave
        cannot be used, 130 when interrupted, 141 when standard output was closed early. Faults of ours
        raise.
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
    if words[:1] != ["segment"]:
        return "."
    instead = " in place of --overwrite" if "--overwrite" in words else ""
    return f"; finished targets are kept: give the same command with --resume{instead} to continue."


def _dispatch(words: Sequence[str]) -> int:
    command, rest = (words[0], words[1:]) if words else ("--help", [])
    if command in ("-h", "--help"):
        print(_USAGE, end="")
        return 0
    if command == "--version":
        print(f"softmatch {__version__}")
        return 0
    if command == "segment":
        return _segment(rest)
    if command == "demo":
        return _demo(rest)
    if command == "models":
        from softmatch_jax.cli.models import run_models

        return run_models(rest)
    raise InputError(
        f"{command!r} is not a command; expected segment, demo or models (see softmatch --help)."
    )


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
