"""The prompt encoder against its re-expression in torch on the same weights, and its own laws."""

from __future__ import annotations

import copy
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch_encoder
from flax import nnx
from slow_params import mostly_slow

from softmatch_jax import InputError
from softmatch_jax.models.prosam.config import PromptEncoderConfig
from softmatch_jax.models.prosam.convert import load_torch_encoder
from softmatch_jax.models.prosam.encoder import PromptEncoder, sine_positions
from softmatch_jax.models.prosam.weights import encoder_arrays, encoder_of
from softmatch_jax.models.sam.flat_weights import flatten
from softmatch_jax.models.sam.static_graph import split

GRID = (7, 5)
KINDS = {
    "VRP-SAM": (0, PromptEncoderConfig(variational=False)),
    "VRP-SAM + 2 linear": (2, PromptEncoderConfig(variational=False, extra_linear=2)),
    "ProSAM": ("prosam", PromptEncoderConfig()),
}
COUNTS = {"VRP-SAM": 1_592_064, "VRP-SAM + 2 linear": 1_592_064 + 2 * 65_792, "ProSAM": 1_723_648}
SIZES = {"channels": 6, "dim": 16, "prompts": 5, "heads": 2}
SMALL = PromptEncoderConfig(**SIZES)
QUICK = {"xla_backend_optimization_level": 0}
"""Compiling takes most of the time here."""


def converted(network, config):
    """Our encoder with the weights of the re-expression."""
    return encoder_of(config, load_torch_encoder(torch_encoder.state(network), config))


def untrained(config):
    graph, _ = split(nnx.eval_shape(lambda: PromptEncoder(config, rngs=nnx.Rngs(0))))
    start = jax.jit(lambda: split(PromptEncoder(config, rngs=nnx.Rngs(0)))[1], compiler_options=QUICK)
    return graph.merge(start())


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def compiled(graph, state, arrays, near, far, key):
    return graph.merge(state)(*arrays, reference_valid=near, target_valid=far, key=key)


def answer(encoder, arrays, near=None, far=None, key=None):
    return compiled(*split(encoder), arrays, near, far, key)


def pair(channels, *, seed=0, batch=(), grid=GRID):
    """Features, mask, features and pseudo mask, as an extractor with ReLU gives them."""
    rng = np.random.default_rng(seed)
    near, far = (np.maximum(rng.normal(size=(*batch, *grid, channels)), 0) for _ in range(2))
    mask, pseudo = rng.random((*batch, *grid)) > 0.6, rng.random((*batch, *grid))
    return [array.astype(np.float32) for array in (near, mask, far, pseudo)]


def in_torch(arrays):
    """The same for the re-expression: a batch, channels first, float64."""
    tensors = [torch.tensor(array, dtype=torch.float64) for array in arrays]
    return [t.movedim(-1, 1).requires_grad_() if t.dim() == 4 else t for t in tensors]


def error(got, expected):
    """The largest difference, as a share of the range."""
    expected = expected.detach().numpy() if hasattr(expected, "detach") else expected
    return np.abs(np.asarray(got) - expected).max() / np.ptp(expected)


@pytest.fixture(scope="module")
def network():
    return torch_encoder.trained("prosam", **SIZES)


@pytest.fixture(scope="module")
def small(network):
    return converted(network, SMALL)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters(kind):
    outputs, config = KINDS[kind]
    network = torch_encoder.TorchEncoder(**torch_encoder.PUBLISHED, outputs=outputs)
    assert sum(value.numel() for value in network.parameters()) == COUNTS[kind]
    encoder = nnx.eval_shape(lambda: PromptEncoder(config, rngs=nnx.Rngs(0)))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(encoder))) == COUNTS[kind]
    assert jax.tree.leaves(nnx.state(encoder, nnx.Not(nnx.Param))) == []


