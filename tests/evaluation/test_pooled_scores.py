import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softmatch_jax._checks import InputError
from softmatch_jax.evaluation.boundaries import BoundaryCounts
from softmatch_jax.evaluation.counting import Counts
from softmatch_jax.evaluation.pooling import EpisodeScore, PooledScores
from softmatch_jax.evaluation.table import EpisodeTable

NUMBER = st.integers(0, 300)
NEAR = st.tuples(NUMBER, NUMBER).map(sorted).map(lambda pair: pair[::-1])
BOUNDARY = st.tuples(NEAR, NEAR, NEAR).map(
    lambda p: BoundaryCounts(p[0][1], p[0][0], *p[1], *p[2])
)  # fmt: skip
SCORES = st.lists(
    st.builds(
        lambda name, target, counts, boundary: (name, target, Counts(*counts), boundary),
        st.sampled_from("abc"),
        st.sampled_from("123"),
        st.tuples(*[NUMBER] * 4),
        BOUNDARY,
    ),
    min_size=1,
    max_size=12,
).map(
    lambda rows: [
        EpisodeScore(seed=0, index=i, class_name=name, target=target, counts=counts, boundary=boundary)
        for i, (name, target, counts, boundary) in enumerate(rows)
    ]
)


def score(class_name, *counts, index=0, boundary=None):
    return EpisodeScore(
        seed=0, index=index, class_name=class_name, target="t", counts=Counts(*counts), boundary=boundary
    )


def test_pooled_by_hand():
    pooled = PooledScores([score("cat", 1, 1, 0, 8), score("cat", 6, 0, 2, 2), score("dog", 2, 3, 3, 2)])
    assert pooled.episodes == 3 and pooled.counts == Counts(9, 4, 5, 12)
    metrics = pooled.metrics()
    assert metrics["miou"] == pytest.approx((7 / 10 + 2 / 8) / 2)
    assert metrics["mean_iou"] == pytest.approx((1 / 2 + 6 / 8 + 2 / 8) / 3)
    assert metrics["fb_iou"] == pytest.approx((9 / 18 + 12 / 21) / 2)
    assert "boundary_iou" not in metrics
    table = pooled.by_class()
    assert list(table) == ["cat", "dog"]
    assert table["cat"].iou == pytest.approx(0.7) and table["cat"].mean_iou == pytest.approx(0.625)
    assert table["cat"].episodes == 2 and table["cat"].counts == Counts(7, 1, 2, 10)
    assert table["cat"].boundary_iou is None and table["cat"].boundary_f is None


def test_boundaries_by_hand():
    one, two = BoundaryCounts(1, 4, 10, 5, 20, 5), BoundaryCounts(4, 6, 10, 10, 20, 20)
    other = BoundaryCounts(0, 5, 10, 0, 0, 0)
    rows = [score("a", 1, boundary=one), score("a", 1, boundary=two), score("b", 1, boundary=other)]
    metrics = PooledScores(rows).metrics()
    assert metrics["boundary_iou"] == pytest.approx((5 / 10 + 0) / 2)
    assert metrics["boundary_f"] == pytest.approx((one.f + 1 + 0) / 3)
    assert PooledScores(rows).by_class()["a"].boundary_iou == 0.5
    assert "boundary_f" not in PooledScores([*rows, score("b", 1)]).metrics()


def test_empty_masks_are_scored_as_published_when_pooled():
    metrics = PooledScores([score("a", 0, 0, 0, 9)]).metrics()
    assert (metrics["miou"], metrics["mean_iou"], metrics["fb_iou"]) == (0, 1, 0.5)


@given(SCORES)
def test_agrees_with_loops(scores):
    """The published bookkeeping: [2, classes] buffers of intersection and union."""
    inter, union = np.zeros((2, 3)), np.zeros((2, 3))
    for s in scores:
        i, (tp, fp, fn, tn) = "abc".index(s.class_name), s.counts
        inter[:, i] += tn, tp
        union[:, i] += tn + fp + fn, tp + fp + fn
    seen = ["abc".index(name) for name in sorted({s.class_name for s in scores})]
    metrics = PooledScores(scores).metrics()
    assert metrics["miou"] == pytest.approx((inter / np.maximum(union, 1))[1, seen].mean())
    assert metrics["fb_iou"] == pytest.approx((inter.sum(axis=1) / np.maximum(union.sum(axis=1), 1)).mean())
    assert metrics["mean_iou"] == pytest.approx(np.mean([s.counts.iou for s in scores]))
    assert metrics["boundary_f"] == pytest.approx(np.mean([s.boundary.f for s in scores]))


@given(SCORES)
def test_agrees_with_the_table(scores):
    table = EpisodeTable.of(scores)
    assert table.metrics() == PooledScores(scores).metrics()
    assert table.iou == pytest.approx([s.counts.iou for s in scores])


@given(SCORES, st.randoms(use_true_random=False), st.integers(0, 12), st.integers(0, 12))
def test_shards_and_order_change_nothing(scores, random, i, j):
    whole = PooledScores(scores)
    shuffled = random.sample(scores, len(scores))
    i, j = sorted((i, j))
    a, b, c = (PooledScores(part) for part in (shuffled[:i], shuffled[i:j], shuffled[j:]))
    for merged in ((a + b) + c, a + (b + c), c + a + b):
        assert merged.metrics() == whole.metrics() and merged.by_class() == whole.by_class()
    assert (a + b).episodes == min(j, len(scores))
    assert a.episodes == min(i, len(scores))  # the parts are left as they were


def test_memory_is_of_classes():
    pooled = PooledScores()
    for i in range(2000):
        pooled.add(score("ab"[i % 2], 2**40, 1, 1, 2**40, index=i))
    assert len(pooled._sums) == 2 and pooled.counts.tp == 2000 * 2**40


def test_numbers_of_numpy_do_not_overflow():
    pooled = PooledScores(score("a", *np.array([2**30, 0, 0, 0], np.int32)) for _ in range(4))
    assert pooled.counts.tp == 2**32


def test_nothing_is_refused():
    with pytest.raises(InputError, match="There is no episode to score"):
        PooledScores().metrics()
