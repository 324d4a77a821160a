from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_training import Regression, config

from softmatch_jax._checks import InputError
from softmatch_jax.training.config import TrainConfig
from softmatch_jax.training.optimisation import (
    average,
    decayed_leaves,
    join,
    learning_rate,
    optimiser,
    split,
    trained_leaves,
)


def test_the_rate_rises_evenly_then_falls_along_a_cosine():
    rate = learning_rate(TrainConfig(steps=110, warmup_steps=10, learning_rate=2.0, final_rate=0.1))
    np.testing.assert_allclose([rate(step) for step in range(10)], 2.0 * np.arange(1, 11) / 10, rtol=1e-6)
    down = [2.0 * (0.9 * (1 + math.cos(math.pi * t / 100)) / 2 + 0.1) for t in range(101)]
    np.testing.assert_allclose([rate(10 + t) for t in range(101)], down, rtol=1e-5)
    assert rate(110) == pytest.approx(0.2) and rate(500) == pytest.approx(0.2)


def test_the_rate_without_warm_up_and_with_nothing_else():
    assert learning_rate(TrainConfig(steps=10, warmup_steps=0, learning_rate=1.0))(0) == 1.0
    short = learning_rate(TrainConfig(steps=2, warmup_steps=200, learning_rate=1.0))
    assert [float(short(step)) for step in range(2)] == [0.5, 1.0]


def test_restarts_begin_the_cosine_anew():
    settings = TrainConfig(steps=47, warmup_steps=5, learning_rate=2.0, final_rate=0.1, restart_every=14)
    rates = np.array([learning_rate(settings)(step) for step in range(47)])
    np.testing.assert_allclose(rates[:5], 2.0 * np.arange(1, 6) / 5, rtol=1e-6)
    np.testing.assert_allclose(rates[[5, 19, 33]], 2.0)
    period = [2.0 * (0.9 * (1 + math.cos(math.pi * t / 14)) / 2 + 0.1) for t in range(14)]
    np.testing.assert_allclose(rates[5:].reshape(3, 14), [period] * 3, rtol=1e-5)
    assert 0.2 < rates.min() < 0.25


def test_restarts_are_those_of_torch():
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([weight], lr=0.5)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(sgd, T_0=6, T_mult=1, eta_min=0.05)
    settings = TrainConfig(steps=20, warmup_steps=0, learning_rate=0.5, final_rate=0.1, restart_every=6)
    rate = learning_rate(settings)
    for step in range(20):
        assert float(rate(step)) == pytest.approx(sgd.param_groups[0]["lr"], rel=1e-5)
        sgd.step()
        theirs.step()


@pytest.mark.parametrize("restart_every", [0, 30, 31, 10**6])
def test_restarts_after_the_end_are_none(restart_every):
    plain = learning_rate(TrainConfig(steps=40, warmup_steps=10))
    other = learning_rate(TrainConfig(steps=40, warmup_steps=10, restart_every=restart_every))
    assert [float(other(step)) for step in range(45)] == [float(plain(step)) for step in range(45)]


def test_a_checkpoint_names_restarts_only_where_there_are_some():
    # Those of earlier versions do not know them, and can be gone on with.
    assert "restart_every" not in TrainConfig().learned_with()
    assert TrainConfig(restart_every=3).learned_with()["restart_every"] == 3
    assert TrainConfig(**TrainConfig().learned_with()) == TrainConfig()
    with pytest.raises(InputError, match=r"training.restart_every is -1; expected 0 or more"):
        TrainConfig(restart_every=-1)


def test_adamw_is_that_of_optax():
    params = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([3.0])}
    gradients = [{"kernel": jnp.array([[0.3, a]]), "bias": jnp.array([-a])} for a in (0.1, -0.4, 2.0)]
    mask = {"kernel": True, "bias": False}
    settings = config(clip_norm=0.5, weight_decay=0.1, beta1=0.8, beta2=0.9)
    ours = optimiser(settings, mask)
    theirs = optax.chain(
        optax.clip_by_global_norm(0.5), optax.adamw(0.01, 0.8, 0.9, weight_decay=0.1, mask=mask)
    )
    mine, other = params, params
    moments, state = ours.init(params), theirs.init(params)
    for gradient in gradients:
        directions, moments = ours.update(gradient, moments, mine)
        mine = jax.tree.map(lambda p, d: p - 0.01 * d, mine, directions)
        updates, state = theirs.update(gradient, state, other)
        other = optax.apply_updates(other, updates)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-6), mine, other))
    assert not np.allclose(mine["kernel"], params["kernel"])