@pytest.mark.parametrize("kind", mostly_slow(["VRP-SAM", "VRP-SAM + 2 linear", "ProSAM"], "ProSAM"))
def test_same_as_torch(kind):
    """Prompts, and gradients in all weights and both feature maps, of a batch of two pairs."""
    outputs, config = KINDS[kind]
    network = torch_encoder.trained(outputs)
    arrays = pair(config.channels, batch=(2,))
    tensors = in_torch(arrays)
    expected = [part for part in network(*tensors) if part is not None]
    rng = np.random.default_rng(5)
    cotangents = [rng.normal(size=part.shape).astype(np.float32) for part in expected]
    sum((part * torch.tensor(c)).sum() for part, c in zip(expected, cotangents, strict=True)).backward()
    graph, state = split(converted(network, config))

    def value(state, near, far):
        made = jax.vmap(graph.merge(state))(near, arrays[1], far, arrays[3])[: len(expected)]
        return sum(jnp.sum(m * c) for m, c in zip(made, cotangents, strict=True)), made

    gradient = jax.jit(jax.grad(value, argnums=(0, 1, 2), has_aux=True), compiler_options=QUICK)
    (weights, *maps), made = gradient(state, arrays[0], arrays[2])
    for got, wanted in zip(made, expected, strict=True):
        assert error(got, wanted) < 1e-5
    for got, tensor in zip(maps, (tensors[0], tensors[2]), strict=True):
        assert error(got, tensor.grad.movedim(1, -1)) < 1e-4
    wanted, got = load_torch_encoder(torch_encoder.gradients(network), config), flatten(weights)
    assert set(got) == set(wanted)
    for name, gradient in wanted.items():
        # The bias of the keys moves all scores of a token alike, so that its gradient is zero.
        scale = np.abs(wanted[name.replace(".key.bias", ".query.bias")]).max()
        assert np.abs(got[name] - gradient).max() < 1e-4 * scale, name
        assert name.endswith("key.bias") or np.abs(gradient).max() > 0, name


@pytest.mark.parametrize("size", [(1, 1), (3, 8), (64, 64)])
def test_positions(size):
    expected = torch_encoder.sine_positions(*size, 256).reshape(*size, 256)
    np.testing.assert_allclose(sine_positions(*size, 256), expected, atol=1e-6)


def test_not_variational_is_without_spread():
    config = PromptEncoderConfig(**SIZES, variational=False)
    mean, log_sigma = answer(converted(torch_encoder.trained(0, **SIZES), config), pair(6))
    assert mean.shape == log_sigma.shape == (5, 16) and np.all(np.exp(log_sigma) == 0)


class Kept(torch.nn.Module):
    """Scales channels by what our dropout drew, for the reference and then for the target."""

    def __init__(self, *scales):
        super().__init__()
        self.scales = [torch.tensor(scale, dtype=torch.float64) for scale in scales]
        self.calls = 0

    def forward(self, features):
        self.calls += 1
        return features * self.scales[self.calls - 1][:, None, None]


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def reduced(graph, state, features, key):
    return graph.merge(state)._reduce(features, key)


@pytest.mark.slow
def test_dropout_takes_whole_channels(small):
    """Scaled as torch's Dropout2d, each channel drawn for itself."""
    theirs = torch.nn.Dropout2d(0.5).train()(torch.ones(1, 400, 3, 3))
    near = pair(6)[0]
    plain = np.asarray(reduced(*split(small), near, None))
    scales = []
    for key in jax.random.split(jax.random.key(2), 200):
        ratio = np.asarray(reduced(*split(small), near, key))[plain > 0] / plain[plain > 0]
        channels = np.nonzero(plain)[2]
        scales.append([ratio[channels == channel].max() for channel in np.unique(channels)])
        np.testing.assert_allclose(ratio, np.take(scales[-1], np.unique(channels, return_inverse=True)[1]))
    assert len(scales[0]) > 8
    np.testing.assert_allclose(np.unique(np.round(scales, 5)), np.unique(theirs))
    assert abs(np.mean(scales) / 2 - 0.5) < 4 * 0.5 / math.sqrt(np.size(scales))
    correlation = np.corrcoef(np.array(scales).T)[np.triu_indices(len(scales[0]), 1)]
    assert np.abs(correlation).max() < 5 / math.sqrt(200)


