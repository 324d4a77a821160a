from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from small_study import StandIn, disc, stand_in_questions, truth_logits

from softmatch_jax._checks import InputError
from softmatch_jax.studies.config import IntervalSettings, StrategiesSettings
from softmatch_jax.studies.question import Contender
from softmatch_jax.studies.strategies_study import MERGED, merged_masks, study_strategies

pytestmark = pytest.mark.slow  # compiles SAM's decoder anew, mostly with its gradients

QUESTIONS = stand_in_questions([disc(15 + 5 * i, 20, 10 + i % 3) for i in range(6)], ["red", "blue"] * 3)
SETTINGS = StrategiesSettings(samples=4, intervals=IntervalSettings(replicates=200))


def drawing(sigma: float, family: str = "gaussian") -> Contender:
    predictor = StandIn(
        lambda place: np.ones((2, 4)), truth_logits(QUESTIONS), log_sigma=np.log(sigma), family=family
    )
    return Contender(name=f"{family} {sigma}", predictor=predictor)


def run(*contenders: Contender):
    return study_strategies(contenders, QUESTIONS, SETTINGS, key=jax.random.key(0))


def test_masks_are_merged_pixel_by_pixel():
    logits = np.random.default_rng(0).normal(size=(4, 5, 7)).astype(np.float32)
    votes = (logits > 0).sum(axis=0)
    expected = {
        "max_logits": logits.max(axis=0) > 0,
        "mean_logits": logits.mean(axis=0) > 0,
        "max_binary": votes >= 1,
        "mean_binary": votes >= 2,
        "majority": votes > 2,
    }
    merged = merged_masks(logits)
    assert merged.shape == (5, 5, 7)
    for name, mask in zip(MERGED, merged, strict=True):
        assert (mask == expected[name]).all(), name


@pytest.mark.parametrize("contender", [drawing(1.0, "none"), drawing(1e-6)], ids=["none", "no noise"])
def test_without_spread_every_way_is_the_mean_prompt(contender):
    (row,) = run(contender).rows
    assert row.miou["mean"].value > 0.85
    assert all(gain.value == pytest.approx(0, abs=1e-3) for gain in row.gains.values())
    assert row.disagreement.value == pytest.approx(0, abs=1e-3)


def test_noise_that_can_only_harm_makes_samples_worse():
    # The mask shrinks wherever the prompts go: a union of samples is the least worse, and below the mean.
    result = run(drawing(1.0))
    (row,) = result.rows
    assert all(row.gains[name].sign == -1 for name in (*MERGED, "single"))
    assert row.gains["max_binary"].value == max(row.gains[name].value for name in MERGED)
    assert row.gains["max_binary"].value == row.gains["max_logits"].value
    assert row.gains["majority"].value <= row.gains["mean_binary"].value
    assert row.miou["single"].value - row.miou["mean"].value == pytest.approx(row.gains["single"].value)
    assert 0 < row.disagreement.value < 1
    assert "0 are better" in result.conclusion and "5 are worse" in result.conclusion


def test_who_draws_nothing_is_said_to(tmp_path):
    result = run(drawing(1.0, "none"), drawing(1.0))
    assert result.conclusion.startswith("none 1.0 has no distribution to draw from; of the 5 ways")
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert [row["draws"] for row in document["rows"]] == [False, True]
    pytest.importorskip("matplotlib")
    result.figure(tmp_path / "strategies.png")
    assert (tmp_path / "strategies.png").stat().st_size > 1000


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"chunk": 0}])
def test_bad_settings(wrong):
    with pytest.raises(InputError, match="expected at least 1"):
        StrategiesSettings(**wrong)
