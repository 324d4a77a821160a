"""Entropic transport: its corners against closed forms, its plans against POT, ott-jax and SciPy."""

from __future__ import annotations

import math
import re
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from jax.test_util import check_grads
from matching_oracles import arithmetic, cosines, geometric
from scipy.optimize import linear_sum_assignment
from slow_params import mostly_slow

from softmatch_jax import matching
from softmatch_jax._checks import InputError
from softmatch_jax.matching import Sinkhorn, match, prepare, sinkhorn
from softmatch_jax.matching.interface import match_patches

WEIGHTS = np.array([0.5, 1.0, 0.2, 2.0, 3.0, 0.5, 0.5, 2.0, 0.1])
SHARE = WEIGHTS / WEIGHTS.sum()
VALID = np.arange(13) % 4 != 2
EXACT = {"tolerance": 1e-12, "iterations": 20000}


@pytest.fixture
def doubles(pair, x64):
    return tuple(jnp.asarray(np.asarray(side, np.float64)) for side in pair)


def solve(pair, **settings):
    return sinkhorn(*pair, weights=jnp.asarray(WEIGHTS), settings=Sinkhorn(**{**EXACT, **settings}))


def plan(pair, solved, epsilon):
    """Rebuilt from the potentials, as the class documents it."""
    exponent = solved.reference_potential[:, None] + solved.target_potential[None, :] - (1 - cosines(*pair))
    return SHARE[:, None] / 13 * np.exp(exponent / epsilon)


def probability(result):
    return np.exp(np.asarray(result.log_probability, np.float64))


def variation(p, q):
    return 0.5 * np.abs(p - q).sum()


@pytest.mark.parametrize("epsilon", mostly_slow([0.02, 0.1, 1.0], 1.0))
def test_balanced_plan_is_pots(doubles, epsilon):
    solved = solve(doubles, epsilon=epsilon)
    theirs = ot.sinkhorn(
        SHARE,
        np.full(13, 1 / 13),
        1 - cosines(*doubles),
        epsilon,
        method="sinkhorn_log",
        numItermax=20000,
        stopThr=1e-14,
    )
    ours = plan(doubles, solved, epsilon)
    np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(ours.sum(axis=1), SHARE, rtol=1e-9)
    np.testing.assert_allclose(ours.sum(axis=0), 1 / 13, rtol=1e-9)
    np.testing.assert_allclose(solved.column_mass, 1 / 13, rtol=1e-9)
    kl = np.sum(theirs * np.log(theirs / (SHARE[:, None] / 13)))
    np.testing.assert_allclose(
        solved.value, np.sum(theirs * (1 - cosines(*doubles))) + epsilon * kl, rtol=1e-8
    )


