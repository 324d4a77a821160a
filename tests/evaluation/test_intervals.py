import random

import numpy as np
import pytest
import scipy.stats

from softmatch_jax._checks import InputError
from softmatch_jax.evaluation.boundaries import BoundaryCounts
from softmatch_jax.evaluation.counting import Counts
from softmatch_jax.evaluation.intervals import bootstrap, resampled, spread
from softmatch_jax.evaluation.pooling import EpisodeScore, PooledScores, columns_of, metrics_of
from softmatch_jax.evaluation.table import EpisodeTable

LEVEL = 0.95


def draw(rng, classes, per_class, level):
    """Pixels of targets, small objects found less well; ``[classes, per_class, 4]``."""
    shape = (classes, per_class)
    size = 8000 * np.exp(rng.normal(0, 0.6, shape))
    quality = 1 / (1 + np.exp(-(level[:, None] + 0.5 * np.log(size / 8000) + rng.normal(0, 1, shape))))
    tp = np.round(size * quality)
    fn, fp = np.round(size) - tp, np.round(size * (1 - quality) * rng.random(shape))
    return np.stack([tp, fp, fn, 262144 - tp - fn - fp], axis=-1)


def scores(pixels, seeds=1, boundary=False):
    classes, targets = pixels.shape[:2]
    return [
        EpisodeScore(
            seed=seed,
            index=i * targets + j,
            class_name=f"class {i}",
            target=f"picture {j}",
            counts=Counts(*map(int, pixels[i, j] + (seed, 0, 0, -seed))),
            boundary=BoundaryCounts(1 + j, 10 + j, 10, 1, 10, 1 + i % 2) if boundary else None,
        )
        for seed in range(seeds)
        for i in range(classes)
        for j in range(targets)
    ]


@pytest.fixture(scope="module")
def rows():
    return scores(draw(np.random.default_rng(0), 4, 6, np.ones(4)), seeds=2, boundary=True)


def test_the_table(rows):
    table = EpisodeTable.of(reversed(rows))
    assert len(table) == 48 and len(table.targets) == 24 and table.classes[2] == "class 2"
    assert table.seed.tolist() == [0] * 24 + [1] * 24
    assert table.index.tolist() == list(range(24)) * 2 and table.unit.tolist() == list(range(24)) * 2
    assert [table.targets[i] for i in table.unit] == [row.target for row in rows]
    assert [table.classes[i] for i in table.class_index] == [row.class_name for row in rows]
    assert table.unit_class.tolist() == table.class_index[:24].tolist()
    assert table.counts.tolist() == [list(row.counts) for row in rows]
    assert table.boundary.tolist() == [list(row.boundary) for row in rows]


def test_one_picture_of_two_classes_is_two_units():
    pixels = draw(np.random.default_rng(0), 2, 1, np.ones(2))
    assert EpisodeTable.of(scores(pixels)).targets == ("picture 0", "picture 0")


def test_bad_tables_are_refused(rows):
    with pytest.raises(InputError, match="There is no episode to score"):
        EpisodeTable.of([])
    with pytest.raises(InputError, match="index 3 of seed 0 is there 2 times; expected once"):
        EpisodeTable.of([*rows, rows[3]])
    assert EpisodeTable.of([*rows[1:], scores(np.ones((1, 1, 4)))[0]]).boundary is None


def test_values_are_those_of_the_run_and_inside(rows):
    found = bootstrap(EpisodeTable.of(rows), replicates=200)
    assert {name: i.value for name, i in found.items()} == PooledScores(rows).metrics()
    assert list(found) == ["miou", "fb_iou", "mean_iou", "boundary_iou", "boundary_f"]
    for name, interval in found.items():
        # The F measure is the same for all pictures of a class.
        assert interval.low < interval.value < interval.high or name == "boundary_f"
    assert found["boundary_f"] == pytest.approx((found["boundary_f"].value,) * 3)


def test_deterministic_and_of_no_order(rows):
    found = bootstrap(EpisodeTable.of(rows), replicates=200, seed=3)
    shuffled = random.Random(0).sample(rows, len(rows))
    assert bootstrap(EpisodeTable.of(shuffled), replicates=200, seed=3) == found
    assert bootstrap(EpisodeTable.of(rows), replicates=200, seed=4) != found


def test_a_mean_as_scipy_has_it():
    values = np.random.default_rng(0).gamma(2.0, size=150)
    sums = np.stack([values, np.ones(150)], axis=1)

    def mean(sums):
        return {"mean": sums[..., 0, 0] / sums[..., 0, 1]}

    unit_class = np.zeros(150, int)
    found = resampled(mean, sums, unit_class, level=0.9, replicates=20_000, seed=0)["mean"]
    other = scipy.stats.bootstrap(
        (values,), np.mean, confidence_level=0.9, method="percentile", n_resamples=20_000, rng=0
    ).confidence_interval
    error = 3 * values.std() / np.sqrt(150) * np.sqrt(2) * 2.1 / np.sqrt(20_000)  # of two such quantiles
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(other, abs=error)


def test_variance_of_few_units_is_unbiased():
    """Three units a class: with as many draws the deviation would be 0.82 of this."""
    values = np.random.default_rng(1).normal(size=(200, 3))
    sums = np.stack([values.ravel(), np.ones(600)], axis=1)
    found = resampled(
        lambda s: {"mean": s[..., 0].sum(-1) / s[..., 1].sum(-1)},
        sums, np.repeat(np.arange(200), 3), level=0.6827, replicates=4000, seed=0,
    )["mean"]  # fmt: skip
    deviation = np.sqrt(values.var(axis=1, ddof=1).mean() / 600)
    assert (found.high - found.low) / 2 == pytest.approx(deviation, rel=0.05)


