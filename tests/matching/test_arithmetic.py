from __future__ import annotations

import jax
import jax.numpy as jnp
import matching_oracles as oracles
import numpy as np
import ot
import pytest
from jax.test_util import check_grads

from softmatch_jax import matching
from softmatch_jax._checks import InputError

arithmetic_mean, arithmetic_contrast, log_density, geometric_mean = (
    jax.jit(function, static_argnames=static)
    for function, static in (
        (matching.arithmetic_mean, "tile"),
        (matching.arithmetic_contrast, ("tile", "target_share")),
        (matching.log_density, "tile"),
        (matching.geometric_mean, ()),
    )
)

WEIGHTS = jnp.asarray([0.0, 1.0, 0.2, 0.0, 3.0, 0.5, 0.5, 2.0, 0.1])
VALID = jnp.arange(13) % 4 != 2


def probability(result):
    return np.exp(np.asarray(result.log_probability, np.float64))


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("valid", [None, VALID])
def test_is_its_definition(pair, temperature, weights, valid):
    expected = oracles.arithmetic(*pair, temperature, weights, valid)
    actual = arithmetic_mean(*pair, temperature=temperature, weights=weights, valid=valid)
    # Logits reach 20 at the lower temperature; half an ulp of them is 1e-6.
    np.testing.assert_allclose(probability(actual), expected, rtol=2e-5)


def test_is_the_column_mass_of_semi_relaxed_transport(pair, x64):
    """POT's Sinkhorn with the references' marginal all but fixed and the target's all but free."""
    f, g = (x.astype(jnp.float64) for x in pair)
    share = np.asarray([0.3, 0.1, 0.02, 0.08, 0.05, 0.15, 0.1, 0.12, 0.08])
    plan = ot.unbalanced.sinkhorn_unbalanced(
        share,
        np.full(13, 1 / 13),
        1 - oracles.cosines(f, g),
        reg=0.2,
        reg_m=(1e7, 1e-7),
        reg_type="kl",
        numItermax=2000,
        stopThr=1e-12,
    )
    ours = arithmetic_mean(f, g, temperature=0.2, weights=jnp.asarray(share))
    np.testing.assert_allclose(probability(ours), plan.sum(axis=0), rtol=1e-5)  # what reg_m leaves


