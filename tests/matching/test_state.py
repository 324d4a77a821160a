"""What reference states promise: they add, subtract and stack as their reference sets do."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import method_oracles as methods
import numpy as np
import pytest
from method_oracles import prepare, probability
from slow_params import mostly_slow

from softmatch_jax import matching
from softmatch_jax._checks import InputError
from softmatch_jax.matching.interface import match_patches
from softmatch_jax.matching.state import bucket

NAMES = tuple(matching.METHODS)
every = pytest.mark.parametrize("name", NAMES)
slow_if_heavy = pytest.mark.parametrize("name", methods.heavy_are_slow())


@pytest.fixture(scope="module")
def sets():
    """Three reference sets of 4, 48 and 2 patches, every third of weight zero, and a target of 13."""
    rng = np.random.default_rng(5)
    references = [jnp.asarray(rng.normal(size=(n, 5)), jnp.float32) for n in (4, 48, 2)]
    weights = [jnp.asarray(rng.uniform(0.5, 2, n) * (np.arange(n) % 3 > 0), jnp.float32) for n in (4, 48, 2)]
    return references, weights, jnp.asarray(rng.normal(size=(13, 5)), jnp.float32)


def states_of(name, sets, **options):
    """Their states, with one draw of random features."""
    references, weights, _ = sets
    first = prepare(name, references[0], weights=weights[0], **options)
    like = first if name == "random_features" else None
    others = zip(references[1:], weights[1:], strict=True)
    return [first, *(prepare(name, f, weights=a, like=like, **options) for f, a in others)]


def matched(state, sets):
    return matching.match(state, sets[2], temperature=methods.TEMPERATURE)


def assert_same_match(one, two, sets, rtol=1e-5):
    for a, b in zip(matched(one, sets)[:2], matched(two, sets)[:2], strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(
    "name", mostly_slow((name for name in NAMES if name != "cumulant"), "geometric", "quadratic", "hungarian")
)
def test_a_sum_of_states_is_the_state_of_both_sets(sets, name):
    one, two, _ = states_of(name, sets)
    like = one if name == "random_features" else None
    references, weights = (jnp.concatenate(side[:2]) for side in sets[:2])
    together = prepare(name, references, weights=weights, like=like)
    # Sinkhorn stops at an error of 1e-3, with rows in another order.
    assert_same_match(one + two, together, sets, rtol=1e-3 if name == "sinkhorn" else 1e-5)


def test_a_sum_of_cumulant_states_is_their_mixture(sets):
    one, two, _ = states_of("cumulant", sets)
    mass = [float(jnp.sum(weights)) for weights in sets[1][:2]]
    apart = [probability(matched(state, sets)) for state in (one, two)]
    found = probability(matched(one + two, sets))
    np.testing.assert_allclose(found, np.average(apart, axis=0, weights=mass), rtol=1e-5)


def kept(state):
    """Statistics of either side without padding."""
    sides = [side for side in (state.foreground, state.background) if side is not None]
    for side in sides:
        rows = slice(None) if "valid" not in side._fields else np.asarray(side.valid)
        yield from (np.asarray(leaf)[rows] if np.ndim(leaf) else np.asarray(leaf) for leaf in side)


@every
def test_what_was_added_can_be_taken_out(sets, name):
    one, two, three = states_of(name, sets)
    keeps_rows = "valid" in one.foreground._fields
    for back in (one + two - two, two + one - two, one + two + three - two - three):
        for a, b in zip(kept(back), kept(one), strict=True):
            # Sums are rounded once when added and once when taken out; they reach 50.
            np.testing.assert_allclose(a, b, rtol=0, atol=0 if keeps_rows else 1e-5)
        assert_same_match(back, one, sets, rtol=1e-3 if name == "sinkhorn" else 1e-5)


@pytest.mark.parametrize("name", ["arithmetic", "geometric_dense", "bidirectional", "random_features"])
def test_rows_that_are_not_there_cannot_be_taken_out(sets, name):
    one, two, _ = states_of(name, sets)
    for whole, part in ((one, two), (one + two - two, two), (two, two + one)):
        with pytest.raises(InputError, match=r"[0-9]+ of [0-9]+ rows to take out are not in the state"):
            whole - part
    like = one if name == "random_features" else None
    heavier = prepare(name, sets[0][0], weights=2 * sets[1][0], like=like)
    with pytest.raises(InputError, match="2 of 2 rows to take out are not in the state"):
        one - heavier


@slow_if_heavy
def test_the_order_of_adding_does_not_matter(sets, name):
    states = states_of(name, sets)
    a, b, c = states
    rtol = 1e-3 if name == "sinkhorn" else 1e-5  # where it stops
    for x, y, z in itertools.permutations(states):
        assert_same_match(x + y + z, a + (b + c), sets, rtol=rtol)


def test_states_that_do_not_go_together(sets):
    reference = sets[0][0]
    state, random = (prepare(name, reference) for name in ("geometric", "random_features"))
    other_key = matching.prepare(reference, method=random.method, temperature=0.5, key=jax.random.key(9))
    for one, two, sentence in (
        (state, prepare("arithmetic", reference), r"prepared for Geometric\(\) and Arithmetic"),
        (prepare(matching.Arithmetic(tile=8), reference), prepare("arithmetic", reference), "same settings"),
        (state, prepare("geometric", reference[:, :4]), "features of 5 and 4 dimensions"),
        (random, other_key, "different random features; expected one key"),
        (state, reference, "Cannot combine a ReferenceState with"),
        (state, matching.stack([state, state]), "Stacked states do not add"),
    ):
        for combine in (lambda a, b: a + b, lambda a, b: a - b):
            with pytest.raises(InputError, match=sentence):
                combine(one, two)
    with pytest.raises(InputError, match=r"like was prepared for Geometric\(\)"):
        matching.prepare(reference, method="random_features", like=state)
    for states, sentence in (
        ([], "stack got no states"),
        ([state, prepare("quadratic", reference)], "one method"),
        ([random, other_key], "different random features"),
        ([state, prepare("geometric", reference, background=jnp.ones(4))], "Some classes have a background"),
    ):
        with pytest.raises(InputError, match=sentence):
            matching.stack(states)


@slow_if_heavy
def test_a_stack_matches_as_its_classes_do(sets, name):
    one, two, three = states_of(name, sets)
    states = [one, one + two, three]  # of 2, 34 and 1 rows, in two buckets
    stacked = matching.stack(states)
    together = matched(stacked, sets)
    # Sinkhorn stops at an error of 1e-3, and may do so another look earlier.
    rtol = 1e-3 if name == "sinkhorn" else 1e-5
    assert stacked.classes == 3 and together.log_probability.shape == (3, 13)
    for index, state in enumerate(states):
        alone = matched(state, sets)
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[index], b, rtol=rtol, atol=rtol)


def products(jaxpr):
    """Every matrix product of a program, those of functions inside included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(inner := getattr(inner, "jaxpr", inner), "eqns"):
                yield from products(inner)