def test_classes_keep_their_weight():
    sizes = np.repeat([2, 4], 100)  # pictures of each of 200 classes, the small ones with greater values
    values = np.random.default_rng(2).normal(size=sizes.sum()) + np.repeat(10 * (sizes == 2), sizes)
    unit_class = np.repeat(np.arange(200), sizes)
    found = resampled(
        lambda s: {"sum": s[..., 0].sum(-1), "number": s[..., 1].sum(-1)},
        np.stack([values, np.ones(600)], axis=1), unit_class, level=0.6827, replicates=4000, seed=0,
    )  # fmt: skip
    variance = sum(len(v) * v.var(ddof=1) for v in np.split(values, np.cumsum(sizes)[:-1]))
    assert (found["sum"].high - found["sum"].low) / 2 == pytest.approx(np.sqrt(variance), rel=0.05)
    assert found["number"] == pytest.approx((600, 600, 600))


def test_the_value_is_in_the_middle_however_biased_the_draws():
    pixels = draw(np.random.default_rng(3), 240, 5, np.ones(240))
    value, low, high = bootstrap(EpisodeTable.of(scores(pixels)), replicates=1000)["miou"]
    assert value - low == pytest.approx(high - value, rel=0.2)


def test_episodes_of_a_picture_move_together():
    """The same episodes under five seeds tell no more than one; as pictures of their own they would."""
    pixels = draw(np.random.default_rng(2), 3, 30, np.ones(3))
    once, often = scores(pixels), [
        EpisodeScore(**{**vars(row), "seed": seed}) for row in scores(pixels) for seed in range(5)
    ]  # fmt: skip
    one, five = (bootstrap(EpisodeTable.of(rows))["miou"] for rows in (once, often))
    assert five == pytest.approx(one)
    apart = [EpisodeScore(**{**vars(row), "target": f"{row.target} {row.seed}"}) for row in often]
    more = bootstrap(EpisodeTable.of(apart))["miou"]
    assert more.high - more.low < 0.6 * (one.high - one.low)


def test_one_picture_for_each_class_tells_nothing():
    found = bootstrap(EpisodeTable.of(scores(draw(np.random.default_rng(0), 5, 1, np.ones(5)))))
    assert found["miou"].low == pytest.approx(found["miou"].value) == found["miou"].high


def test_no_end_is_beyond_what_a_score_can_be():
    pixels = np.array(
        [[[10_000, 0, 0, 0], *[[0, 0, 1000, 9000]] * 9]]
    )  # a large one found, small ones missed
    value, low, high = bootstrap(EpisodeTable.of(scores(pixels)), level=0.99)["miou"]
    assert 0 <= low < value < high == 1


def test_wider_for_a_higher_level(rows):
    wide, narrow = (bootstrap(EpisodeTable.of(rows), level=level)["miou"] for level in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high


def coverage(classes, per_class, sets, replicates):
    rng = np.random.default_rng(5)
    level = rng.normal(1, 0.7, classes)
    runs = [metrics_of(_sums(draw(rng, classes, per_class, level))) for _ in range(1500)]
    expected = {name: np.mean([run[name] for run in runs]) for name in runs[0]}
    unit_class, hits = np.repeat(np.arange(classes), per_class), dict.fromkeys(expected, 0)
    for seed in range(sets):
        pixels = draw(rng, classes, per_class, level).reshape(-1, 4)
        found = resampled(
            metrics_of, columns_of(pixels, None), unit_class,
            level=LEVEL, replicates=replicates, seed=seed,
        )  # fmt: skip
        for name, interval in found.items():
            hits[name] += interval.low <= expected[name] <= interval.high
    return {name: number / sets for name, number in hits.items()}


def _sums(pixels):
    return columns_of(pixels.reshape(-1, 4), None).reshape(*pixels.shape[:2], -1).sum(axis=1)


@pytest.mark.parametrize("classes, per_class", [(20, 20), (5, 40)])
def test_covers_the_expected_score(classes, per_class):
    covered = coverage(classes, per_class, sets=200, replicates=400)
    assert all(0.9 <= share <= 0.99 for share in covered.values()), covered


@pytest.mark.slow
def test_covers_the_expected_score_of_many_small_classes():
    covered = coverage(240, 10, sets=200, replicates=600)
    assert all(0.9 <= share <= 0.995 for share in covered.values()), covered


def test_spread_over_seeds(rows):
    found = spread(EpisodeTable.of(rows))
    runs = [PooledScores(row for row in rows if row.seed == seed).metrics() for seed in (0, 1)]
    for name, (mean, deviation, seeds) in found.items():
        values = [run[name] for run in runs]
        assert mean == pytest.approx(np.mean(values)) and seeds == 2
        assert deviation == pytest.approx(np.std(values, ddof=1))
    assert found["miou"].deviation > 0
    alone = spread(EpisodeTable.of(rows[:24]))["miou"]
    assert alone.deviation is None and alone.seeds == 1


def test_a_seed_that_missed_a_class(rows):
    kept = [row for row in rows if row.seed == 0 or row.class_name != "class 1"]
    run = PooledScores(row for row in kept if row.seed == 1).metrics()
    one = PooledScores(row for row in kept if row.seed == 0).metrics()
    assert spread(EpisodeTable.of(kept))["miou"].mean == pytest.approx((run["miou"] + one["miou"]) / 2)


@pytest.mark.parametrize("wrong", [{"level": 1}, {"replicates": 0}, {"seed": -1}])
def test_bad_numbers_are_refused(rows, wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is .*; expected"):
        bootstrap(EpisodeTable.of(rows), **wrong)
