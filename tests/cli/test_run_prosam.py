"""``softmatch segment --method prosam``, with an encoder of random weights."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from softmatch_jax import InputError
from softmatch_jax.cli.arguments import parse_segment
from softmatch_jax.imaging import read_image
from softmatch_jax.pipelines import ProSAM

_MODELS = str(Path(__file__).parents[1] / "models" / "prosam")
if _MODELS not in sys.path:
    sys.path.append(_MODELS)
import small_encoder  # noqa: E402

GIVEN = ["t", "--reference", "a", "--mask", "m", "-o", "out"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return small_encoder.write_encoder(tmp_path_factory.mktemp("encoder") / "w.safetensors", seed=4)


@pytest.fixture(scope="module")
def predictor():
    return small_encoder.small_predictor(2)


@pytest.fixture
def loaded_once(weights, predictor, monkeypatch):
    """Weights are read as ever; what then works is smaller, and compiled once for all tests."""
    load = ProSAM.embedded

    def embedded(path, config, **models):
        return replace(load(path, config, **models), predictor=predictor)

    monkeypatch.setattr(ProSAM, "embedded", embedded)


@pytest.fixture
def words(shown, made, weights, loaded_once):
    return ["segment", *shown, "--method", "prosam", "--weights", weights, "--samples", "3", made / "t0.png"]


def results(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.slow
def test_results_tell_of_disagreement(command, words, tmp_path):
    ended = command(*words, "--confidence", "-o", tmp_path / "out")
    assert ended.code == 0, ended.err
    document = results(tmp_path / "out")
    assert document["settings"]["method"] == "prosam" and document["settings"]["prosam"]["samples"] == 3
    assert document["models"]["encoder"].startswith("prosam(") and "matching" not in document["settings"]
    (target,) = document["targets"]
    (found,) = target["classes"]
    assert 0 < found["disagreement"] < 1
    assert found["uncertainty_map"] == "uncertainty/t0.png" and found["confidence_map"] == "confidence/t0.png"
    unsure = read_image(tmp_path / "out" / found["uncertainty_map"])[..., 0] / 255
    assert 0.3 < unsure.max() <= 1
    plain = tmp_path / "plain"
    assert command(*words, "--skip-uncertainty", "--confidence", "-o", plain).code == 0
    (other,) = results(plain)["targets"][0]["classes"]
    assert "disagreement" not in other and "uncertainty_map" not in other
    assert not (plain / "uncertainty").exists()
    assert {**other, "disagreement": 0, "uncertainty_map": ""} == {
        **found, "disagreement": 0, "uncertainty_map": "",
    }  # fmt: skip
    hatched = read_image(tmp_path / "out" / target["overlay"]).astype(int)
    differs = np.abs(hatched - read_image(plain / target["overlay"])).max(axis=2) > 60
    assert differs.any() and unsure[differs].mean() > 2 * unsure.mean()


@pytest.mark.slow
def test_a_run_goes_on_and_another_strategy_is_another_making(command, words, tmp_path, contents):
    out = tmp_path / "out"
    assert command(*words, "-o", out).code == 0
    before = contents(out)
    ended = command(*words, "-o", out, "--resume")
    assert ended.code == 0 and "by an earlier run" in ended.out and contents(out) == before
    ended = command(*words, "-o", out, "--resume", "--strategy", "majority")
    assert ended.code == 2 and "strategy" in ended.err and "is majority" in ended.err


@pytest.mark.slow
def test_scribbles_are_told_to_the_encoder_as_they_are(command, made, weights, loaded_once, tmp_path):
    ended = command(
        "segment", "--reference", made / "a.png", "--box", "20,30,60,70", "--method", "prosam", "--weights",
        weights, "--samples", 3, "--strategy", "mean_logits", made / "t0.png", "-o", tmp_path / "out",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    (reference,) = results(tmp_path / "out")["references"]
    assert reference["annotation"] == "box" and reference["area"] == 40 * 40


def test_weights_that_are_not_there(command, shown, made, tmp_path):
    ended = command(
        "segment", *shown, "--method", "prosam", "--weights", tmp_path / "gone", made / "t0.png",
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert ended.code == 2 and "gone cannot be read" in ended.err and not (tmp_path / "out").exists()


def test_no_samples(command, words, tmp_path):
    ended = command(*words, "--samples", "0", "-o", tmp_path / "out")
    assert ended.code == 2 and "prosam.samples (K) is 0; expected at least 1" in ended.err


def test_the_options_reach_the_settings():
    from softmatch_jax.cli.pipeline import prosam_settings

    words = "--method prosam --strategy max_binary --samples 7 --skip-uncertainty --complete"
    config, _ = parse_segment([*GIVEN, *words.split(), "--decision.min-area", "0.01"])
    settings = prosam_settings(config)
    assert (settings.strategy, settings.samples, settings.min_area) == ("max_binary", 7, 0.01)
    assert settings.complete and not settings.uncertainty
    words = "--method=prosam --backend foundation --weights w --chunk 2 --masks x"
    config, _ = parse_segment([*GIVEN, *words.split()])
    assert prosam_settings(config).together == 2


@pytest.mark.parametrize(
    "option",
    ["--weights w", "--strategy majority", "--samples=3", "--skip-uncertainty", "--complete"],
)
def test_softmatcher_has_no_such_options(option):
    name = option.replace("=", " ").split()[0]
    with pytest.raises(InputError, match=f"^{name} has no effect on the method softmatcher; .*prosam with"):
        parse_segment([*GIVEN, *option.split()])


@pytest.mark.parametrize(
    "option, what",
    [
        ("--stride 8", "the method prosam"),
        ("--embedded_masks=tiny", "the method prosam"),
        ("--matching.temperature 1", "the method prosam"),
        ("--matching.no-whiten", "the method prosam"),
        ("--decision.min-score 0.1", "the method prosam"),
        ("--text=x", "the method prosam"),
        ("--cache c", "the embedded models"),
        ("--prosam-backbone dinov2=x", "the embedded models"),
        ("--backend foundation --weights w --size 518", "the method prosam"),
        ("--backend foundation --weights w --no-norm", "the method prosam"),
        ("--backend foundation --weights w --embedded-weights w", "the foundation models"),
    ],
)
def test_options_that_prosam_passes_over(option, what):
    with pytest.raises(InputError, match=f"has no effect on {what}; expected .* with it"):
        parse_segment([*GIVEN, "--method", "prosam", *option.split()])


def test_the_foundation_ships_no_encoder():
    with pytest.raises(InputError, match="no weights of its own; expected --weights FILE"):
        parse_segment([*GIVEN, "--method", "prosam", "--backend", "foundation"])
