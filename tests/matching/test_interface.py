"""Laws that every method obeys at the front door, and how it refuses what cannot be."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import matching_oracles as oracles
import method_oracles as methods
import numpy as np
import pytest
from jax.test_util import check_grads
from method_oracles import match, prepare, probability
from slow_params import mostly_slow

from softmatch_jax import matching
from softmatch_jax._checks import InputError

VALID = jnp.arange(13) % 4 != 2
WEIGHTS = jnp.asarray([0.0, 1.0, 0.2, 0.0, 3.0, 0.5, 0.5, 2.0, 0.1])
NAMES = tuple(matching.METHODS)
WITHOUT_REST = tuple(name for name in NAMES if not matching.METHODS[name].needs_rest)

every = pytest.mark.parametrize("name", NAMES)
slow_if_heavy = pytest.mark.parametrize("name", methods.heavy_are_slow())


def in_one_group(name):
    """The settings; k-means draws its seeds by a patch's place, so groups are equal only if there is one."""
    return matching.Cumulant(groups=1) if name == "cumulant" else methods.settings_of(name)


def assert_same(a, b, rtol=1e-5):
    """Equal maps and evidence; scores lie within about 4 of zero at the temperature of these tests."""
    np.testing.assert_allclose(a.log_probability, b.log_probability, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(a.log_evidence, b.log_evidence, rtol=rtol, atol=rtol)


@slow_if_heavy
def test_probabilities_of_valid_patches_sum_to_one(pair, name):
    found = match(name, *pair, weights=WEIGHTS, valid=VALID)
    np.testing.assert_allclose(probability(found).sum(), 1, rtol=1e-6)
    assert np.isneginf(found.log_probability[~VALID]).all() and np.isneginf(found.score[~VALID]).all()
    kept = np.isfinite(np.asarray(found.score))  # linear assignment leaves most patches out
    shift = np.asarray(found.score - found.log_probability)[kept]
    np.testing.assert_allclose(shift, shift[0], rtol=1e-5, atol=1e-6)
    assert found.diagnostics.converged and np.isfinite(found.log_evidence)


@every
def test_features_and_their_state_match_alike(pair, name):
    reference, target = pair
    state = prepare(name, reference, weights=WEIGHTS)
    assert state.dim == 5 and state.classes == 0
    prepared = matching.match(state, target, temperature=methods.TEMPERATURE, valid=VALID)
    plain = match(name, reference, target, weights=WEIGHTS, valid=VALID)
    for a, b in zip(jax.tree.leaves(prepared), jax.tree.leaves(plain), strict=True):
        np.testing.assert_array_equal(a, b)


@every
def test_the_order_of_references_does_not_matter(pair, name):
    order = np.random.default_rng(1).permutation(9)
    moved = match(in_one_group(name), pair[0][order], pair[1], weights=WEIGHTS[order], valid=VALID)
    assert_same(moved, match(in_one_group(name), *pair, weights=WEIGHTS, valid=VALID))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "random_features"])
def test_rotating_all_features_changes_nothing(pair, name):
    """Random features turn with their frequencies only: for them it holds in distribution."""
    turn = jnp.asarray(np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))[0], jnp.float32)
    turned = match(name, pair[0] @ turn, pair[1] @ turn, weights=WEIGHTS, valid=VALID)
    assert_same(turned, match(name, *pair, weights=WEIGHTS, valid=VALID))


@every
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 0.0, 9.0])
def test_what_padding_holds_does_not_matter(pair, name, garbage):
    reference, target = pair
    padded = jnp.where(VALID[:, None], target, jnp.float32(garbage))
    found = match(name, reference, padded, weights=WEIGHTS, valid=VALID)
    assert_same(found, match(name, *pair, weights=WEIGHTS, valid=VALID), rtol=0)


