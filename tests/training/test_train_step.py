from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_training import Regression, Waves, config

from softmatch_jax._checks import InputError
from softmatch_jax.training.sharding import device_mesh, place
from softmatch_jax.training.step import make_step, start_state


def run(task, source, settings, steps):
    """The outcomes of some steps, and the states before and after each."""
    mesh = device_mesh(1)
    state, step = start_state(task, settings, mesh), make_step(task, settings, mesh)
    outcomes, states = [], [copied(state)]
    for number in range(steps):
        state, outcome = step(state, place(source.batch(0, number), mesh, settings.accumulate))
        outcomes.append(jax.device_get(outcome))
        states.append(copied(state))
    return outcomes, states


def copied(state):
    """On the host, and not in the memory of arrays that are donated."""
    return jax.tree.map(np.array, state)


@pytest.fixture(scope="module")
def plain():
    return run(Regression(settings={"noise": 0.0}), Waves(), config(), 4)


@pytest.fixture(scope="module")
def accumulated():
    return run(Regression(settings={"noise": 0.0}), Waves(), config(accumulate=4), 4)


def test_an_accumulated_gradient_is_that_of_the_whole_batch(plain, accumulated):
    for one, other in zip(accumulated[0], plain[0], strict=True):
        assert one.values.keys() == other.values.keys() == {"loss", "size", "drawn", "grad_norm"}
        for name in ("loss", "size", "grad_norm"):
            # The same sums in another order.
            assert one.values[name] == pytest.approx(other.values[name], rel=1e-5), name
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), accumulated[1], plain[1]
    )


def test_each_step_and_each_part_of_its_batch_has_its_own_key(plain, accumulated):
    for step in range(4):
        key = jax.random.fold_in(jax.random.key(config().seed), step)
        assert plain[0][step].values["drawn"] == jax.random.uniform(key)
        drawn = [jax.random.uniform(jax.random.fold_in(key, part)) for part in range(4)]
        assert accumulated[0][step].values["drawn"] == pytest.approx(np.mean(drawn), rel=1e-6)


def test_the_gradient_is_that_of_jax(plain):
    task = Regression(settings={"noise": 0.0})
    outcome, (before, after) = plain[0][0], plain[1][:2]
    params, key = jax.tree.map(jnp.asarray, before.params), jax.random.key(0)

    def loss(kernel):
        second = [kernel, params["second"][1]]
        return task.loss({**params, "second": second}, Waves().batch(0, 0), key)[0]

    value, gradient = jax.value_and_grad(loss)(params["second"][0])
    assert outcome.values["loss"] == pytest.approx(float(value), rel=1e-6)
    assert 0 < np.linalg.norm(gradient) < outcome.values["grad_norm"]
    # Adam's first step is one rate long against the gradient; weight decay comes on top of it.
    kernel = before.params["second"][0]
    moved = -outcome.learning_rate * (np.sign(gradient) + config().weight_decay * kernel)
    np.testing.assert_allclose(after.params["second"][0] - kernel, moved, rtol=1e-3)


def test_a_step_that_is_not_finite_changes_nothing_but_the_counts():
    source = Waves(bad=frozenset({1, 2, 4}))
    outcomes, states = run(Regression(), source, config(), 5)
    assert [bool(outcome.finite) for outcome in outcomes] == [True, False, False, True, False]
    assert [int(outcome.in_a_row) for outcome in outcomes] == [0, 1, 2, 0, 1]
    assert [int(outcome.skipped) for outcome in outcomes] == [0, 1, 2, 2, 3]
    assert int(states[5].step) == 5
    for name in ("trained", "fixed", "average", "moments"):
        jax.tree.map(np.testing.assert_array_equal, getattr(states[3], name), getattr(states[1], name))
    assert not np.array_equal(states[4].params["second"][0], states[3].params["second"][0])


def test_buffers_stay_as_they_are(plain):
    state = plain[1][-1]
    np.testing.assert_array_equal(state.params["scale"], [1, 2, 3])
    np.testing.assert_array_equal(state.averaged["scale"], [1, 2, 3])
    assert jax.tree.structure(state.params) == jax.tree.structure(Regression().init(jax.random.key(0)))
    assert not np.array_equal(state.params["second"][0], state.averaged["second"][0])


def test_more_devices_than_there_are():
    count = len(jax.devices()) + 1
    with pytest.raises(InputError, match=rf"^training.devices is {count}, but JAX sees {count - 1}"):
        device_mesh(count)


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        ({}, "empty"),
        ({"x": np.zeros(())}, "scalar"),
        ({"x": np.zeros((4, 1)), "y": np.zeros((3, 1))}, "'y': 3"),
        ({"x": np.zeros((5, 1))}, r"5 pictures; expected a multiple of 2"),
        ({"x": np.zeros((0, 1))}, r"0 pictures"),
    ],
)
def test_batches_that_cannot_be_dealt_out(batch, told):
    with pytest.raises(InputError, match=told):
        place(batch, device_mesh(1), 2)
