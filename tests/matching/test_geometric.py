from __future__ import annotations

import jax
import jax.numpy as jnp
import matching_oracles as oracles
import numpy as np
import pytest
from jax.test_util import check_grads

from softmatch_jax import matching

arithmetic_mean, geometric_mean, geometric_mean_dense, geometric_contrast, weighted_mean = map(
    jax.jit,
    (
        matching.arithmetic_mean,
        matching.geometric_mean,
        matching.geometric_mean_dense,
        matching.geometric_contrast,
        matching.weighted_mean,
    ),
)

WEIGHTS = jnp.asarray([0.0, 1.0, 0.2, 0.0, 3.0, 0.5, 0.5, 2.0, 0.1])
VALID = jnp.arange(13) % 4 != 2


def probability(result):
    return np.exp(np.asarray(result.log_probability, np.float64))


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_collapsed_is_dense_is_the_definition(pair, temperature, weights):
    expected = oracles.geometric(*pair, temperature, weights)
    collapsed = geometric_mean(*pair, temperature=temperature, weights=weights)
    dense = geometric_mean_dense(*pair, temperature=temperature, weights=weights)
    # Logits reach 20 at the lower temperature; half an ulp of them is 1e-6.
    np.testing.assert_allclose(probability(collapsed), expected, rtol=2e-5)
    np.testing.assert_allclose(np.exp(dense), expected, rtol=2e-5)


def test_invalid_patches_are_left_out(pair):
    reference, target = pair
    masked = geometric_mean(*pair, temperature=0.2, valid=VALID)
    np.testing.assert_allclose(
        probability(masked), oracles.geometric(*pair, 0.2, valid=VALID), rtol=1e-5, atol=0
    )
    kept = geometric_mean(reference, target[VALID], temperature=0.2)
    np.testing.assert_allclose(masked.log_probability[VALID], kept.log_probability, rtol=1e-6)
    np.testing.assert_allclose(masked.log_evidence, kept.log_evidence, rtol=1e-5)


def test_references_of_weight_zero_are_left_out(pair):
    reference, target = pair
    padded = jnp.concatenate([reference, jnp.full((4, 5), 9.0)])
    weights = jnp.concatenate([WEIGHTS, jnp.zeros(4)])
    a = geometric_mean(padded, target, temperature=0.2, weights=weights)
    b = geometric_mean(reference, target, temperature=0.2, weights=WEIGHTS)
    np.testing.assert_allclose(a.score, b.score, rtol=1e-5, atol=1e-6)


def test_evidence_is_log_of_the_mean_match(pair):
    similarity = oracles.cosines(*pair)
    expected = np.log(np.mean(np.exp(similarity.mean(axis=0) / 0.2)[VALID]))
    actual = geometric_mean(*pair, temperature=0.2, valid=VALID).log_evidence
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_temperature_changes_sharpness_and_never_the_ranking(pair):
    rankings = [np.argsort(geometric_mean(*pair, temperature=t).score) for t in (0.01, 0.1, 1.0, 50.0)]
    for ranking in rankings[1:]:
        np.testing.assert_array_equal(ranking, rankings[0])


def test_equivariant_over_targets_and_invariant_over_references(pair):
    reference, target = pair
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(9), rng.permutation(13)
    plain = geometric_mean(reference, target, temperature=0.2, weights=WEIGHTS)
    moved = geometric_mean(reference[rows], target[columns], temperature=0.2, weights=WEIGHTS[rows])
    np.testing.assert_allclose(moved.score, plain.score[columns], rtol=1e-5, atol=1e-6)


def test_the_length_of_features_does_not_matter(pair):
    reference, target = pair
    rng = np.random.default_rng(2)
    lengths = [jnp.asarray(rng.uniform(0.1, 9, (n, 1)), jnp.float32) for n in (9, 13)]
    scaled = geometric_mean(
        reference * jnp.broadcast_to(lengths[0], reference.shape),
        target * jnp.broadcast_to(lengths[1], target.shape),
        temperature=0.2,
    )
    np.testing.assert_allclose(
        scaled.score, geometric_mean(*pair, temperature=0.2).score, rtol=1e-5, atol=1e-6
    )


