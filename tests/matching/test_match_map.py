from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from softmatch_jax.matching import match_map

SCORE = jnp.asarray([1.0, -2.0, 0.5, 700.0, 3.0])


def test_sums_to_one_over_valid_and_is_minus_inf_elsewhere():
    valid = jnp.asarray([True, True, False, False, True])
    result = match_map(SCORE, valid)
    assert np.exp(result.log_probability).sum() == np.float32(1)
    assert np.isneginf(result.log_probability[~valid]).all() and np.isneginf(result.score[~valid]).all()
    np.testing.assert_array_equal(result.score[valid], SCORE[valid])


def test_evidence_is_log_of_the_mean_exponential():
    valid = jnp.asarray([True, True, False, False, True])
    expected = np.log(np.mean(np.exp([1.0, -2.0, 3.0])))
    np.testing.assert_allclose(match_map(SCORE, valid).log_evidence, expected, rtol=1e-6)


def test_a_constant_moves_the_evidence_and_not_the_map():
    plain, lifted = match_map(SCORE), match_map(SCORE + 5)
    np.testing.assert_allclose(plain.log_probability, lifted.log_probability, atol=1e-4)  # ulp of 705: 6e-5
    np.testing.assert_allclose(lifted.log_evidence - plain.log_evidence, 5, atol=1e-4)
