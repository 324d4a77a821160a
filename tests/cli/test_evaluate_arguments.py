"""From the words after ``softmatch evaluate`` to settings."""

import subprocess
import sys
from pathlib import Path

import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.cli.evaluate_arguments import methods, parse_evaluate, parse_labels, parse_shard
from softmatch_jax.pipelines import SoftmatcherConfig
from softmatch_jax.pipelines.one_class_names import BASELINES, MATCHING_METHODS

WORDS = ("folder", "--root", "data", "-o", "out")

BARE = """
import sys
from softmatch_jax.cli.main import main
words = (["evaluate", "--help"], ["evaluate", "--backend", "foundation", "--help"], ["compare", "--help"])
codes = [main(each) for each in words]
assert codes == [0] * len(words), codes
heavy = {"jax", "cv2", "skimage", "torch", "transformers", "flax", "ray"} & set(sys.modules)
assert not heavy, heavy
"""


def test_help_needs_no_heavy_import():
    ran = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    for word in ("softmatch evaluate", "--method NAME", "pascal5i", "--shard I/N", "softmatch compare"):
        assert word in ran.stdout


def test_defaults():
    config = parse_evaluate(WORDS)
    assert (config.dataset, config.root, config.output) == ("folder", Path("data"), Path("out"))
    assert config.method == ("geometric",) and (config.shots, config.seeds) == (1, 1)
    assert config.sampling is None and config.episodes is None and config.shard is None
    assert config.matching == SoftmatcherConfig().matching


def test_defaults_follow_the_models():
    config = parse_evaluate([*WORDS, "--backend", "foundation"])
    assert config.decision == SoftmatcherConfig.foundation().decision
    graph = parse_evaluate([*WORDS, "--backend=foundation", "--variant=graph"])
    assert graph.prompting == SoftmatcherConfig.graph().prompting


def test_repeated_options():
    config = parse_evaluate(
        [*WORDS, "--class-name", "a", "--class-name", "b", "--fold", "1", "--fold", "3", "--void", "11"]
    )
    assert (config.class_name, config.fold, config.void) == (("a", "b"), (1, 3), (11,))


def test_methods():
    assert methods(()) == ("geometric",)
    assert methods(("persam", "geometric")) == ("persam", "geometric")
    assert methods(("all",)) == methods(("geometric", "all")) == MATCHING_METHODS + BASELINES
    with pytest.raises(
        InputError, match=r"--method is 'sam'; expected one of .*geometric.*persam.*, or all\."
    ):
        methods(("geometric", "sam"))
    with pytest.raises(InputError, match="--method persam is given twice"):
        methods(("persam", "geometric", "persam"))
    assert parse_evaluate([*WORDS, "--method", "gf-sam"]).method == ("gf-sam",)


def test_shards():
    assert parse_shard(None) == (1, 1) and parse_shard("2/3") == (2, 3) and parse_shard("3/3") == (3, 3)
    for text in ("", "1", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "1.0/2", " 1/2", "1//2"):
        with pytest.raises(InputError, match=r"expected i/n with i from 1 to n, such as 1/4\."):
            parse_shard(text)


def test_labels():
    assert parse_labels(()) is None
    assert parse_labels(("3=road", "11= the sky ", "0=a=b")) == {3: "road", 11: "the sky", 0: "a=b"}
    for text in ("road", "road=3", "3=", "=road", "3= ", "-1=road", ""):
        with pytest.raises(InputError, match=r"expected a value and its name, such as 3=road\."):
            parse_labels((text,))
    with pytest.raises(InputError, match="names the value 3 twice"):
        parse_labels(("3=road", "3=street"))


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--matching.method", "cumulant"], "expected --method NAME"),
        (["--matching.method=cumulant"], "expected --method NAME"),
        (["--backend", "foundation", "--stride", "8"], "--stride has no effect on the foundation models"),
        (["--size", "448"], "--size has no effect on the embedded models"),
        (["--variant", "graph"], "--variant has no effect on the embedded models"),
        (["--completion.points", "3"], "--completion.points has no effect on the embedded models"),
        (
            ["--method", "prosam", "--matching.temperature", "1"],
            "--matching.temperature has no effect on the m",
        ),
    ],
)
def test_options_without_effect(words, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_evaluate([*WORDS, *words])


@pytest.mark.parametrize("words", [["-o", ""], ["--output", ""], ["--output="], ["--root", ""], ["--root="]])
def test_empty_folders_are_refused(words):
    with pytest.raises(InputError, match=r"is empty; expected a folder"):
        parse_evaluate([*WORDS, *words])


@pytest.mark.parametrize(
    "words",
    [["--root", "data", "-o", "out"], ["folder", "-o", "out"], ["folder", "--root", "data"], ["imagenet"]],
)
def test_words_that_are_missing(words, capsys):
    with pytest.raises(SystemExit) as end:
        parse_evaluate(words)
    assert end.value.code == 2 and capsys.readouterr().err