@pytest.mark.parametrize("relaxation", [0.03, 0.5])
@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_unbalanced_plan_is_pots(doubles, epsilon, relaxation):
    solved = solve(doubles, epsilon=epsilon, relaxation=relaxation)
    theirs = ot.unbalanced.sinkhorn_unbalanced(
        SHARE,
        np.full(13, 1 / 13),
        1 - cosines(*doubles),
        reg=epsilon,
        reg_m=(1e9, relaxation),
        reg_type="kl",
        numItermax=50000,
        stopThr=1e-14,
    )
    # POT holds rows by a large weight only: 1e9 leaves 1e-9 of relative error, its stopping rule more.
    np.testing.assert_allclose(solved.column_mass, theirs.sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(plan(doubles, solved, epsilon), theirs, rtol=1e-6)
    mass = np.asarray(solved.column_mass)
    value = (
        np.sum(theirs * (1 - cosines(*doubles)))
        + epsilon * np.sum(theirs * np.log(theirs / (SHARE[:, None] / 13)))
        + relaxation * np.sum(mass * np.log(13 * mass))
    )
    np.testing.assert_allclose(solved.value, value, rtol=1e-6)


def test_is_ott_on_its_dense_geometry(doubles):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from ott.geometry import geometry
        from ott.solvers import linear
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        theirs = linear.solve(
            geometry.Geometry(jnp.asarray(1 - cosines(*doubles)), epsilon=0.05),
            a=jnp.asarray(SHARE),
            b=jnp.full(13, 1 / 13),
            tau_b=0.2 / 0.25,
            threshold=1e-12,
            max_iterations=20000,
        )
        np.testing.assert_allclose(
            plan(doubles, solve(doubles, epsilon=0.05, relaxation=0.2), 0.05), theirs.matrix, rtol=1e-7
        )


@pytest.mark.parametrize("valid", [None, VALID])
def test_free_columns_are_the_arithmetic_mean(doubles, valid):
    ours = match(
        *doubles, method=Sinkhorn(epsilon=0.1, relaxation=0), temperature=0.1, weights=WEIGHTS, valid=valid
    )
    np.testing.assert_allclose(probability(ours), arithmetic(*doubles, 0.1, WEIGHTS, valid), rtol=1e-10)


@pytest.mark.parametrize("relaxation", mostly_slow([0.0, 0.05, math.inf], 0.05))
def test_large_epsilon_is_the_geometric_mean_and_is_approached_as_its_inverse(doubles, relaxation):
    exact = geometric(*doubles, 0.1, WEIGHTS)
    away = []
    for epsilon in (4.0, 8.0, 16.0):
        method = Sinkhorn(epsilon=epsilon, relaxation=relaxation, **EXACT)
        away.append(
            variation(probability(match(*doubles, method=method, temperature=0.1, weights=WEIGHTS)), exact)
        )
    assert away[-1] < 0.03
    np.testing.assert_allclose(np.divide(away[:-1], away[1:]), 2, atol=0.15)  # the next order is 1/eps^2


@pytest.mark.slow
def test_log_evidence_tends_to_the_geometric_one(doubles):
    expected = match(*doubles, temperature=0.1, weights=WEIGHTS).log_evidence
    for relaxation in (0.0, 0.3, math.inf):
        method = Sinkhorn(epsilon=1e4, relaxation=relaxation, tolerance=1e-10)
        actual = match(*doubles, method=method, temperature=0.1, weights=WEIGHTS).log_evidence
        np.testing.assert_allclose(actual, expected, atol=1e-3)  # of order 1/eps/temperature


def test_small_epsilon_is_scipys_assignment(x64):
    rng = np.random.default_rng(4)
    first, second = (jnp.asarray(rng.normal(size=(8, 5))) for _ in range(2))
    solved = sinkhorn(first, second, settings=Sinkhorn(epsilon=1e-3, iterations=100000, tolerance=1e-9))
    exponent = (
        solved.reference_potential[:, None] + solved.target_potential[None, :] - (1 - cosines(first, second))
    )
    found = np.exp(exponent / 1e-3) / 64
    rows, columns = linear_sum_assignment(cosines(first, second), maximize=True)
    expected = np.zeros((8, 8))
    expected[rows, columns] = 1 / 8
    np.testing.assert_allclose(
        found, expected, atol=1e-5
    )  # what so many iterations leave: small epsilon is slow
    best = np.mean(1 - cosines(first, second)[rows, columns])
    # The value lies above the unregularised one by epsilon times the divergence of a permutation, log 8.
    np.testing.assert_allclose(solved.value, best + 1e-3 * math.log(8), atol=1e-5)


def test_relaxation_runs_from_free_to_balanced(doubles):
    free, held = (solve(doubles, epsilon=0.1, relaxation=x).soft_cost for x in (0.0, math.inf))
    ends = [
        np.abs(np.asarray(solve(doubles, epsilon=0.1, relaxation=relaxation).soft_cost - end)).max()
        for end, relaxation in ((free, 1e-3), (free, 1e-4), (held, 1e2), (held, 1e3))
    ]
    np.testing.assert_allclose([ends[0] / ends[1], ends[2] / ends[3]], 10, rtol=0.1)  # both to first order


def test_column_mass_is_the_map_at_temperature_epsilon_plus_relaxation(doubles):
    method = Sinkhorn(epsilon=0.07, relaxation=0.2, **EXACT)
    found = match(*doubles, method=method, temperature=0.27, weights=WEIGHTS)
    np.testing.assert_allclose(
        probability(found), solve(doubles, epsilon=0.07, relaxation=0.2).column_mass, rtol=1e-8
    )


MODES = {"kernel": {}, "tiles": {"held_entries": 0, "tile": 4}}


@pytest.mark.parametrize("relaxation", mostly_slow([0.0, 0.1, math.inf], 0.1))
def test_kernel_cost_and_tiles_agree(pair, doubles, relaxation):
    """At 0.05 single precision holds the kernel; at 0.03 it must hold the cost."""
    for epsilon in (0.05, 0.03):
        settings = {"epsilon": epsilon, "relaxation": relaxation, "tolerance": 1e-4, "iterations": 5000}
        expected = solve(doubles, epsilon=epsilon, relaxation=relaxation)
        for mode in MODES.values():
            got = solve(pair, **{**settings, **mode})
            # An L1 error of 1e-4 in masses of 1/10 leaves the potentials off by about epsilon times 1e-3.
            np.testing.assert_allclose(got.soft_cost, expected.soft_cost, atol=3e-4)
            assert got.diagnostics.converged


def test_single_precision_takes_the_kernel_only_where_it_cannot_underflow():
    from softmatch_jax.matching._cosine_geometry import kernel_is_safe

    assert kernel_is_safe(0.05, np.float32) and not kernel_is_safe(0.04, np.float32)
    assert kernel_is_safe(0.01, np.float64) and not kernel_is_safe(0.005, np.float64)
    # The smallest product that can occur is a normal number.
    assert np.float32(np.exp(-4 / 0.05)) > np.finfo(np.float32).tiny


@pytest.mark.parametrize("mode", mostly_slow(MODES, "tiles"))
@pytest.mark.parametrize("relaxation", mostly_slow([0.2, math.inf], math.inf))
def test_opposite_features_do_not_underflow(relaxation, mode):
    """Costs of 0 and 2 at the smallest epsilon that holds the kernel in single precision."""
    features = jnp.asarray([[1.0, 0.0], [-1.0, 0.0]])
    settings = Sinkhorn(epsilon=0.05, relaxation=relaxation, **MODES[mode])
    solved = sinkhorn(features, features[jnp.array([0, 0, 0, 1])], settings=settings)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in solved[:5])
    assert solved.diagnostics.converged


