import numpy as np
import pytest

from softmatch_jax.models import Proposals
from softmatch_jax.pipelines.config import DecisionConfig
from softmatch_jax.pipelines.scoring import (
    best_of_each_prompt,
    confidence_raster,
    discarded,
    map_scores,
)

SIZE = (8, 10)


def box(x0, y0, x1, y1):
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def proposals(masks, scores, prompts=None, stability=None, height=6.0):
    count = len(masks)
    return Proposals(
        logits=np.where(np.array(masks), height, -height).astype(np.float32),
        scores=np.array(scores, np.float32),
        stability=np.array(stability or [1.0] * count, np.float32),
        prompts=np.arange(count, dtype=np.int32) if prompts is None else np.array(prompts, np.int32),
        image_size=SIZE,
        content=SIZE,
    )


SEEN = box(2, 2, 8, 6)
MAP = np.where(SEEN, 0.8, 0.1).astype(np.float32)
WHOLE, PART, MUCH, BESIDE, NOTHING = SEEN, box(2, 2, 5, 6), box(0, 0, 10, 8), box(0, 0, 2, 8), box(0, 0, 0, 0)
MASKS = np.array([WHOLE, PART, MUCH, BESIDE, NOTHING])


def test_scores_count_what_is_seen():
    scores = map_scores(MASKS, MAP)
    np.testing.assert_allclose(scores.coverage, [1, 0.5, 1, 0, 0])
    np.testing.assert_allclose(scores.purity, [1, 1, 24 / 80, 0, 0])
    np.testing.assert_allclose(scores.evidence, [0.8, 0.8, MAP.mean(), 0.1, 0], rtol=1e-6)


def test_agreement_is_what_is_held_less_what_is_added():
    rng = np.random.default_rng(0)
    masks, probability = rng.random((20, *SIZE)) > 0.5, rng.random(SIZE).astype(np.float32)
    seen = probability > 0.5
    wanted = [((mask & seen).sum() - (mask & ~seen).sum()) / seen.sum() for mask in masks]
    np.testing.assert_allclose(map_scores(masks, probability).agreement, wanted, atol=1e-6)
    scores = map_scores(MASKS, MAP)
    whole, part, much, beside, _ = scores.agreement
    assert whole == 1 and whole > part > 0 > much and beside < 0


def test_nothing_seen_scores_nothing():
    scores = map_scores(MASKS, np.full(SIZE, 0.2, np.float32))
    assert not scores.coverage.any() and not scores.purity.any() and np.isfinite(scores.agreement).all()


def test_the_whole_is_taken_of_an_ambiguous_answer():
    masks = np.array([PART, WHOLE, MUCH, BESIDE, PART, MUCH])
    made = proposals(masks, [0.99, 0.7, 0.99, 0.9, 0.8, 0.99], [0, 0, 0, 2, 3, 3])
    assert best_of_each_prompt(made, map_scores(masks, MAP)).tolist() == [1, 3, 4]


def test_between_equals_the_models_own_estimate_decides():
    masks = np.array([WHOLE, WHOLE, MUCH, MUCH])
    made = proposals(masks, [0.6, 0.9, 0.1, 0.2], [5, 5, 1, 1])
    chosen = best_of_each_prompt(made, map_scores(masks, MAP))
    assert chosen.tolist()[1:] == [1] and made.prompts[chosen].tolist() == [1, 5]


@pytest.mark.parametrize("bar", ["min_score", "min_stability", "min_purity", "min_coverage", "min_evidence"])
def test_each_bar_judges_by_its_own_value(bar):
    masks = np.array([WHOLE, PART, MUCH])
    made = proposals(masks, [0.9, 0.6, 0.3], stability=[0.9, 0.5, 0.2])
    scores = map_scores(masks, MAP)
    values = {
        "min_score": made.scores,
        "min_stability": made.stability,
        "min_purity": scores.purity,
        "min_coverage": scores.coverage,
        "min_evidence": scores.evidence,
    }
    least = float(values[bar].mean())
    off = {name: 0.0 for name in values}
    below = discarded(made, scores, DecisionConfig(**(off | {bar: least})))
    assert below.keys() == values.keys()
    for name, flags in below.items():
        assert np.array_equal(flags, values[name] < (least if name == bar else 0))
    assert below[bar].any() and not below[bar].all()
    by_score = discarded(made, scores, DecisionConfig(**(off | {bar: least})), by_map=False)
    assert list(by_score) == ["min_score", "min_stability"]


def test_confidence_is_trust_times_certainty():
    made = proposals([WHOLE, BESIDE], [0.9, 0.5])
    sure, unsure = 1 / (1 + np.exp(-6)), 1 / (1 + np.exp(6))
    raster = confidence_raster(made, np.array([0.7, 2.0]))
    np.testing.assert_allclose(raster[WHOLE & ~BESIDE], 0.7 * sure, rtol=1e-5)
    np.testing.assert_allclose(raster[BESIDE], sure, rtol=1e-5)  # trust ends at one
    np.testing.assert_allclose(raster[~WHOLE & ~BESIDE], unsure, rtol=1e-4)
    assert confidence_raster(proposals([MUCH], [1.0], height=1e30), np.ones(1)).max() <= 1