def test_dropout_is_drawn_for_each_picture(network, small):
    """Of one picture in both places other channels are dropped; and what follows is as in torch."""
    near, mask, _, pseudo = pair(6)
    key = jax.random.key(0)
    ones = encoder_of(SMALL, encoder_arrays(small) | {"downsample.kernel": np.ones((6, 16)) / 6})
    cell = np.ones((1, 1, 6), np.float32)
    scales = [np.round(reduced(*split(ones), cell, k)[0, 0], 5) for k in jax.random.split(key)]
    assert np.any(scales[0] != scales[1]) and all(set(scale.tolist()) == {0, 2} for scale in scales)
    dropping = copy.deepcopy(network)
    dropping.downsample_query[2] = Kept(*scales)
    tensors = in_torch([array[None] for array in (near, mask, near, pseudo)])
    made = answer(small, [near, mask, near, pseudo], key=key)
    for got, expected in zip(made, dropping(*tensors), strict=True):
        assert error(got, expected[0].detach()) < 1e-5


def test_without_a_key_nothing_is_dropped(small):
    arrays = pair(6)
    plain = answer(small, arrays).mean
    dropped = [answer(small, arrays, key=jax.random.key(seed)).mean for seed in (0, 0, 1)]
    np.testing.assert_array_equal(dropped[0], dropped[1])
    assert np.abs(dropped[0] - dropped[2]).max() > 0.01 < np.abs(dropped[0] - plain).max()
    never = encoder_of(PromptEncoderConfig(**SIZES, dropout=0), encoder_arrays(small))
    np.testing.assert_allclose(answer(never, arrays, key=jax.random.key(0)).mean, plain, atol=1e-6)


def padded():
    """Which cells of either picture are valid."""
    near, far = np.ones(GRID, bool), np.ones(GRID, bool)
    near[5:], far[:, 3:] = False, False
    return near, far


@pytest.mark.slow
def test_padding_has_no_influence(small):
    """Whatever it holds, features, mask and pseudo mask alike; in the gradient, either."""
    arrays, (near, far) = pair(6), padded()
    graph, state = split(small)

    def value(state, arrays):
        made = graph.merge(state)(*arrays, reference_valid=near, target_valid=far)
        return jnp.sum(made.mean**2 + made.log_sigma), made

    run = jax.jit(jax.grad(value, argnums=(0, 1), has_aux=True), compiler_options=QUICK)
    (weights, _), made = run(state, arrays)
    for filler in (0.0, 7.0, np.nan, np.inf):
        other = [array.copy() for array in arrays]
        for array, valid in zip(other, (near, near, far, far), strict=True):
            array[~valid] = filler
        (other_weights, inputs), other_made = run(state, other)
        jax.tree.map(np.testing.assert_array_equal, (made, weights), (other_made, other_weights))
        for gradient, valid in zip(inputs, (near, near, far, far), strict=True):
            assert not np.any(gradient[~valid]) and np.any(gradient[valid])
    assert np.abs(made.mean - answer(small, arrays).mean).max() > 1e-3


def test_padding_as_torch_masks_keys(network, small):
    arrays, (near, far) = pair(6), padded()
    valid = (torch.tensor(near)[None], torch.tensor(far)[None])
    expected = network(*in_torch([array[None] for array in arrays]), *valid)
    for got, wanted in zip(answer(small, arrays, near, far), expected, strict=True):
        assert error(got, wanted[0]) < 1e-5


def test_all_valid_is_as_no_padding(small):
    arrays, everywhere = pair(6), np.ones(GRID, bool)
    got = answer(small, arrays, everywhere, everywhere)
    np.testing.assert_allclose(got.mean, answer(small, arrays).mean, atol=1e-5)


