from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_study import StandIn, disc, stand_in_questions, truth_logits

from softmatch_jax._checks import InputError
from softmatch_jax.studies.config import IntervalSettings, NoiseSettings
from softmatch_jax.studies.noise import noisy_prompts, study_noise
from softmatch_jax.studies.question import Contender

FEW = IntervalSettings(replicates=200)
SETTINGS = NoiseSettings(levels=(0.3, 1.2), relative=(0.3, 1.2), draws=2, intervals=FEW)
QUESTIONS = stand_in_questions(
    [disc(15 + 5 * i, 20 + i, 10 + i % 3) for i in range(8)], ["red"] * 4 + ["blue"] * 4
)


def steady(size: float, *, sensitive: float = 1.0) -> StandIn:
    """Has prompts of one size, whose mask shrinks with their distance from that."""
    decode = truth_logits(QUESTIONS)

    def logits(place: int, prompts: np.ndarray) -> np.ndarray:
        return decode(place, 1 + sensitive * (prompts - size))

    return StandIn(lambda place: np.full((3, 8), size), logits)


def run(*predictors: StandIn, settings: NoiseSettings = SETTINGS):
    contenders = [Contender(name=f"c{i}", predictor=each) for i, each in enumerate(predictors)]
    return study_noise(contenders, QUESTIONS, settings, key=jax.random.key(0))


@pytest.mark.slow
def test_the_sets_are_the_mean_and_noise_of_each_level():
    mean = 3 * jax.random.normal(jax.random.key(1), (40, 50))
    sets = noisy_prompts(
        mean, NoiseSettings(levels=(0.5, 1.0), relative=(0.25,), draws=3), key=jax.random.key(2)
    )
    assert sets.shape == (1 + 3 * 3, 40, 50)
    assert (sets[0] == mean).all()
    deviations = np.asarray((sets[1:] - mean).reshape(3, 3, -1).std(axis=2))
    size = float(jnp.sqrt(jnp.mean(mean**2)))
    assert deviations == pytest.approx(np.repeat([[0.5], [1.0], [0.25 * size]], 3, axis=1), rel=0.06)
    # The same noise at each level, and another in each draw.
    noise = np.asarray((sets[1:] - mean).reshape(3, 3, -1))
    assert noise[1] == pytest.approx(2 * noise[0], abs=1e-5)
    assert np.abs(np.corrcoef(noise[0])[0, 1]) < 0.1


def test_without_noise_nothing_is_lost_and_with_more_more():
    result = run(steady(1.0))
    for curve in result.curves:
        assert curve.levels[0] == 0 and tuple(curve.lost[0]) == (0, 0, 0)
        assert curve.miou[0].value > 0.8
        assert curve.miou[0].value > curve.miou[1].value > curve.miou[2].value
        assert curve.lost[2].value == pytest.approx(1 - curve.miou[2].value / curve.miou[0].value)
        assert curve.lost_on_average.value == pytest.approx(np.mean([each.value for each in curve.lost[1:]]))


def test_equals_cannot_be_told_apart():
    result = run(steady(1.0), steady(1.0))
    assert all(tuple(each) == (0, 0, 0) for curve in result.curves for each in curve.more_lost)
    assert result.conclusion.count("no difference can be told") == 2


def test_the_robust_one_is_found():
    result = run(steady(1.0), steady(1.0, sensitive=0.3))
    assert all(curve.more_lost_on_average.sign == -1 for curve in result.curves[1::2])
    assert result.conclusion.count("it is more robust") == 2
    assert run(steady(1.0, sensitive=0.3), steady(1.0)).conclusion.count("it is less robust") == 2


def test_size_protects_from_absolute_noise_alone():
    # Three times as large and a third as sensitive: the same encoder in other units.
    result = run(steady(1.0), steady(3.0, sensitive=1 / 3))
    by_kind = {curve.kind: curve for curve in result.curves if curve.contender == "c1"}
    assert by_kind["absolute"].more_lost_on_average.sign == -1
    assert by_kind["relative"].more_lost_on_average.value == pytest.approx(0, abs=1e-3)
    assert [round(size.value, 4) for size in result.size] == [1, 3]


def test_nothing_to_lose_is_no_number():
    nothing = StandIn(lambda place: np.ones((3, 8)), lambda place, prompts: np.full((16, 16), -1.0))
    result = run(nothing, steady(1.0))
    assert all(np.isnan(curve.lost_on_average.value) for curve in result.curves[::2])
    assert "no difference can be told" in result.conclusion
    assert result.to_json()["curves"][0]["lost"][0]["value"] is None


def test_document_and_figure(tmp_path):
    pytest.importorskip("matplotlib")
    result = run(steady(1.0), steady(3.0))
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert document["conclusion"] == result.conclusion
    assert document["about"]["contenders"] == ["c0", "c1"]
    assert document["about"]["settings"]["levels"] == [0.3, 1.2]
    assert len(document["about"]["episodes"]) == 8
    result.figure(tmp_path / "noise.png")
    assert (tmp_path / "noise.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"expected \.png"):
        result.figure(tmp_path / "noise.pdf")


@pytest.mark.parametrize(
    "wrong", [{"levels": ()}, {"levels": (0.0, 1.0)}, {"relative": (1.0, 0.5)}, {"draws": 0}, {"chunk": 0}]
)
def test_bad_settings(wrong):
    with pytest.raises(InputError, match="expected"):
        NoiseSettings(**wrong)
