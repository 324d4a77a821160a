"""``softmatch train``: train a model on pictures with regions, and export its weights."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from softmatch_jax._checks import InputError
from softmatch_jax.cli.plain_warnings import plain_warnings

_USAGE = """\
usage: softmatch train [-h] {sam,prosam,export} ...

Train a small promptable segmenter, or a prompt encoder for a frozen one, from scratch or from given weights.

  sam        Train a small SAM on pictures that are cut into regions.
  prosam     Train a prompt encoder (ProSAM, VRP-SAM) on classes of pictures with masks.
  export     Write the weights of a training as one file, to be used and shared.

softmatch train sam --data bsds500:/data/BSR:train=0.85 --data camvid:/data/camvid:train=0.15 -o run
softmatch train prosam --dataset folder --root pictures --fold 0 -o run
softmatch train export run -o weights.safetensors

For the options: softmatch train sam --help, softmatch train prosam --help
"""

_NEEDED = ("optax", "orbax.checkpoint")


def run_train(words: Sequence[str]) -> int:
    """Runs what follows ``softmatch train``.

    Returns:
        0; 130 or 143 where Ctrl-C or SIGTERM stopped the training, whose state is then saved.

    Raises:
        InputError: Something the user gave cannot be used, or a package is missing.
        SystemExit: Help was asked for, or a word cannot be parsed.
    """
    command, rest = (words[0], words[1:]) if words else ("--help", [])
    if command in ("-h", "--help"):
        print(_USAGE, end="")
        return 0
    if command not in _COMMANDS:
        raise InputError(
            f"{command!r} is not a command; expected sam, prosam or export (see softmatch train --help)."
        )
    if not {"-h", "--help"} & set(rest):
        _check_packages()
    return _COMMANDS[command](rest)


def _check_packages() -> None:
    from softmatch_jax.models.optional import require

    for module in _NEEDED:
        require(module, extra="train")


def _sam(words: Sequence[str]) -> int:
    from softmatch_jax.cli.train_arguments import parse_sam

    config = parse_sam(words)
    from softmatch_jax.cli.train_sam import run_sam
    from softmatch_jax.training.checkpoints import DamagedCheckpoint

    with plain_warnings(sys.stderr, ours=DamagedCheckpoint, begins=""):
        return run_sam(config)


def _prosam(words: Sequence[str]) -> int:
    from softmatch_jax.cli.train_arguments import parse_prosam

    config = parse_prosam(words)
    from softmatch_jax.cli.train_prosam import run_prosam
    from softmatch_jax.training.checkpoints import DamagedCheckpoint

    with plain_warnings(sys.stderr, ours=DamagedCheckpoint, begins=""):
        return run_prosam(config)


def _export(words: Sequence[str]) -> int:
    from softmatch_jax.cli.train_arguments import parse_export

    config = parse_export(words)
    from softmatch_jax.cli.train_export import run_export
    from softmatch_jax.training.checkpoints import DamagedCheckpoint

    with plain_warnings(sys.stderr, ours=DamagedCheckpoint, begins=""):
        return run_export(config)


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {"sam": _sam, "prosam": _prosam, "export": _export}