@pytest.mark.slow
def test_first_log_sigma():
    """As chosen for every picture, and it can be learned away from there."""
    arrays = pair(6)
    encoder = untrained(PromptEncoderConfig(**SIZES, initial_log_sigma=-1.5))
    np.testing.assert_array_equal(answer(encoder, arrays).log_sigma, np.full((5, 16), -1.5, np.float32))
    graph, state = split(encoder)
    gradient = jax.grad(lambda s: jnp.sum(graph.merge(s)(*arrays).log_sigma))
    found = flatten(jax.jit(gradient, compiler_options=QUICK)(state))
    assert np.all(found["log_sigma_head.kernel"] != 0)


def test_floor_of_sigma(small):
    arrays, floor = pair(6), 0.9
    free = answer(small, arrays)
    bounded = answer(
        encoder_of(PromptEncoderConfig(**SIZES, sigma_floor=floor), encoder_arrays(small)), arrays
    )
    assert np.any(np.exp(free.log_sigma) < floor - 0.1)
    np.testing.assert_allclose(
        np.exp(bounded.log_sigma), np.maximum(np.exp(free.log_sigma), floor), rtol=1e-5
    )
    np.testing.assert_allclose(bounded.mean, free.mean, atol=1e-5)


@pytest.mark.slow
def test_start_of_the_weights():
    """Uniform within torch's limits: each drawn matrix nearly reaches its own, and none goes beyond."""
    encoder = untrained(PromptEncoderConfig())
    network = torch_encoder.TorchEncoder(**torch_encoder.PUBLISHED, outputs="prosam")
    for module in network.modules():
        if isinstance(module, torch.nn.MultiheadAttention):  # as published, all matrices of an attention
            torch.nn.init.xavier_uniform_(module.in_proj_weight)
            torch.nn.init.xavier_uniform_(module.out_proj.weight)
    theirs = load_torch_encoder(torch_encoder.state(network))
    for name, ours in encoder_arrays(encoder).items():
        expected = theirs[name]
        assert np.std(ours) == pytest.approx(np.std(expected), rel=0.2, abs=1e-12), name
        assert np.mean(ours) == pytest.approx(np.mean(expected), abs=0.02), name
        if name != "queries":
            assert np.abs(ours).max() == pytest.approx(np.abs(expected).max(), rel=0.05, abs=1e-12), name
    log_sigma = answer(encoder, pair(1536)).log_sigma
    assert abs(log_sigma.mean()) < 0.1 and 0.3 < log_sigma.std() < 0.8


def test_shapes_that_do_not_fit(small):
    near, mask, far, pseudo = pair(6)
    valid = np.ones(GRID, bool)
    for call in (
        lambda: small(near[..., :5], mask, far, pseudo),
        lambda: small(near, mask, far[:6], pseudo),
        lambda: small(near, mask[:6], far, pseudo),
        lambda: small(near, mask, far, pseudo[:, :4]),
        lambda: small(near, mask, far, pseudo, reference_valid=valid[:6]),
        lambda: small(near[:6], mask, far, pseudo, reference_valid=valid),
        lambda: small(near, mask, far, pseudo, target_valid=valid[0]),
    ):
        with pytest.raises(InputError, match=r"has shape .*; expected \["):
            call()


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": 0},
        {"dim": 18},
        {"dim": 256, "heads": 3},
        {"dim": -256},
        {"prompts": 0},
        {"extra_linear": 2},
        {"extra_linear": -1, "variational": False},
        {"dropout": 1.0},
        {"dropout": math.nan},
        {"mask_gain": 0},
        {"likeness": "relu"},
        {"to_grid": "bilinear"},
        {"initial_log_sigma": math.nan},
        {"sigma_floor": -1.0},
        {"sigma_floor": math.nan},
    ],
)
def test_sizes_that_cannot_be(wrong):
    with pytest.raises(InputError, match=rf"encoder\.{next(iter(wrong))} is .*expected"):
        PromptEncoderConfig(**wrong)
