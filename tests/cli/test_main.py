"""The command itself: help, version, exit codes."""

import subprocess
import sys

import pytest

from softmatch_jax import __version__

BARE = """
import sys
from softmatch_jax.cli.main import main
words = (["--help"], ["--version"], ["segment", "--help"], ["demo", "--help"], ["models", "--help"])
words += (["segment", "--backend", "foundation", "--help"],)
words += (["models", "list", "--help"], ["models", "fetch", "--help"], ["models", "verify", "--help"])
codes = [main(each) for each in words]
assert codes == [0] * len(words), codes
heavy = {"jax", "cv2", "skimage", "torch", "transformers", "flax", "huggingface_hub"} & set(sys.modules)
assert not heavy, heavy
"""


def test_help_needs_no_heavy_import():
    ran = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert f"softmatch {__version__}" in ran.stdout and "--reference IMAGE" in ran.stdout


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_usage(command, words):
    code, out, err = command(*words)
    assert code == 0 and "segment" in out and "demo" in out and "models" in out and err == ""


def test_an_unknown_command(command):
    code, out, err = command("segmet")
    assert (code, out) == (2, "")
    assert err == (
        "softmatch: error: 'segmet' is not a command; expected compare, data, demo, evaluate, export, merge, "
        "models, segment, serve, study or train (see softmatch --help).\n"
    )


def test_an_unknown_option(command, shown):
    code, out, err = command("segment", *shown, "t", "-o", "out", "--resum")
    assert (code, out) == (2, "") and "--resume" in err


def test_our_own_faults_keep_their_traceback(command, shown, made, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr("softmatch_jax.cli.run.expand_targets", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        command("segment", *shown, made / "t0.png", "-o", tmp_path / "out")


def test_a_reader_that_has_seen_enough():
    done = subprocess.run(
        f"{sys.executable} -m softmatch_jax segment --help | true", shell=True, capture_output=True, text=True
    )
    assert done.stderr == ""


def test_an_empty_output_is_refused(capsys):
    from softmatch_jax.cli.main import main

    for words in (["-o", ""], ["--output", ""], ["--output="]):
        assert main(["segment", "--reference", "a.png", "--mask", "a.png", "b.png", *words]) == 2
        assert "--output is empty" in capsys.readouterr().err