@pytest.mark.parametrize("tile", [1, 7, 9, 1000])
def test_the_tile_does_not_matter(pair, tile):
    plain = arithmetic_mean(*pair, temperature=0.1, weights=WEIGHTS, valid=VALID)
    tiled = arithmetic_mean(*pair, temperature=0.1, weights=WEIGHTS, valid=VALID, tile=tile)
    for a, b in zip(plain, tiled, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_tile_below_one(pair):
    with pytest.raises(InputError, match="tile is 0; expected at least 1"):
        arithmetic_mean(*pair, temperature=0.1, tile=0)


def test_towards_temperature_zero_references_vote_for_their_nearest_patch(pair):
    votes = np.zeros(13)
    for row, share in zip(oracles.cosines(*pair), oracles.shares_of(WEIGHTS, 9), strict=True):
        votes[row.argmax()] += share
    sharp = arithmetic_mean(*pair, temperature=1e-3, weights=WEIGHTS)
    np.testing.assert_allclose(probability(sharp), votes, atol=1e-3)  # runners-up keep e^(-gap / 1e-3)
    assert np.isfinite(sharp.log_probability).all() and np.isfinite(sharp.log_evidence)


def test_each_part_of_an_object_keeps_its_mode():
    """The geometric mean asks for consensus and finds what lies between the parts."""
    parts, between = np.eye(4)[:2], (np.eye(4)[0] + np.eye(4)[1])
    target = jnp.asarray(np.concatenate([parts, [between], np.eye(4)[2:]]), jnp.float32)
    arithmetic = arithmetic_mean(jnp.asarray(parts, jnp.float32), target, temperature=0.1)
    geometric = geometric_mean(jnp.asarray(parts, jnp.float32), target, temperature=0.1)
    assert set(np.argsort(arithmetic.score)[-2:].tolist()) == {0, 1}
    assert np.argmax(geometric.score) == 2


def test_one_reference_makes_both_means_one(pair):
    reference, target = pair
    a = arithmetic_mean(reference[:1], target, temperature=0.1, valid=VALID)
    b = geometric_mean(reference[:1], target, temperature=0.1, valid=VALID)
    np.testing.assert_allclose(a.log_probability, b.log_probability, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(a.log_evidence, b.log_evidence, rtol=1e-5)


def test_equivariant_over_targets_and_invariant_over_references(pair):
    reference, target = pair
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(9), rng.permutation(13)
    plain = arithmetic_mean(reference, target, temperature=0.2, weights=WEIGHTS)
    moved = arithmetic_mean(reference[rows], target[columns], temperature=0.2, weights=WEIGHTS[rows])
    np.testing.assert_allclose(moved.score, plain.score[columns], rtol=1e-5)


def test_padding_on_either_side_changes_nothing(pair):
    reference, target = pair
    plain = arithmetic_mean(*pair, temperature=0.05, weights=WEIGHTS, tile=4)
    # The padded references are the target itself: the best match there is, were it counted.
    padded = arithmetic_mean(
        jnp.concatenate([reference, target]),
        jnp.concatenate([target, reference]),
        temperature=0.05,
        weights=jnp.concatenate([WEIGHTS, jnp.zeros(13)]),
        valid=jnp.arange(22) < 13,
        tile=4,
    )
    np.testing.assert_allclose(padded.log_probability[:13], plain.log_probability, rtol=1e-5)
    np.testing.assert_allclose(padded.log_evidence, plain.log_evidence, rtol=1e-5)


def test_evidence_is_log_of_the_mean_kernel(pair):
    valid = np.asarray(VALID)
    expected = np.log(oracles.kernel_sums(*pair, 0.2, WEIGHTS)[valid].mean())
    actual = arithmetic_mean(*pair, temperature=0.2, weights=WEIGHTS, valid=VALID).log_evidence
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("tile", [4, 256])
def test_log_density_is_its_definition(pair, tile):
    expected = np.log(oracles.kernel_sums(*pair, 0.1, WEIGHTS))
    actual = log_density(*pair, temperature=0.1, weights=WEIGHTS, tile=tile)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    assert np.isneginf(log_density(*pair, temperature=0.1, weights=jnp.zeros(9), tile=tile)).all()


def test_log_density_underflows_for_no_temperature():
    far = log_density(jnp.asarray([[1.0, 0.0]]), jnp.asarray([[-1.0, 0.0]]), temperature=1e-3)
    np.testing.assert_allclose(far, -1000, rtol=1e-6)
    # A reference of weight zero that fits a thousand times better does not push the other below zero.
    both = jnp.asarray([[1.0, 0.0], [-1.0, 0.0]])
    beside = log_density(both, jnp.asarray([[-1.0, 0.0]]), temperature=1e-3, weights=jnp.asarray([1.0, 0.0]))
    np.testing.assert_allclose(beside, -1000, rtol=1e-6)


@pytest.mark.parametrize("target_share", [0.0, 0.3, 1.0])
def test_contrast_is_a_log_ratio_of_densities(pair, target_share):
    background, valid = 3.5 - WEIGHTS, np.asarray(VALID)
    inside = oracles.kernel_sums(*pair, 0.2, WEIGHTS)
    outside = oracles.kernel_sums(*pair, 0.2, background)
    itself = oracles.kernel_sums(pair[1], pair[1], 0.2, valid)
    expected = np.log(inside / ((1 - target_share) * outside + target_share * itself))
    actual = arithmetic_contrast(
        *pair,
        temperature=0.2,
        foreground=WEIGHTS,
        background=background,
        target_share=target_share,
        valid=VALID,
        tile=4,
    )
    np.testing.assert_allclose(actual.score[VALID], expected[valid], rtol=1e-4, atol=1e-5)
    assert np.isneginf(actual.score[~VALID]).all()


def test_contrast_of_the_object_with_itself_is_zero(pair):
    score = arithmetic_contrast(*pair, temperature=0.1, foreground=WEIGHTS, background=2 * WEIGHTS).score
    np.testing.assert_allclose(score, 0, atol=1e-5)


def test_contrast_without_background_is_the_plain_density(pair):
    alone = arithmetic_contrast(*pair, temperature=0.1, foreground=WEIGHTS, background=jnp.zeros(9)).score
    np.testing.assert_allclose(alone, log_density(*pair, temperature=0.1, weights=WEIGHTS), rtol=1e-6)


def arrays_of(jaxpr):
    """Every array that the program makes, loops and branches included."""
    for equation in jaxpr.eqns:
        yield from (variable.aval for variable in equation.outvars)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(inner := getattr(inner, "jaxpr", inner), "eqns"):
                yield from arrays_of(inner)


def largest_array(function, *shapes):
    program = jax.make_jaxpr(function)(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes))
    return max(aval.size for aval in arrays_of(program.jaxpr) if hasattr(aval, "size"))


@pytest.mark.parametrize("match", [matching.arithmetic_mean, matching.log_density])
def test_the_matrix_of_similarities_is_never_made(match):
    R, T, d, tile = 1000, 700, 3, 20
    largest = largest_array(lambda f, g: match(f, g, temperature=0.1, tile=tile), (R, d), (T, d))
    assert largest == tile * T
    assert largest_array(lambda f, g: f @ g.T, (R, d), (T, d)) == R * T  # the measure sees what it should


def test_vmap_is_a_loop(pair):
    reference, target = pair
    targets = jnp.stack([target, -target, target[::-1]])

    def match(one):
        return arithmetic_contrast(
            reference, one, temperature=0.1, foreground=WEIGHTS, background=3.5 - WEIGHTS, valid=VALID, tile=4
        )

    together = jax.jit(jax.vmap(match))(targets)
    for index, one in enumerate(targets):
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(match(one)), strict=True):
            np.testing.assert_allclose(a[index], b, rtol=1e-5, atol=1e-5)