@every
def test_the_length_of_features_does_not_matter(pair, name):
    rng = np.random.default_rng(3)
    scaled = [x * jnp.asarray(rng.uniform(0.1, 9, (len(x), 1)) * np.ones((1, 5)), jnp.float32) for x in pair]
    found = match(name, *scaled, weights=WEIGHTS, valid=VALID)
    assert_same(found, match(name, *pair, weights=WEIGHTS, valid=VALID))


@pytest.mark.parametrize("name", WITHOUT_REST)
@pytest.mark.parametrize("garbage", [np.nan, 0.0, 9.0])
def test_references_of_weight_zero_change_nothing(pair, name, garbage):
    reference, target = pair
    more = jnp.concatenate([reference, jnp.full((4, 5), garbage)])
    found = match(name, more, target, weights=jnp.concatenate([WEIGHTS, jnp.zeros(4)]), valid=VALID)
    assert_same(found, match(name, *pair, weights=WEIGHTS, valid=VALID), rtol=0)


@pytest.mark.parametrize("name", ["bidirectional", "hungarian"])
def test_references_of_weight_zero_are_the_rest_of_the_picture(pair, name):
    """A patch that the object claims looks just like one beside the object: it points back there."""
    reference, target = pair
    alone = match(name, reference, target)
    best = int(np.argmax(alone.log_probability))
    more = jnp.concatenate([reference, target[best : best + 1]])
    beside = match(name, more, target, weights=jnp.asarray([1.0] * 9 + [0.0]))
    assert probability(beside)[best] < 0.9 * probability(alone)[best]
    on_both = match(name, more, target, weights=jnp.ones(10))
    assert abs(probability(on_both) - probability(beside)).max() > 0.01


@pytest.mark.parametrize("name", WITHOUT_REST)
def test_a_weight_of_two_is_a_patch_twice(pair, name):
    reference, target = pair
    heavy = match(
        in_one_group(name), reference, target, weights=jnp.asarray([2.0] * 2 + [1.0] * 7), valid=VALID
    )
    twice = match(in_one_group(name), jnp.concatenate([reference[:2], reference]), target, valid=VALID)
    # Sinkhorn's potentials start from other values then, and stop at an error of 1e-3.
    assert_same(heavy, twice, rtol=2e-3 if name == "sinkhorn" else 1e-5)


@every
def test_a_mask_will_do_for_weights(pair, name):
    mask = WEIGHTS > 0
    found = match(name, *pair, weights=mask, valid=VALID)
    assert_same(found, match(name, *pair, weights=mask.astype(jnp.float32), valid=VALID), rtol=0)


@every
def test_weights_need_not_be_normalised(pair, name):
    heavy = match(name, *pair, weights=8 * WEIGHTS, valid=VALID)
    assert_same(heavy, match(name, *pair, weights=WEIGHTS, valid=VALID), rtol=1e-6)


@slow_if_heavy
def test_jit_and_vmap_over_references_and_targets_are_a_loop(pair, name):
    method = methods.settings_of(name)
    references, targets = (jnp.stack([x, x[::-1] * jnp.sign(x)]) for x in pair)

    def one(reference, target):
        return match(method, reference, target, valid=VALID)

    tolerance = 2e-4 if name == "sinkhorn" else 1e-5  # it may stop at another look at the error
    both = jax.vmap(jax.vmap(one, (None, 0)), (0, None))
    together = jax.jit(both)(references, targets)
    for r in range(2):
        for t in range(2):
            alone = one(references[r], targets[t])
            assert_same(jax.tree.map(lambda leaf, r=r, t=t: leaf[r, t], together), alone, tolerance)


@slow_if_heavy
def test_promised_unit_norm_is_taken_as_such(pair, name):
    unit = [matching.unit_norm(x) for x in pair]
    promised = match(name, *unit, weights=WEIGHTS, valid=VALID, normalized=True)
    assert_same(promised, match(name, *unit, weights=WEIGHTS, valid=VALID))


