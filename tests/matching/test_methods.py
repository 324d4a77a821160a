"""What is particular to each method: its definition, its limits, and the arrays it does not make."""

from __future__ import annotations

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import matching_oracles as oracles
import method_oracles as methods
import numpy as np
import pytest
from method_oracles import match, probability, total_variation
from scipy.optimize import linear_sum_assignment
from slow_params import mostly_slow

from softmatch_jax import matching
from softmatch_jax.matching.assignment import assign
from softmatch_jax.matching.cumulant import leading_factors
from softmatch_jax.matching.interface import match_patches

WEIGHTS = np.asarray([0.0, 1.0, 0.2, 0.0, 3.0, 0.5, 0.5, 2.0, 0.1])
VALID = jnp.arange(13) % 4 != 2


def double(pair):
    return [x.astype(jnp.float64) for x in pair]


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_quadratic_is_its_definition(pair, x64, weights, temperature):
    expected = methods.quadratic(*pair, temperature, weights)
    found = match("quadratic", *double(pair), temperature=temperature, weights=weights)
    np.testing.assert_allclose(probability(found), expected, rtol=1e-10, atol=1e-14)
    function = matching.quadratic_mean(
        *double(pair), temperature=temperature, weights=None if weights is None else jnp.asarray(weights)
    )
    np.testing.assert_allclose(function.score, found.score, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_bidirectional_is_its_definition(pair, x64, temperature):
    expected = methods.bidirectional(*pair, temperature, WEIGHTS)
    found = match("bidirectional", *double(pair), temperature=temperature, weights=WEIGHTS)
    np.testing.assert_allclose(probability(found), expected, rtol=1e-10, atol=1e-14)


def test_bidirectional_points_back_to_weighted_patches_when_a_background_is_given(pair, x64):
    used = np.asarray([1, 1, 1, 0, 1, 1, 0, 1, 1]) > 0
    inside, background = np.where(used, WEIGHTS, 0), np.where(used & (WEIGHTS == 0), 2.0, 0)
    expected = methods.bidirectional(pair[0][used], pair[1], 0.2, inside[used])
    found = match("bidirectional", *double(pair), temperature=0.2, weights=inside, background=background)
    np.testing.assert_allclose(probability(found), expected, rtol=1e-10)


@pytest.mark.parametrize("background", [None, 3.5 - WEIGHTS])
@pytest.mark.parametrize("valid", [None, VALID])
def test_geometric_is_dense(pair, background, valid):
    options = {"temperature": 0.2, "weights": WEIGHTS, "background": background, "valid": valid}
    one, two = (match(name, *pair, **options) for name in ("geometric", "geometric_dense"))
    # The dense form adds and subtracts normalisers of up to 8, each rounded to 5e-7.
    np.testing.assert_allclose(probability(one), probability(two), rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(one.log_evidence, two.log_evidence, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["geometric", "arithmetic"])
def test_backgrounds_are_the_contrasts(pair, name):
    inside, outside = (jnp.asarray(side, jnp.float32) for side in (WEIGHTS, 3.5 - WEIGHTS))
    contrast = getattr(matching, f"{name}_contrast")
    expected = contrast(*pair, temperature=0.2, foreground=inside, background=outside, valid=VALID)
    found = match(name, *pair, temperature=0.2, weights=WEIGHTS, background=3.5 - WEIGHTS, valid=VALID)
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.log_evidence, expected.log_evidence, rtol=1e-5, atol=1e-5)


def object_and_picture(parts, patches=90, dim=24, others=150, seed=11):
    """References of an object of so many parts, spread about each; a target that shows it, with others."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(parts, dim))
    spread = rng.normal(size=(parts, 3, dim)) / 2

    def draw(count):
        part = np.arange(count) % parts
        along = np.einsum("nk,nkd->nd", rng.normal(size=(count, 3)), spread[part])
        return centres[part] + along + 0.3 * rng.normal(size=(count, dim))

    target = np.concatenate([draw(60), rng.normal(size=(others, dim))])
    return jnp.asarray(draw(patches), jnp.float32), jnp.asarray(target, jnp.float32)


def test_cumulant_with_a_group_for_every_reference_is_exact(pair):
    options = {"temperature": 0.1, "weights": WEIGHTS, "valid": VALID}
    exact = match("arithmetic", *pair, **options)
    found = match("cumulant", *pair, **options)
    np.testing.assert_allclose(probability(found), probability(exact), rtol=2e-5)
    np.testing.assert_allclose(found.log_evidence, exact.log_evidence, rtol=1e-5)


def test_cumulant_of_one_group_is_its_definition(pair, x64):
    found = match(matching.Cumulant(groups=1, rank=5), *double(pair), temperature=0.2)
    np.testing.assert_allclose(probability(found), methods.cumulant(*pair, 0.2), rtol=1e-9)


@pytest.mark.slow
def test_cumulant_is_close_on_one_object():
    reference, target = object_and_picture(parts=1)
    found = match("cumulant", reference, target, temperature=0.1)
    exact = probability(match("arithmetic", reference, target, temperature=0.1))
    geometric = probability(match("geometric", reference, target, temperature=0.1))
    assert total_variation(probability(found), exact) < 0.01
    assert total_variation(geometric, exact) > 0.2  # the spread matters


@pytest.mark.slow
def test_cumulant_errs_less_with_more_groups():
    reference, target = object_and_picture(parts=3)
    exact = probability(match("arithmetic", reference, target, temperature=0.1))
    errors = [
        total_variation(
            probability(match(matching.Cumulant(groups=k), reference, target, temperature=0.1)), exact
        )
        for k in (1, 8, 32)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2], errors


def test_leading_factors_are_those_of_the_covariance():
    """Against a dense eigendecomposition; the spectrum falls by half from one direction to the next."""
    rng = np.random.default_rng(12)
    rows = (rng.normal(size=(50, 20)) * 0.5 ** np.arange(20) + 1).astype(np.float32)
    shares = rng.dirichlet(np.ones(50), size=3).astype(np.float32)
    means, factors = leading_factors(jnp.asarray(rows), jnp.asarray(shares), 5, key=jax.random.key(0))
    assert factors.shape == (3, 5, 20)
    for share, mean, factor in zip(np.float64(shares), means, np.asarray(factors, np.float64), strict=True):
        np.testing.assert_allclose(mean, share @ rows, rtol=1e-5)
        centred = (rows - share @ rows) * np.sqrt(share)[:, None]
        values, vectors = np.linalg.eigh(centred.T @ centred)
        best = (vectors[:, -5:] * values[-5:]) @ vectors[:, -5:].T
        # Single precision, on rows whose mean is a few times their spread.
        np.testing.assert_allclose(factor.T @ factor, best, atol=1e-5 * values[-1])
        np.testing.assert_allclose(np.sum(factor**2, axis=1), values[:-6:-1], rtol=2e-3, atol=1e-6)


def test_assign_is_scipys_without_the_filter():
    similarity = np.random.default_rng(13).normal(size=(6, 9))
    rows, columns = np.arange(6) < 4, np.arange(9) != 2
    _, chosen = linear_sum_assignment(similarity[:4][:, columns], maximize=True)
    expected = np.isin(np.arange(9), np.flatnonzero(columns)[chosen])
    np.testing.assert_array_equal(assign(similarity, rows, columns, filtered=False), expected)


def test_the_filter_keeps_mutual_matches():
    """Both object rows take a column; the first column goes back to the object, the second elsewhere."""
    similarity = np.asarray([[9.0, 0, 0, 0], [0, 5, 0, 0], [0, 8, 0, 0], [0, 0, 1, 0]])
    rows, columns = np.arange(4) < 2, np.ones(4, bool)
    plain = assign(similarity, rows, columns, filtered=False)
    np.testing.assert_array_equal(plain, [True, True, False, False])
    np.testing.assert_array_equal(assign(similarity, rows, columns), [True, False, False, False])
    similarity[2, 0] = 10  # the other rows now claim both
    similarity[3, 1] = 10
    np.testing.assert_array_equal(assign(similarity, rows, columns), plain)
    without_first = assign(similarity, rows, np.arange(4) > 0, filtered=False)
    assert without_first[1] and not without_first[0] and without_first.sum() == 2


def test_hungarian_keeps_assigned_patches_at_their_best_cosine(pair):
    similarity = oracles.cosines(*pair)
    valid = np.asarray(VALID)
    chosen = assign(similarity, WEIGHTS > 0, valid)
    found = match("hungarian", *pair, temperature=0.1, weights=WEIGHTS, valid=VALID)
    np.testing.assert_array_equal(np.isfinite(found.score), chosen)
    assert chosen.any() and not chosen[~valid].any()
    np.testing.assert_allclose(
        found.score[chosen], similarity[WEIGHTS > 0].max(axis=0)[chosen] / 0.1, rtol=1e-5
    )
    plain = match(matching.Hungarian(filtered=False), *pair, weights=WEIGHTS, valid=VALID)
    assert (np.isfinite(plain.score) >= chosen).all() and np.isfinite(plain.score).sum() == 7


def test_hungarian_passes_gradients_of_the_similarities(pair, x64):
    f, g = double(pair)

    def first(g):
        found = match("hungarian", f, g, temperature=0.3)
        return jnp.sum(jnp.exp(found.log_probability) * jnp.arange(13.0))

    slope = jax.jit(jax.grad(first))(g)
    step = 1e-6 * np.random.default_rng(14).normal(size=g.shape)
    change = (first(g + jnp.asarray(step)) - first(g - jnp.asarray(step))) / 2
    np.testing.assert_allclose(np.sum(slope * step), change, rtol=1e-6)


KEYS = jax.random.split(jax.random.key(15), 24)


def maps_over_keys(method, reference, target, temperature):
    def one(key):
        options = {"method": method, "temperature": temperature, "key": key}
        found = matching.match(reference, target, **options)
        return jnp.exp(found.log_probability), found.diagnostics.error

    return jax.jit(jax.vmap(one))(KEYS)


@pytest.mark.parametrize("kind", mostly_slow(["positive", "trigonometric"], "positive"))
def test_random_features_err_as_one_over_the_root_of_their_number(kind):
    reference, target = object_and_picture(parts=3, others=60)
    exact = probability(match("arithmetic", reference, target, temperature=1.0))
    errors, ratios = [], []
    for count in (64, 1024):
        # Independent ones: orthogonal ones err less, at another rate while there are few blocks of them.
        method = matching.RandomFeatures(kind=kind, count=count, orthogonal=False)
        maps, told = maps_over_keys(method, reference, target, 1.0)
        true = total_variation(maps, exact)
        errors.append(true.mean())
        ratios.append(float(told.mean()) / true.mean())
    np.testing.assert_allclose(errors[0] / errors[1], 4, rtol=0.25)  # 24 keys tell no better
    assert errors[1] < 0.025
    assert all(0.7 < ratio < 1.4 for ratio in ratios), ratios


def test_geometric_random_features_tend_to_the_mean_kernel():
    reference, target = object_and_picture(parts=3, others=60)
    bandwidth, temperature = 0.5, 0.2
    kernel = np.exp((oracles.cosines(reference, target) - 1) / bandwidth)
    exact = oracles.softmax(kernel.mean(axis=0) / temperature)
    errors = []
    for count in (64, 1024):
        # Of the kinds, the one whose variance has no heavy tail.
        method = matching.RandomFeatures(
            kind="trigonometric", mean="geometric", bandwidth=bandwidth, count=count, orthogonal=False
        )
        errors.append(
            total_variation(maps_over_keys(method, reference, target, temperature)[0], exact).mean()
        )
    np.testing.assert_allclose(errors[0] / errors[1], 4, rtol=0.3)
    assert errors[1] < 0.03


R, T = 1037, 1511


@pytest.mark.parametrize(
    "name",
    mostly_slow(
        [n for n in matching.METHODS if n not in ("sinkhorn", "hungarian")], "geometric", "geometric_dense"
    ),
)
def test_the_matrix_of_similarities_is_made_by_the_dense_form_alone(name):
    """In the program as traced and as compiled, whichever way round the matrix might lie."""
    method = matching.Cumulant(groups=4) if name == "cumulant" else methods.settings_of(name)
    # Under jit references are not padded, and R stays R.
    features = [jax.ShapeDtypeStruct((n, 6), jnp.float32) for n in (R, T)]
    state = jax.eval_shape(lambda f: methods.prepare(method, f), features[0])
    lowered = match_patches.lower(state, features[1], None, 0.5, normalized=False)
    for text in (lowered.as_text(), lowered.compile().as_text()):
        shapes = [set(re.findall(r"\d+", shape)) for shape in re.findall(r"[<\[]([\dx,]+)", text)]
        assert any(str(T) in shape for shape in shapes)
        assert any({str(R), str(T)} <= shape for shape in shapes) == (name == "geometric_dense")


@pytest.mark.slow
def test_cumulant_with_a_background_comes_to_an_end():
    """Two batched factorisations at once may wait for each other's threads; seen once in four processes."""
    code = (
        "import jax, numpy as np\n"
        "from softmatch_jax import matching\n"
        "rows = np.random.default_rng(0).normal(size=(1369, 768)).astype(np.float32)\n"
        "inside = (np.arange(1369) < 300).astype(np.float32)\n"
        "for _ in range(4):\n"
        "    state = matching.prepare(rows, method='cumulant', weights=inside, background=1 - inside,\n"
        "                             key=jax.random.key(0))\n"
        "    jax.block_until_ready(state.background)\n"
    )
    for _ in range(4):
        subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
