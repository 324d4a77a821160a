"""Many targets at once are a loop over them, whatever their sizes and wherever they are matched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import method_oracles as methods
import numpy as np
import pytest
from method_oracles import prepare, probability
from slow_params import mostly_slow

from softmatch_jax import matching
from softmatch_jax._checks import InputError

TAU = methods.TEMPERATURE
SIZES = (13, 1, 40)


@pytest.fixture(scope="module")
def targets():
    """Targets of two buckets."""
    rng = np.random.default_rng(6)
    return [jnp.asarray(rng.normal(size=(n, 5)), jnp.float32) for n in SIZES]


def assert_same(found, alone, rtol=1e-5):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", mostly_slow(matching.METHODS, "geometric", "hungarian"))
def test_a_ragged_batch_is_a_loop(pair, targets, name):
    state = prepare(name, pair[0])
    found = matching.match_batch(state, targets, temperature=TAU)
    assert isinstance(found, list) and len(found) == len(targets)
    for one, target in zip(found, targets, strict=True):
        assert one.log_probability.shape == one.score.shape == target.shape[:1]
        assert_same(one, matching.match(state, target, temperature=TAU))


@pytest.mark.parametrize("name", ["geometric", "arithmetic", "bidirectional"])
@pytest.mark.parametrize("shape", [(3, 13, 5), pytest.param((4, 32, 5), marks=pytest.mark.slow)])
def test_an_array_of_targets_is_a_loop(pair, name, shape):
    """Padded both ways, and not at all."""
    rng = np.random.default_rng(7)
    targets = jnp.asarray(rng.normal(size=shape), jnp.float32)
    valid = jnp.asarray(rng.uniform(size=shape[:2]) < 0.7)
    garbage = jnp.where(valid[:, :, None], targets, jnp.nan)
    state = prepare(name, pair[0])
    for flags, given in ((None, targets), (valid, garbage)):
        found = matching.match_batch(state, given, temperature=TAU, valid=flags)
        assert found.log_probability.shape == found.score.shape == shape[:2]
        assert found.log_evidence.shape == found.diagnostics.error.shape == shape[:1]
        for number, target in enumerate(targets):
            mask = None if flags is None else flags[number]
            one = jax.tree.map(lambda leaf, number=number: leaf[number], found)
            assert_same(one, matching.match(state, target, temperature=TAU, valid=mask))


def test_a_stack_in_a_batch_is_a_loop_over_both(pair, targets):
    states = [prepare("geometric", side) for side in pair]
    found = matching.match_batch(matching.stack(states), targets, temperature=TAU)
    for one, target in zip(found, targets, strict=True):
        for index, state in enumerate(states):
            alone = matching.match(state, target, temperature=TAU)
            assert_same(jax.tree.map(lambda leaf, index=index: leaf[index], one), alone)


def test_promised_unit_norm(pair, targets):
    state = prepare("arithmetic", pair[0])
    unit = [matching.unit_norm(target) for target in targets]
    found = matching.match_batch(state, unit, temperature=TAU, normalized=True)
    for one, target in zip(found, targets, strict=True):
        assert_same(one, matching.match(state, target, temperature=TAU))


def test_half_precision(pair, targets):
    state = prepare("geometric", pair[0])
    rounded = [target.astype(jnp.bfloat16) for target in targets]
    found = matching.match_batch(state, rounded, temperature=TAU)
    for one, target in zip(found, rounded, strict=True):
        assert_same(one, matching.match(state, target.astype(jnp.float32), temperature=TAU))


def test_many_sizes_share_few_programs(count_compiles):
    """Patches in buckets of 32, 36, ..., 64, 72; targets in powers of two."""
    rng = np.random.default_rng(8)

    def batch(*sizes):
        state = matching.prepare(reference)
        given = [jnp.asarray(rng.normal(size=(n, 7)), jnp.float32) for n in sizes]
        return matching.match_batch(state, given, temperature=float(rng.uniform(0.1, 1)))

    reference = jnp.asarray(rng.normal(size=(9, 7)), jnp.float32)
    for sizes, programs in (
        ([(1,), (31,), (32,)], 1),  # one bucket
        ([(33,), (36,), (37,), (64,)], 3),  # 36, 40, 64
        ([(64, 1), (20, 64)], 1),  # two targets; the longest counts
        ([(64, 5, 9), (64, 5, 9, 7)], 1),  # three are four
        ([(62,), (63, 1), (31, 62, 1)], 0),  # all seen
    ):
        with count_compiles("_match_many") as compiled:
            for one in sizes:
                batch(*one)
        assert len(compiled) == programs


@pytest.mark.parametrize("kind", ["ragged", "array"])
@pytest.mark.parametrize("value, what", [(np.nan, "holds NaN"), (0.0, "is a zero vector")])
def test_the_target_at_fault_is_named(pair, kind, value, what):
    state = prepare("arithmetic", pair[0])
    targets = np.random.default_rng(9).normal(size=(5, 13, 5)).astype(np.float32)
    targets[3, 4] = value
    given = jnp.asarray(targets) if kind == "array" else list(map(jnp.asarray, targets))
    with pytest.raises(InputError, match=f"target 3 patches .* number 4, which {what}"):
        matching.match_batch(state, given, temperature=TAU)
    if kind == "array":
        valid = jnp.asarray(np.arange(65).reshape(5, 13) != 3 * 13 + 4)
        found = matching.match_batch(state, given, temperature=TAU, valid=valid)
        np.testing.assert_allclose(probability(found).sum(axis=1), 1, rtol=1e-6)


def test_a_picture_of_padding_is_named(pair):
    valid = jnp.ones((3, 13), bool).at[1].set(False)
    with pytest.raises(InputError, match=r"target 1 has no valid patch"):
        matching.match_batch(
            prepare("geometric", pair[0]), jnp.ones((3, 13, 5)), temperature=TAU, valid=valid
        )


def test_other_bad_input(pair):
    reference, target = pair
    state = prepare("geometric", reference)
    for given, options, sentence in (
        ([target, target[:, :4]], {}, r"target 1 has shape \[13, 4\]; expected \[any, 5\]"),
        ([target, target[0]], {}, r"target 1 has shape \[5\]"),
        ([target, target[:0]], {}, r"target.* has shape \[0, 5\]; expected some patches"),
        ([], {}, "no targets; expected at least one"),
        ([target], {"temperature": 0.0}, "temperature is 0.0"),
        ([target], {"temperature": float("nan")}, "temperature is nan"),
        ([target], {"valid": jnp.ones((1, 13), bool)}, "expected None with a sequence"),
        (target[None], {"valid": jnp.ones((1, 12), bool)}, r"valid has shape \[1, 12\]; expected \[1, 13\]"),
    ):
        with pytest.raises(InputError, match=sentence):
            matching.match_batch(state, given, **{"temperature": TAU, **options})
    with pytest.raises(InputError, match="got features; expected a ReferenceState"):
        matching.match_batch(reference, [target], temperature=TAU)
    random = prepare("random_features", reference)
    with pytest.raises(InputError, match=r"random features were drawn for 0\.5"):
        matching.match_batch(random, [target], temperature=0.7)


def test_the_targets_that_did_not_converge_are_told_of(pair):
    hasty = matching.Sinkhorn(epsilon=0.01, iterations=2, tolerance=1e-6)
    state = matching.prepare(pair[0], method=hasty)
    with pytest.warns(matching.ConvergenceWarning, match="stopped after") as told:
        found = matching.match_batch(state, jnp.stack([pair[1]] * 2), temperature=TAU)
    assert told[0].filename == __file__ and not found.diagnostics.converged.any()


SPREAD = """
import sys
import jax, jax.numpy as jnp, numpy as np
from softmatch_jax import matching
from softmatch_jax.matching import batch

