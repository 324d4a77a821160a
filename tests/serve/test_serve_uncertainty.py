"""How unsure a find is: the formula, its limits and its order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softmatch_jax.serve.engine.uncertainty import WIDTH, class_uncertainty, entropy, target_uncertainty

MASK = np.ones((4, 4), bool)
BAR = 0.45


def of(resemblance, probability=1.0, mask=MASK):
    return class_uncertainty(resemblance, BAR, np.full((4, 4), probability, np.float32), mask)


def test_entropy_is_that_of_a_coin():
    assert entropy(0.5) == 1 and entropy(0) == pytest.approx(0, abs=1e-9) == entropy(1)
    assert entropy(0.11) == pytest.approx(0.4999, abs=1e-3) == entropy(0.89)


def test_the_three_cases():
    assert of(0.9) < 0.01  # a sure find
    assert of(BAR) == pytest.approx(1)  # a find at the bar
    assert of(BAR, mask=None) == pytest.approx(1)
    assert of(0.0, mask=None) < 0.01  # an absence by far
    assert of(0.9, probability=0.5) == pytest.approx(1)  # there, and nobody knows where


def test_the_formula():
    there = 1 / (1 + np.exp(-1))
    u_r = -(there * np.log2(there) + (1 - there) * np.log2(1 - there))
    u_m = -(0.9 * np.log2(0.9) + 0.1 * np.log2(0.1))
    assert of(BAR + WIDTH, mask=None) == pytest.approx(u_r)
    assert of(BAR + WIDTH, probability=0.9) == pytest.approx(1 - (1 - u_r) * (1 - u_m), rel=1e-5)


@given(st.floats(-50, 1), st.floats(-50, 1), st.floats(0, 1))
def test_nearer_to_the_bar_is_less_sure(one, other, probability):
    near, far = sorted((one, other), key=lambda value: abs(value - BAR))
    assert 0 <= of(far, probability) <= of(near, probability) + 1e-9 <= 1 + 2e-9
    assert of(BAR - (near - BAR), probability) == pytest.approx(of(near, probability), abs=1e-9)


@given(st.floats(-1, 1), st.floats(0.5, 1), st.floats(0.5, 1))
def test_a_vaguer_map_is_less_sure(resemblance, one, other):
    vague, clear = sorted((one, other))
    assert of(resemblance, clear) <= of(resemblance, vague) + 1e-6


def test_pixels_beside_the_find_say_nothing():
    probability = np.full((4, 4), 0.5, np.float32)
    probability[0] = 1
    assert class_uncertainty(0.9, BAR, probability, np.arange(4)[:, None] * np.ones(4) == 0) < 0.01
    assert class_uncertainty(0.9, BAR, probability, ~MASK) < 0.01


def test_a_target_is_as_unsure_as_its_most_unsure_class():
    assert target_uncertainty([0.1, 0.7, 0.3]) == 0.7 and target_uncertainty([]) == 0