@pytest.mark.slow
@pytest.mark.parametrize("mode", mostly_slow(MODES, "tiles"))
def test_padding_and_weightless_references_change_nothing(doubles, mode):
    reference, target = doubles
    settings = Sinkhorn(epsilon=0.05, relaxation=0.3, **EXACT, **MODES[mode])
    weights = jnp.asarray(WEIGHTS).at[jnp.array([1, 4])].set(0)
    kept = np.flatnonzero(weights)
    got = sinkhorn(reference, target, weights=weights, valid=jnp.asarray(VALID), settings=settings)
    expected = sinkhorn(reference[kept], target[VALID], weights=weights[kept], settings=settings)
    np.testing.assert_allclose(got.soft_cost[VALID], expected.soft_cost, rtol=1e-9)
    np.testing.assert_allclose(got.reference_potential[kept], expected.reference_potential, atol=1e-10)
    assert not got.column_mass[~VALID].any() and not got.reference_potential[np.asarray(weights) == 0].any()


def test_background_gives_the_log_odds_of_the_plan(doubles):
    background = WEIGHTS[::-1] * (np.arange(9) > 5)
    weights = WEIGHTS * (np.arange(9) <= 5)
    method = Sinkhorn(epsilon=0.1, **EXACT)
    found = match(*doubles, method=method, temperature=0.1, weights=weights, background=background)
    both = jnp.asarray(weights + background)
    solved = sinkhorn(*doubles, weights=both, settings=method)
    mass = np.asarray(both)[:, None] * np.exp(
        (solved.reference_potential[:, None] - (1 - cosines(*doubles))) / 0.1
    )
    expected = np.log(mass[:6].sum(axis=0) / mass[6:].sum(axis=0))
    np.testing.assert_allclose(found.score, expected, rtol=1e-8)