seen = []
inner = batch._match_many
def spy(*args, **options):
    out = inner(*args, **options)
    seen.append(out[0].log_probability.sharding)
    return out
batch._match_many = spy

assert len(jax.devices()) == 8
if sys.argv[1] == "made":
    mesh = jax.make_mesh((8,), ("targets",))
else:
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("targets",))
rng = np.random.default_rng(0)
reference = jnp.asarray(rng.normal(size=(9, 5)), jnp.float32)
for name, count in (("geometric", 16), ("geometric", 11), ("arithmetic", 3)):
    targets = jnp.asarray(rng.normal(size=(count, 32, 5)), jnp.float32)
    state = matching.prepare(reference, method=name)
    alone = matching.match_batch(state, targets, temperature=0.1)
    for given in (targets, [t[: 32 - 3 * i % 7] for i, t in enumerate(targets)]):
        one = matching.match_batch(state, given, temperature=0.1)
        spread = matching.match_batch(state, given, temperature=0.1, mesh=mesh)
        assert len(seen[-1].device_set) == 8 and not seen[-1].is_fully_replicated
        assert len(seen[-2].device_set) == 1
        for a, b in zip(jax.tree.leaves(spread), jax.tree.leaves(one), strict=True):
            # One target to a device and four to a device are compiled apart: half an ulp of logits of 10.
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)
bad = targets.at[2, 4].set(jnp.nan)
try:
    matching.match_batch(state, bad, temperature=0.1, mesh=mesh)
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("mesh", mostly_slow(["plain", "made"], "plain"))
def test_eight_devices_give_what_one_gives(mesh):
    """To rounding, also when the targets do not divide by the devices."""
    root = Path(matching.__file__).resolve().parents[2]
    flags = "--xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SPREAD, mesh],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)},
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "target 2 patches have no direction, the first being number 4" in done.stdout