@slow_if_heavy
@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)])
def test_half_precision_is_only_rounding_of_the_input(pair, name, dtype):
    """Products of half precision are exact in single precision, and so are the sums."""
    rounded = [x.astype(dtype) for x in pair]
    found = match(name, *rounded, weights=WEIGHTS, valid=VALID)
    single = match(name, *(x.astype(jnp.float32) for x in rounded), weights=WEIGHTS, valid=VALID)
    assert found.log_probability.dtype == found.log_evidence.dtype == jnp.float32
    assert_same(found, single)


GRADED = ("geometric", "geometric_dense", "quadratic", "arithmetic", "bidirectional", "random_features")


@pytest.mark.parametrize("name", mostly_slow(GRADED, "geometric", "quadratic"))
def test_gradients_agree_with_differences(pair, x64, name):
    f, g = (x.astype(jnp.float64) for x in pair)
    g = jnp.where(VALID[:, None], g, jnp.zeros_like(g))  # padding has no gradient, not even a NaN

    @jax.jit
    def loss(f, g, temperature):
        found = match(name, f, g, temperature=temperature, valid=VALID, weights=WEIGHTS.astype(f.dtype))
        return jnp.exp(found.log_probability) @ jnp.arange(13.0) + found.log_evidence

    check_grads(loss, (f, g + 0.0, jnp.asarray(0.5)), order=1, modes=["rev"], eps=1e-6)


def test_one_shape_is_compiled_once(count_compiles):
    rng = np.random.default_rng(4)
    target = jnp.asarray(rng.normal(size=(17, 6)), jnp.float32)
    with count_compiles("match_patches") as compiled:
        for rows, temperature in ((9, 0.1), (9, 0.2), (20, 0.1), (32, jnp.float32(3.0))):
            reference = jnp.asarray(rng.normal(size=(rows, 6)), jnp.float32)
            matching.match(reference, target, method="arithmetic", temperature=float(temperature))
    assert len(compiled) == 1
    with count_compiles("match_patches") as compiled:
        matching.match(matching.prepare(target, method="arithmetic"), target, temperature=0.1)
        matching.match(matching.prepare(target[:5], method="arithmetic"), target, temperature=0.1)
    assert not compiled
    with count_compiles("match_patches") as compiled:
        many = jnp.concatenate([target, 2 * target])
        matching.match(matching.prepare(many, method="arithmetic"), target, temperature=0.1)
    assert len(compiled) == 1  # the next bucket


def test_towards_temperature_zero_all_mass_is_on_the_best_patch(pair):
    best = oracles.cosines(*pair).mean(axis=0).argmax()
    found = probability(match("geometric", *pair, temperature=1e-4))
    np.testing.assert_allclose(found, np.eye(13)[best], atol=1e-30)


def test_towards_temperature_zero_references_vote(pair):
    votes = np.bincount(oracles.cosines(*pair).argmax(axis=1), minlength=13) / 9
    found = match("arithmetic", *pair, temperature=1e-3)
    np.testing.assert_allclose(probability(found), votes, atol=1e-3)  # runners-up keep e^(-gap / 1e-3)


@every
def test_at_high_temperature_the_map_is_uniform(pair, name):
    found = probability(match(name, *pair, temperature=1e5, valid=VALID))
    used = found > 0
    if name != "hungarian":  # which is uniform on the patches it matched
        np.testing.assert_array_equal(used, VALID)
    # Cosines over 1e5, and rounding. Random features waver by the square root of 1 / (64 * 1e5).
    np.testing.assert_allclose(found[used], 1 / used.sum(), rtol=2e-3 if name == "random_features" else 1e-4)


NAN, ZERO = jnp.nan, 0.0


def with_row(features, value):
    return features.at[3].set(value)