@pytest.mark.parametrize("mode", mostly_slow(MODES, "kernel"))
@pytest.mark.parametrize("relaxation", mostly_slow([0.0, 0.2, math.inf], 0.2))
def test_implicit_gradient_agrees_with_differences(doubles, relaxation, mode):
    method = Sinkhorn(epsilon=0.2, relaxation=relaxation, **EXACT, **MODES[mode])
    grades = jnp.linspace(-1, 1, 13)

    @jax.jit
    def loss(reference, target, temperature):
        found = match(reference, target, method=method, temperature=temperature, weights=jnp.asarray(WEIGHTS))
        return jnp.exp(found.log_probability) @ grades + found.log_evidence

    # Differences of a fixed point known to 1e-12, with steps of 1e-5. ott's backward pass promotes ranks.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        check_grads(
            loss, (*doubles, jnp.asarray(0.3)), order=1, modes=["rev"], eps=1e-5, atol=1e-5, rtol=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize("relaxation", mostly_slow([0.2, math.inf], 0.2))
def test_gradient_in_single_precision_and_past_padding(pair, doubles, relaxation):
    method = Sinkhorn(epsilon=0.2, relaxation=relaxation, tolerance=1e-6)

    def gradient(state, target, valid):
        def loss(target):
            found = match(state, target, temperature=0.3, valid=valid)
            return jnp.where(valid, jnp.exp(found.log_probability), 0) @ jnp.linspace(
                -1, 1, 13, dtype=target.dtype
            )

        return jax.grad(loss)(target)

    valid = jnp.arange(13) < 11
    expected = gradient(prepare(doubles[0], method=method), doubles[1], valid)
    # Nine rows are padded to a bucket; padding has no mass, and must not make the derivative 0 / 0.
    got = gradient(prepare(pair[0].astype(jnp.float32), method=method), pair[1], valid)
    np.testing.assert_allclose(got, expected, atol=2e-6)  # the tolerance, relative to masses of 1/10
    np.testing.assert_allclose(np.asarray(got)[11:], 0, atol=1e-6)  # what its floored mass leaves


def test_stopping_short_is_said(pair):
    method = Sinkhorn(epsilon=0.02, iterations=10, tolerance=1e-6)
    with pytest.warns(matching.ConvergenceWarning, match=r"stopped after 10 iterations.*raise iterations"):
        found = match(*pair, method=method, temperature=0.1)
    assert not found.diagnostics.converged
    assert found.diagnostics.error > 1e-6
    assert found.diagnostics.iterations == 10


def test_iterations_can_be_fixed(pair):
    method = Sinkhorn(epsilon=0.5, iterations=40, min_iterations=40)
    assert match(*pair, method=method, temperature=0.1).diagnostics.iterations == 40
    early = match(*pair, method=Sinkhorn(epsilon=0.5, iterations=40), temperature=0.1)
    assert early.diagnostics.iterations == 10
    assert early.diagnostics.error <= 1e-3


def test_tiles_never_make_the_cost_matrix():
    rng = np.random.default_rng(0)
    reference, target = (jnp.asarray(rng.normal(size=(n, 4)), jnp.float32) for n in (512, 704))
    for held_entries, whole in ((0, False), (2**20, True)):
        state = prepare(reference, method=Sinkhorn(held_entries=held_entries, tile=32))
        text = match_patches.lower(state, target, None, 0.1, normalized=False).compile().as_text()
        assert bool(re.search(r"\[(512,704|704,512)\]", text)) is whole


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epsilon": 0.0}, "epsilon is 0.0; expected a finite number greater than 0"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"relaxation": -1.0}, "relaxation is -1.0; expected 0 or more, or infinity"),
        ({"relaxation": math.nan}, "relaxation"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
        ({"iterations": 0}, "iterations is 0; expected at least 1"),
        ({"tile": 0}, "tile is 0"),
    ],
)
def test_bad_settings_are_refused(settings, said):
    with pytest.raises(InputError, match=re.escape(said)):
        Sinkhorn(**settings)


def test_without_ott_the_extra_is_named(pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "softmatch_jax.matching._cosine_geometry", None)
    with pytest.raises(InputError, match=re.escape("install softmatch-jax[transport]")):
        sinkhorn(*pair)