def test_a_stack_of_means_is_one_product_with_the_target(sets):
    stacked = matching.stack(states_of("geometric", sets))
    program = jax.make_jaxpr(lambda target: match_patches(stacked, target, None, 0.5, normalized=True))(
        sets[2]
    )
    with_target = [
        equation
        for equation in products(program.jaxpr)
        if (13, 5) in [variable.aval.shape for variable in equation.invars]
    ]
    assert len(with_target) == 1
    assert sorted(v.aval.shape for v in with_target[0].invars) == [(3, 5), (13, 5)]
    assert sorted(with_target[0].outvars[0].aval.shape) == [3, 13]


@slow_if_heavy
def test_states_pass_through_compiled_functions(sets, name):
    state = states_of(name, sets)[0]
    passed = jax.jit(lambda state: state)(state)
    assert passed.method == state.method and passed.dim == 5
    jax.tree.map(np.testing.assert_array_equal, passed, state)

    @jax.jit
    def inside(state, target):
        return matching.match(state, target, temperature=methods.TEMPERATURE).log_probability

    np.testing.assert_allclose(inside(state, sets[2]), matched(passed, sets).log_probability, rtol=1e-5)


@pytest.mark.parametrize("name", ["geometric", "arithmetic"])
def test_adding_under_jit(sets, name):
    one, two, _ = states_of(name, sets)
    assert_same_match(jax.jit(lambda a, b: a + b)(one, two), one + two, sets)
    if name == "arithmetic":
        with pytest.raises(InputError, match="subtracted under jit, vmap or grad"):
            jax.jit(lambda a, b: a - b)(one + two, two)
    else:
        assert_same_match(jax.jit(lambda a, b: a - b)(one + two, two), one, sets)


LOG_RATIO = tuple(name for name in NAMES if not matching.METHODS[name].needs_rest)


@pytest.mark.parametrize("name", methods.heavy_are_slow(LOG_RATIO))
def test_an_object_against_itself_says_nothing(sets, name):
    (reference, *_), (weights, *_), _ = sets
    state = prepare(name, reference, weights=weights, background=3 * weights)
    found = matched(state, sets)
    # Scores that cancel; Sinkhorn moves both sides alike, whatever their shares.
    np.testing.assert_allclose(found.score, found.score[0], atol=1e-5)


@slow_if_heavy
def test_a_background_is_added_to_none(sets, name):
    (one, two, _), (first, second, _), _ = sets
    beside = jnp.asarray(np.arange(4) % 3 == 0, jnp.float32)
    with_background = prepare(name, one, weights=first, background=beside)
    like = with_background if name == "random_features" else None
    without = prepare(name, two, weights=second, background=jnp.zeros(48), like=like)
    references, weights = jnp.concatenate([one, two]), jnp.concatenate([first, second])
    background = jnp.concatenate([beside, jnp.zeros(48)])
    together = prepare(name, references, weights=weights, background=background, like=like)
    if name == "cumulant":  # a mixture, see above
        together = with_background + without
    rtol = 1e-3 if name == "sinkhorn" else 1e-5
    assert_same_match(with_background + without, together, sets, rtol=rtol)
    if name not in ("bidirectional", "hungarian"):  # theirs is never none, but the rest of the picture
        plain = prepare(name, two, weights=second, like=like)
        assert plain.background is None
        assert_same_match(with_background + plain, together, sets, rtol=rtol)
        assert_same_match(plain + with_background, together, sets, rtol=rtol)
        with pytest.raises(InputError, match="has a background and the other has none"):
            prepare(name, one, weights=first, like=like) - with_background
    assert_same_match(with_background + without - without, with_background, sets, rtol=rtol)


def test_buckets_are_few_and_waste_an_eighth():
    sizes = [bucket(n) for n in range(1, 5000)]
    assert all(n <= size <= max(32, n * 9 / 8) for n, size in enumerate(sizes, start=1))
    assert all(bucket(size) == size for size in sizes)
    assert len(set(sizes)) == 1 + 8 * 7 + 2  # 32; eight to the octave up to 4096; 4608 and 5120