BAD = {
    "other dimensions": (lambda f, g: (f[:, :4], g, {}), "4 dimensions and target features 5"),
    "no reference": (lambda f, g: (f[:0], g, {}), r"reference has shape \[0, 5\]; expected at least one"),
    "no target": (lambda f, g: (f, g[:0], {}), r"target has shape \[0, 5\]; expected some patches"),
    "reference of rank 3": (lambda f, g: (f[None], g, {}), r"reference has shape \(1, 9, 5\)"),
    "target of rank 1": (lambda f, g: (f, g[0], {}), r"target has shape \(5,\); expected 2 axes"),
    "zero reference": (lambda f, g: (with_row(f, ZERO), g, {}), "1 of 9 reference .* number 3, .* zero vec"),
    "NaN reference": (lambda f, g: (with_row(f, NAN), g, {}), "1 of 9 reference .* number 3, .* holds NaN"),
    "zero target": (lambda f, g: (f, with_row(g, ZERO), {}), "1 of 13 target .* number 3, .* zero vector"),
    "NaN target": (lambda f, g: (f, with_row(g, NAN), {}), "1 of 13 target .* number 3, which holds NaN"),
    "temperature 0": (lambda f, g: (f, g, {"temperature": 0.0}), "temperature is 0.0; expected a finite"),
    "temperature NaN": (lambda f, g: (f, g, {"temperature": np.nan}), "temperature is nan"),
    "negative weight": (lambda f, g: (f, g, {"weights": -WEIGHTS}), "weights has negative"),
    "NaN weight": (lambda f, g: (f, g, {"weights": WEIGHTS * jnp.nan}), "weights has negative, NaN"),
    "negative background": (lambda f, g: (f, g, {"background": -WEIGHTS}), "background has negative"),
    "no weight": (lambda f, g: (f, g, {"weights": jnp.zeros(9)}), "weights sum to 0"),
    "few weights": (
        lambda f, g: (f, g, {"weights": WEIGHTS[1:]}),
        r"weights has shape \[8\]; expected \[9\]",
    ),
    "few flags": (lambda f, g: (f, g, {"valid": VALID[1:]}), r"valid has shape \[12\]; expected \[13\]"),
    "nothing valid": (lambda f, g: (f, g, {"valid": jnp.zeros(13, bool)}), "target has no valid patch"),
    "unknown": (lambda f, g: (f, g, {"method": "best"}), "'best'; expected one of " + ", ".join(NAMES)),
    "a class": (lambda f, g: (f, g, {"method": matching.Sinkhorn}), "expected a name .* or settings"),
    "no key": (lambda f, g: (f, g, {"method": "cumulant"}), "cumulant draws random numbers; expected key="),
    "no key either": (lambda f, g: (f, g, {"method": "random_features"}), "random_features draws random"),
    "state and": (
        lambda f, g: (matching.prepare(f), g, {"weights": WEIGHTS}),
        "a prepared state and also wei",
    ),
    "state and key": (lambda f, g: (matching.prepare(f), g, {"key": jax.random.key(0)}), "and also key"),
    "state and other": (lambda f, g: (matching.prepare(f), g, {"method": "quadratic"}), "and also method"),
    "state, other dim": (
        lambda f, g: (matching.prepare(f), g[:, :3], {}),
        "5 dimensions and target features 3",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_in_one_sentence(pair, what):
    change, sentence = BAD[what]
    reference, target, options = change(*pair)
    with pytest.raises(InputError, match=sentence):
        matching.match(reference, target, **{"temperature": 0.5, **options})


def test_random_features_of_another_temperature(pair):
    with pytest.raises(InputError, match=r"expected temperature=\.\.\. in prepare"):
        matching.prepare(pair[0], method="random_features", key=jax.random.key(0))
    state = prepare("random_features", pair[0])
    with pytest.raises(InputError, match=r"temperature is 0\.6, but the random features were drawn for 0\.5"):
        matching.match(state, pair[1], temperature=0.6)


def test_iterations_that_do_not_end_are_told_of(pair):
    hasty = matching.Sinkhorn(epsilon=0.01, iterations=2, tolerance=1e-6)
    with pytest.warns(matching.ConvergenceWarning, match="stopped after .* expected convergence") as told:
        found = matching.match(*pair, method=hasty, temperature=0.1)
    assert told[0].filename == __file__
    assert not found.diagnostics.converged and found.diagnostics.error > 1e-6