def test_jit_changes_nothing(pair):
    for a, b in zip(
        *(
            match(*pair, temperature=0.1, weights=WEIGHTS)
            for match in (arithmetic_mean, matching.arithmetic_mean)
        ),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_gradient_agrees_with_differences(pair, x64):
    f, g = (x.astype(jnp.float64) for x in pair)
    grades = jnp.arange(13.0)

    @jax.jit
    def loss(f, g, weights):
        mean = arithmetic_mean(f, g, temperature=0.3, weights=weights, valid=VALID, tile=4)
        contrast = arithmetic_contrast(
            f, g, temperature=0.3, foreground=weights, background=3.5 - weights, valid=VALID, tile=4
        )
        return jnp.exp(mean.log_probability + contrast.log_probability) @ grades + mean.log_evidence

    # Some references without weight, and a whole tile of them.
    for weights in (WEIGHTS.astype(jnp.float64), WEIGHTS.astype(jnp.float64).at[:5].set(0)):
        check_grads(lambda f, g, a=weights: loss(f, g, a), (f, g), order=1, modes=["rev"])


def test_gradient_over_positive_weights_agrees_with_differences(pair, x64):
    f, g = (x.astype(jnp.float64) for x in pair)

    def loss(weights):
        return log_density(f, g, temperature=0.3, weights=weights, tile=4) @ jnp.arange(13.0)

    check_grads(jax.jit(loss), (WEIGHTS.astype(jnp.float64) + 0.1,), order=1, modes=["rev"])
