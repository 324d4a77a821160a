import dataclasses
import itertools
import random

import numpy as np
import pytest
import scipy.stats

from softmatch_jax._checks import InputError
from softmatch_jax.evaluation.boundaries import BoundaryCounts
from softmatch_jax.evaluation.counting import Counts
from softmatch_jax.evaluation.intervals import bootstrap
from softmatch_jax.evaluation.pairing import _sign_flips, compare
from softmatch_jax.evaluation.pooling import EpisodeScore, PooledScores
from softmatch_jax.evaluation.table import EpisodeTable


def run(ious, *, seed=0, boundary=None):
    """Episodes of ``ious [classes, targets]`` with objects of 1000 pixels."""
    return [
        EpisodeScore(
            seed=seed,
            index=i,
            class_name=f"class {c}",
            target=f"picture {t}",
            counts=Counts(tp=round(1000 * ious[c, t]), fn=1000 - round(1000 * ious[c, t]), tn=9000),
            boundary=boundary,
        )
        for i, (c, t) in enumerate(np.ndindex(ious.shape))
    ]


def table(*args, **kwargs):
    return EpisodeTable.of(run(*args, **kwargs))


HARD = np.random.default_rng(0).uniform(0.2, 0.8, (5, 20)).round(3)
NOISE = np.random.default_rng(1).normal(0, 0.03, (5, 20)).round(3)


def test_by_hand():
    before = np.array([[0.5, 0.5], [0.5, 0.5]])
    after = np.array([[0.7, 0.505], [0.4, 0.9]])
    found = compare(table(before), table(after))
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert found.differences["miou"].value == pytest.approx(after.mean() - before.mean())
    assert found.by_class == pytest.approx({"class 0": 0.1025, "class 1": 0.15})
    changes = [(c.class_name, c.target, c.index, c.before, c.after) for c in found.changes]
    assert changes[:2] == [("class 1", "picture 1", 3, 0.5, 0.9), ("class 0", "picture 0", 0, 0.5, 0.7)]
    assert len(changes) == 4 and len(compare(table(before), table(after), most=1).changes) == 1


def test_a_small_but_steady_gain_shows():
    a, b = table(HARD), table(HARD + 0.02 + NOISE)
    found = compare(a, b)
    assert found.differences["miou"].low > 0 and found.p_value < 0.001
    one, other = bootstrap(a)["miou"], bootstrap(b)["miou"]
    assert other.low < one.high  # apart they overlap
    for name, interval in found.differences.items():
        assert interval.value == pytest.approx(b.metrics()[name] - a.metrics()[name])


def test_turned_round():
    a, b = table(HARD), table(HARD + NOISE)
    there, back = compare(a, b), compare(b, a)
    for name, interval in there.differences.items():
        assert back.differences[name] == pytest.approx((-interval.value, -interval.high, -interval.low))
    assert back.p_value == there.p_value and (back.wins, back.losses) == (there.losses, there.wins)


def test_a_run_with_itself():
    found = compare(table(HARD), table(HARD))
    assert found.p_value == 1 and found.ties == 100 and found.changes == ()
    assert all(interval == (0, 0, 0) for interval in found.differences.values())


def test_deterministic_and_of_no_order():
    rows = [*run(HARD), *run(HARD, seed=1)], [*run(HARD + NOISE), *run(HARD - NOISE, seed=1)]
    found = compare(*map(EpisodeTable.of, rows))
    assert compare(*(EpisodeTable.of(random.Random(0).sample(r, len(r))) for r in rows)) == found
    assert found.p_value == 1  # the seeds cancel out in every target


def test_boundaries_of_one_run_only():
    whole = BoundaryCounts(1, 2, 10, 5, 10, 5), BoundaryCounts(2, 2, 10, 5, 10, 10)
    a, b = (table(HARD, boundary=boundary) for boundary in whole)
    assert compare(a, b).differences["boundary_iou"].value == pytest.approx(0.5)
    assert list(compare(a, table(HARD)).differences) == ["miou", "fb_iou", "mean_iou"]


def test_signs_against_all_of_them():
    gain = np.random.default_rng(3).normal(0.3, 1, 9)
    sums = [abs(np.dot(signs, gain)) for signs in itertools.product((-1, 1), repeat=9)]
    exact = np.mean(np.array(sums) >= abs(gain.sum()) - 1e-9)
    found = _sign_flips(gain, 20_000, np.random.default_rng(0))
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact / 20_000))


def test_p_is_uniform_when_nothing_differs():
    rng = np.random.default_rng(4)
    values = [_sign_flips(rng.normal(0, 1, 40), 400, rng) for _ in range(400)]
    assert scipy.stats.kstest(values, "uniform").pvalue > 0.01
    assert min(values) >= 1 / 401


def test_p_is_never_zero():
    assert _sign_flips(np.ones(50), 100, np.random.default_rng(0)) == 1 / 101


def test_classes_are_those_of_the_pooled_scores():
    a, b = run(HARD), run(HARD + NOISE)
    found = compare(EpisodeTable.of(a), EpisodeTable.of(b)).by_class
    before, after = PooledScores(a).by_class(), PooledScores(b).by_class()
    assert found == pytest.approx({name: after[name].iou - before[name].iou for name in before})


def test_other_episodes_are_refused():
    rows = run(HARD)
    a, short = EpisodeTable.of(rows), EpisodeTable.of(rows[3:])
    with pytest.raises(InputError, match=r"3 of the first are missing from the second, and 0 of the second"):
        compare(a, short)
    with pytest.raises(InputError, match=r"97 of the first are missing .* and 100 of the second from"):
        compare(short, table(HARD, seed=1))
    other = EpisodeTable.of([dataclasses.replace(rows[0], target="dog"), *rows[1:]])
    with pytest.raises(
        InputError, match="at index 0 of seed 0 one has 'class 0' in 'picture 0' and the other"
    ):
        compare(a, other)


@pytest.mark.parametrize("wrong", [{"flips": 0}, {"most": -1}, {"tolerance": -0.1}, {"level": 0}])
def test_bad_numbers_are_refused(wrong):
    with pytest.raises(InputError, match="expected"):
        compare(table(HARD), table(HARD), **wrong)
