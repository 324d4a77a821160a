from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_study import contender, disc_questions

from softmatch_jax._checks import InputError
from softmatch_jax.models.prosam.config import DistributionConfig
from softmatch_jax.studies.descending import Rule, descend
from softmatch_jax.studies.descent import study_descent
from softmatch_jax.studies.descent_config import DescentSettings
from softmatch_jax.studies.projection import principal_components, project

pytestmark = pytest.mark.slow  # compiles SAM's decoder anew, mostly with its gradients

SETTINGS = DescentSettings(
    runs=6, std=2.0, samples=3, prompts=3, epochs=40, patience=15, chunk=4, projection="pca"
)


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return disc_questions(tmp_path_factory.mktemp("discs"))


@pytest.fixture(scope="module")
def contenders():
    return [contender("t")]


@pytest.fixture(scope="module")
def result(questions, contenders):
    return study_descent(contenders, questions, SETTINGS, key=jax.random.key(0))


def by_hand(loss, start: float, settings: DescentSettings) -> tuple[float, int]:
    """The stopping rule in a loop of Python."""
    adamw = optax.adamw(settings.learning_rate, weight_decay=settings.weight_decay)
    x = jnp.float32(start)
    moments, best, since, epoch = adamw.init(x), np.inf, 0, 0
    while since < settings.patience and epoch < settings.epochs:
        value, slope = jax.value_and_grad(loss)(x)
        moves, moments = adamw.update(slope, moments, x)
        x, epoch = x + moves, epoch + 1
        if value < best - settings.improvement:
            best, since = float(value), 0
        else:
            since += 1
    return float(x), epoch


def test_each_run_ends_by_its_own_loss():
    settings = DescentSettings(improvement=1e-3, patience=7, epochs=120, learning_rate=0.1)

    def loss(x):
        return jnp.square(x - 1)

    rule = Rule.of(settings)
    starts = jnp.array([1.0, 2.0, 4.0, 40.0])
    ended = jax.vmap(lambda x: descend(lambda z, _: loss(z), x, rule, key=jax.random.key(0)))(starts)
    expected = [by_hand(loss, start, settings) for start in starts.tolist()]
    assert ended.epochs.tolist() == [epoch for _, epoch in expected]
    assert ended.params.tolist() == pytest.approx([x for x, _ in expected], abs=1e-4)
    # The one that starts at the least ends as soon as patience does; one is too far away.
    assert ended.epochs[0] == 1 + settings.patience and ended.epochs[3] == settings.epochs
    assert ended.settled.tolist() == [True, True, True, False]


def test_a_small_rate_hardly_moves_prompts():
    settings = DescentSettings(learning_rate=1e-4, epochs=500, improvement=0.0)
    ended = descend(lambda z, _: jnp.mean(z**2), jnp.full(3, 25.0), Rule.of(settings), key=jax.random.key(0))
    assert jnp.all(jnp.abs(ended.params - 25.0) < 0.06)


def test_descent_makes_masks_better(result, questions, contenders):
    lowered = DescentSettings(**{**vars(SETTINGS), "epochs": 1})
    before = study_descent(contenders, questions, lowered, key=jax.random.key(0))
    assert np.median(result.learned.bce) < np.median(before.learned.bce)
    assert np.median(result.sampled.bce) < np.median(before.sampled.bce)
    assert before.epochs == (1,) * 7 and before.unsettled == 7
    assert "7 of 7 runs ended at the limit" in before.conclusion
    assert before.distances.moved == pytest.approx(SETTINGS.learning_rate, rel=0.05)  # Adam's first step
    # Prompts that keep near their starts are as far from each other, and samples from their mean, as these.
    assert before.distances.between_learned == pytest.approx(2 * np.sqrt(2), rel=0.3)
    assert before.distances.sample_spread == pytest.approx(before.noise, rel=0.35)


def test_shares_and_distances_are_those_of_the_numbers(result):
    assert len(result.learned.iou) == len(result.sampled.bce) == 6 and result.points.shape == (12, 2)
    upper, lower = np.quantile(result.learned.iou, 0.75), np.quantile(result.learned.bce, 0.25)
    assert result.iou_above_quartile == np.mean(np.array(result.sampled.iou) > upper)
    assert result.bce_below_quartile == np.mean(np.array(result.sampled.bce) < lower)
    assert set(result.encoders) == {"t"} and len(result.epochs) == 7


def test_a_mean_that_starts_in_the_middle_stays_there(questions, contenders):
    settings = DescentSettings(**{**vars(SETTINGS), "epochs": 1, "mean_start": "zero"})
    found = study_descent(contenders, questions, settings, key=jax.random.key(0))
    assert found.distances.mean_to_middle < 0.6 * found.distances.learned_to_middle
    assert found.distances.learned_farther == 1 and "is nearer to the middle" in found.conclusion


def test_document_and_figure(result, tmp_path):
    pytest.importorskip("matplotlib")
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert document["conclusion"] == result.conclusion and document["projection"] == "PCA"
    assert document["about"]["settings"]["learning_rate"] == 0.1 and len(document["points"]) == 12
    result.figure(tmp_path / "descent.png")
    assert (tmp_path / "descent.png").read_bytes().startswith(b"\x89PNG")


def test_no_such_question(questions, contenders):
    settings = DescentSettings(**{**vars(SETTINGS), "place": 6})
    with pytest.raises(InputError, match=r"place is 6 of 6 questions; expected 0 to 5"):
        study_descent(contenders, questions, settings, key=jax.random.key(0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"runs": 3},
        {"std": 0.0},
        {"learning_rate": float("nan")},
        {"patience": 0},
        {"mean_start": "middle"},
        {"projection": "umap"},
        {"place": -1},
        {"log_sigma": float("inf")},
        {"distribution": DistributionConfig(family="none")},
    ],
)
def test_bad_settings(wrong):
    with pytest.raises(InputError, match="expected"):
        DescentSettings(**wrong)


def test_principal_components_keep_distances_in_a_plane():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(20, 2)) * [3, 1]
    turned = plane @ np.linalg.qr(rng.normal(size=(50, 2)))[0].T + 7
    found = principal_components(turned)
    expected = np.linalg.norm(plane[:, None] - plane[None], axis=2)
    assert np.linalg.norm(found[:, None] - found[None], axis=2) == pytest.approx(expected, abs=1e-9)
    assert found.std(axis=0)[0] > found.std(axis=0)[1]


def test_tsne_is_that_of_scikit_learn(monkeypatch):
    points, asked = np.random.default_rng(1).normal(size=(12, 5)), {}

    class TSNE:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, given):
            return given[:, :2]

    monkeypatch.setitem(sys.modules, "sklearn", SimpleNamespace(__spec__=SimpleNamespace()))
    monkeypatch.setitem(sys.modules, "sklearn.manifold", SimpleNamespace(TSNE=TSNE))
    found = project(points, "auto", seed=5)
    assert found.method == "t-SNE" and found.points == pytest.approx(points[:, :2], abs=1e-6)
    assert asked["random_state"] == 5 and asked["perplexity"] < len(points)


def test_without_scikit_learn_it_is_named_as_what_it_is(monkeypatch):
    points = np.random.default_rng(1).normal(size=(12, 5))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert project(points, "auto", seed=0).method == "PCA"
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "sklearn.manifold", raising=False)
    with pytest.raises(InputError, match="scikit-learn is not installed"):
        project(points, "tsne", seed=0)
    with pytest.raises(InputError, match="at least 3"):
        project(points[:2], "pca", seed=0)
