from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from small_study import StandIn, disc, stand_in_questions, truth_logits

from softmatch_jax.studies.config import IntervalSettings, RatesSettings
from softmatch_jax.studies.question import Contender
from softmatch_jax.studies.rates import study_rates

VOID = np.zeros((48, 64), bool)
VOID[40:] = True
QUESTIONS = stand_in_questions(
    [disc(15 + 5 * i, 18, 10 + i % 3) for i in range(6)], ["red", "blue"] * 3, void=VOID
)
SETTINGS = RatesSettings(intervals=IntervalSettings(replicates=200))


def shifted(by: float) -> Contender:
    decode = truth_logits(QUESTIONS)
    predictor = StandIn(lambda place: np.ones((2, 4)), lambda place, prompts: decode(place, prompts) + by)
    return Contender(name=f"shifted {by}", predictor=predictor)


@pytest.fixture(scope="module")
def result():
    return study_rates(
        [shifted(0.0), shifted(0.6), shifted(-0.3)], QUESTIONS, SETTINGS, key=jax.random.key(0)
    )


def test_rates_and_shares_are_consistent(result):
    for row in result.rows:
        part = {name: estimate.value for name, estimate in row.parts.items()}
        tp, fp, fn, tn = row.pixels
        assert sum(row.pixels) == 6 * 40 * 64  # void does not count
        assert sum(value for name, value in part.items() if name.endswith("share")) == pytest.approx(1)
        assert part["true_positive_rate"] + part["false_negative_rate"] == pytest.approx(1)
        assert part["true_negative_rate"] + part["false_positive_rate"] == pytest.approx(1)
        assert part["false_positive_rate"] == pytest.approx(fp / (fp + tn))
        assert part["true_positive_share"] == pytest.approx(tp / sum(row.pixels))
        assert row.fb_iou.value == pytest.approx((tp / (tp + fp + fn) + tn / (tn + fp + fn)) / 2)


def test_what_covers_all_invents_and_what_shrinks_misses(result):
    exact, covering, shrunk = result.rows
    assert exact.miou.value > 0.85
    assert covering.parts["true_positive_rate"].value == 1
    assert covering.parts["true_negative_rate"].value == 0
    assert covering.differences["false_positive_rate"].sign == 1
    assert shrunk.differences["false_negative_rate"].sign == 1
    assert shrunk.differences["false_positive_rate"].sign == -1
    assert tuple(exact.differences["miou"]) == (0, 0, 0)


def test_the_sentence_says_so(result):
    _, covering, shrunk = result.conclusion.rstrip(".").split("; ")
    assert "misses 0.0 %" in covering and "less)" in covering and "more)" in covering
    assert shrunk.index("more)") < shrunk.index("less)")


def test_document_and_figure(result, tmp_path):
    pytest.importorskip("matplotlib")
    assert json.loads(json.dumps(result.to_json(), allow_nan=False))["rows"][1]["pixels"][2] == 0
    result.figure(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").stat().st_size > 1000