@pytest.mark.slow
def test_muon_makes_the_steps_of_matrices_orthogonal():
    shapes = {"linear": (24, 48), "conv": (3, 3, 16, 32), "narrow": (40, 4), "token": (24, 48), "bias": (48,)}
    key = jax.random.key(0)
    gradient = {
        name: jax.random.normal(key, shape) * jnp.linspace(0.1, 3, shape[-1])
        for name, shape in shapes.items()
    }
    params = jax.tree.map(jnp.zeros_like, gradient)
    decayed = {name: name not in ("token", "bias") for name in shapes}
    muon = optimiser(config(optimiser="muon", clip_norm=0.0), decayed)
    directions, _ = muon.update(gradient, muon.init(params), params)
    for name in ("linear", "conv"):
        matrix = np.asarray(directions[name]).reshape(-1, shapes[name][-1])
        # As large as a step of AdamW: a root mean square of 0.2 whatever the shape.
        assert np.sqrt(np.mean(matrix**2)) == pytest.approx(0.2, rel=0.25)
        values = np.linalg.svd(matrix, compute_uv=False)
        before = np.linalg.svd(np.asarray(gradient[name]).reshape(matrix.shape), compute_uv=False)
        assert values.max() / values.min() < 3 < before.max() / before.min()
        assert np.vdot(matrix, gradient[name]) > 0
    for name in ("narrow", "token", "bias"):
        # AdamW's first step, with Nesterov's look ahead: the same whatever the gradient.
        ahead = (0.9 * 0.1 / (1 - 0.9**2) + 0.1 / (1 - 0.9)) * np.sign(gradient[name])
        np.testing.assert_allclose(directions[name], ahead, rtol=1e-3)


def test_clipping_can_be_turned_off():
    params = {"a": jnp.zeros(2)}
    huge = {"a": jnp.array([3e3, 4e3])}
    free, bound = (optimiser(config(clip_norm=norm), {"a": False}) for norm in (0.0, 1.0))
    assert free.update(huge, free.init(params), params)[1][1].mu["a"][0] == pytest.approx(300)
    assert bound.update(huge, bound.init(params), params)[1][1].mu["a"][0] == pytest.approx(0.06)


def test_the_average_while_its_memory_grows():
    # The memories (1 + n) / (10 + n) of the first k updates multiply to k! 9! / (k + 9)!.
    mean = jnp.float32(0)
    for n in range(7):
        mean = average(mean, jnp.float32(3), 0.999, jnp.int32(n))
    assert mean == pytest.approx(3 * (1 - math.factorial(7) * math.factorial(9) / math.factorial(16)))


def test_the_average_with_its_whole_memory():
    mean = jnp.float32(5)
    for n in range(20):
        mean = average(mean, jnp.float32(2), 0.9, jnp.int32(1000 + n))
    assert mean == pytest.approx(2 + 3 * 0.9**20)


def test_what_decays_and_what_is_trained():
    task = Regression()
    params = task.init(jax.random.key(0))
    assert decayed_leaves(task, params) == {
        "scale": False,
        "first": {"kernel": True, "bias": False},
        "second": [True, False],
    }
    assert trained_leaves(task, params)["scale"] is False
    task.decayed = lambda params: jax.tree.map(lambda _: False, params)
    assert not any(jax.tree.leaves(decayed_leaves(task, params)))


def test_a_buffer_of_integers_cannot_be_trained():
    task = Regression(name="rash")
    task.trainable = lambda params: jax.tree.map(lambda _: True, params)
    with pytest.raises(InputError, match=r"\['scale'\] of rash is int32"):
        trained_leaves(task, task.init(jax.random.key(0)))


def test_split_and_join():
    tree = {"a": jnp.ones(2), "b": [jnp.zeros(1), jnp.int32(3)]}
    part, rest = split(tree, {"a": True, "b": [False, False]})
    assert rest["a"] is None and part["b"] == [None, None]
    assert jax.tree.all(jax.tree.map(np.array_equal, join(part, rest), tree))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"optimiser": "sgd"}, "optimiser is 'sgd'; expected 'adamw' or 'muon'"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"clip_norm": -1.0}, "clip_norm is -1"),
        ({"weight_decay": math.nan}, "weight_decay is nan"),
        ({"ema_decay": 1.0}, "ema_decay is 1"),
        ({"final_rate": 1.5}, "final_rate is 1.5"),
        ({"seed": -1}, "seed is -1"),
        ({"max_minutes": 0.0}, "max_minutes is 0"),
        ({"accumulate": 0}, "accumulate is 0"),
    ],
)
def test_settings_that_make_no_sense(changes, told):
    with pytest.raises(InputError, match=rf"^training\.{told}"):
        TrainConfig(**changes)
