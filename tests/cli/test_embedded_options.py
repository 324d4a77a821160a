"""The options that choose among the models that come with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from softmatch_jax import InputError, Softmatcher
from softmatch_jax.cli.arguments import parse_segment
from softmatch_jax.cli.backend import load_matcher
from softmatch_jax.cli.evaluate_arguments import parse_evaluate

SEGMENT = ["t", "--reference", "a", "--mask", "m", "-o", "out"]
EVALUATE = ["folder", "--root", "data", "-o", "out"]


def segment(*words):
    return parse_segment([*SEGMENT, *words])[0]


def evaluate(*words):
    return parse_evaluate([*EVALUATE, *words])


@pytest.fixture(params=[segment, evaluate], ids=["segment", "evaluate"])
def parse(request):
    return request.param


def test_defaults_are_the_pair_without_weights(parse):
    config = parse()
    assert (config.embedded_masks, config.embedded_features) == ("grabcut", "descriptor")


def test_the_choice_reaches_the_models(parse, monkeypatch):
    asked = []
    monkeypatch.setattr(Softmatcher, "embedded", lambda settings, **models: asked.append(models))
    words = ("--embedded-masks", "both", "--embedded-features=joined", "--embedded-weights", "w.safetensors")
    load_matcher(parse(*words, "--stride", "8"), {}, None)
    weights = Path("w.safetensors")
    assert asked == [{"stride": 8, "masks": "both", "features": "joined", "weights": weights}]


@pytest.mark.parametrize("option", ["--embedded-masks tiny", "--embedded_features=tiny"])
def test_they_do_not_go_with_the_foundation(parse, option):
    name = option.replace("=", " ").split()[0].replace("_", "-")
    with pytest.raises(InputError, match=f"^{name} has no effect on the foundation models.*leave {name} out"):
        parse("--backend", "foundation", *option.split())


def test_the_stride_is_the_descriptors(parse):
    with pytest.raises(InputError, match=r"^--stride has no effect on the features of the small SAM"):
        parse("--embedded-features", "tiny", "--stride", "8")
    assert parse("--embedded-features", "joined", "--stride", "8").stride == 8


@pytest.mark.parametrize("masks", ["tiny", "both"])
def test_scribbles_are_completed_by_prompts_where_points_are_taken(parse, masks):
    assert parse("--embedded-masks", masks, "--completion.points", "3").completion.points == 3
    with pytest.raises(InputError, match=r"^--completion\.points has no effect"):
        parse("--embedded-masks", "grabcut", "--completion.points", "3")


@pytest.mark.parametrize("words", [["--embedded-masks", "sam"], ["--embedded-features", "dino"]])
def test_models_that_are_not_there(parse, words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        parse(*words)
    assert words[0] in capsys.readouterr().err


def test_help_tells_of_them(parse, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        parse("--help")
    said = capsys.readouterr().out
    assert "--embedded-masks {grabcut,tiny,both}" in said and "a small SAM" in said