def test_tends_to_uniform_and_to_the_arithmetic_mean_as_temperature_grows(pair, x64):
    f, g = (x.astype(jnp.float64) for x in pair)
    geometric, arithmetic = (
        [probability(match(f, g, temperature=t)) for t in (8.0, 16.0, 32.0)]
        for match in (geometric_mean, arithmetic_mean)
    )
    uniform = [np.abs(p - 1 / 13).max() for p in geometric]
    apart = [np.abs(p - q).max() for p, q in zip(geometric, arithmetic, strict=True)]
    # Halving 1/tau halves the distance to uniform; the two means part at the second order only.
    np.testing.assert_allclose(np.divide(uniform[:-1], uniform[1:]), 2, rtol=0.05)
    np.testing.assert_allclose(np.divide(apart[:-1], apart[1:]), 4, rtol=0.05)


def test_adding_references_averages_their_means(pair):
    reference, _ = pair
    first, second = weighted_mean(reference[:4]), weighted_mean(reference[4:])
    np.testing.assert_allclose(weighted_mean(reference), (4 * first + 5 * second) / 9, rtol=1e-5, atol=1e-6)
    less = (9 * weighted_mean(reference) - 4 * first) / 5
    np.testing.assert_allclose(less, second, rtol=1e-5, atol=1e-6)


def test_evidence_tells_present_from_absent(pair):
    reference, target = pair
    present = geometric_mean(reference[:1], jnp.concatenate([target, reference[:1]]), temperature=0.1)
    absent = geometric_mean(reference[:1], target, temperature=0.1)
    assert present.log_evidence > absent.log_evidence


def test_contrast_is_a_difference_of_mean_cosines(pair):
    similarity, itself = oracles.cosines(*pair), oracles.cosines(pair[1], pair[1])
    background = 3.5 - WEIGHTS
    expected = (
        oracles.shares_of(WEIGHTS, 9) @ similarity
        - 0.7 * oracles.shares_of(background, 9) @ similarity
        - 0.3 * itself[np.asarray(VALID)].mean(axis=0)
    ) / 0.2
    actual = geometric_contrast(
        *pair, temperature=0.2, foreground=WEIGHTS, background=background, target_share=0.3, valid=VALID
    )
    np.testing.assert_allclose(actual.score[VALID], expected[np.asarray(VALID)], rtol=1e-4, atol=1e-5)


def test_contrast_of_the_object_with_itself_is_zero(pair):
    score = geometric_contrast(*pair, temperature=0.1, foreground=WEIGHTS, background=2 * WEIGHTS).score
    np.testing.assert_allclose(score, 0, atol=1e-5)


def test_contrast_without_background_is_the_plain_mean(pair):
    alone = geometric_contrast(*pair, temperature=0.1, foreground=WEIGHTS, background=jnp.zeros(9))
    plain = geometric_mean(*pair, temperature=0.1, weights=WEIGHTS)
    np.testing.assert_allclose(alone.score, plain.score, rtol=1e-6)


def test_contrast_on_the_targets_mean_sums_to_zero_along_it(pair):
    target = pair[1]
    score = geometric_contrast(
        target, target, temperature=1.0, foreground=jnp.ones(13), background=jnp.zeros(13), target_share=1.0
    ).score
    np.testing.assert_allclose(score, 0, atol=1e-6)


def test_vmap_is_a_loop_and_jit_changes_nothing(pair):
    reference, target = pair
    targets = jnp.stack([target, -target, target[::-1]])

    def match(one):
        return matching.geometric_mean(reference, one, temperature=0.1, weights=WEIGHTS, valid=VALID)

    together = jax.jit(jax.vmap(match))(targets)
    for index, one in enumerate(targets):
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(match(one)), strict=True):
            np.testing.assert_allclose(a[index], b, rtol=1e-5, atol=1e-5)


def test_gradient_agrees_with_differences(pair, x64):
    f, g = (x.astype(jnp.float64) for x in pair)
    grades = jnp.arange(13.0)

    @jax.jit
    def loss(f, g, weights):
        result = geometric_mean(f, g, temperature=0.3, weights=weights, valid=VALID)
        return jnp.exp(result.log_probability) @ grades + result.log_evidence

    check_grads(loss, (f, g, WEIGHTS.astype(jnp.float64) + 0.1), order=1, modes=["rev"])


def test_mean_keeps_its_length(pair):
    """Agreement acts as inverse temperature: of opposed references nothing is left."""
    reference, target = pair
    opposed = jnp.concatenate([reference, -reference])
    np.testing.assert_allclose(geometric_mean(opposed, target, temperature=0.1).score, 0, atol=1e-5)
    same = jnp.broadcast_to(reference[:1], (6, 5))
    expected = oracles.cosines(*pair)[0] / 0.1
    np.testing.assert_allclose(
        geometric_mean(same, target, temperature=0.1).score, expected, rtol=1e-5, atol=1e-6
    )
