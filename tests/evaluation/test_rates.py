import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softmatch_jax.evaluation.counting import Counts, count
from softmatch_jax.evaluation.rates import Confusion


def test_counted_by_hand():
    confusion = Confusion(Counts(tp=30, fp=20, fn=10, tn=140))
    assert confusion.true_positive_rate == 0.75 and confusion.false_negative_rate == 0.25
    assert confusion.true_negative_rate == 0.875 and confusion.false_positive_rate == 0.125
    assert confusion.true_positive_share == 0.15 and confusion.false_negative_share == 0.05
    assert confusion.true_negative_share == 0.7 and confusion.false_positive_share == 0.1


@given(st.tuples(*[st.integers(1, 10**12)] * 4))
def test_what_makes_one(counts):
    c = Confusion(Counts(*counts))
    assert c.true_positive_rate + c.false_negative_rate == pytest.approx(1)
    assert c.true_negative_rate + c.false_positive_rate == pytest.approx(1)
    shares = c.true_positive_share, c.false_positive_share, c.false_negative_share, c.true_negative_share
    assert sum(shares) == pytest.approx(1)


def test_of_masks():
    rng = np.random.default_rng(0)
    found, truth, void = rng.random((3, 30, 40)) < 0.4
    void &= ~truth
    c = Confusion(count(found, truth, void))
    assert c.true_positive_rate == pytest.approx(found[truth].mean())
    assert c.false_positive_rate == pytest.approx(found[~truth & ~void].mean())
    assert c.true_negative_share == pytest.approx((~found & ~truth)[~void].mean())


def test_of_nothing():
    none = Confusion(Counts(tn=5))
    assert math.isnan(none.true_positive_rate) and none.true_negative_rate == 1
    assert math.isnan(Confusion(Counts()).true_negative_share)
