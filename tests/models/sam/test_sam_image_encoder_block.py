"""The transformer block on its own: against a float64 loop, in tiles, under vmap and gradients."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from slow_params import mostly_slow

from softmatch_jax._checks import InputError
from softmatch_jax.models.sam import relative_attention
from softmatch_jax.models.sam.image_encoder import NeckConv
from softmatch_jax.models.sam.vit_block import EncoderBlock, partition, unpartition

DIM, HEADS = 12, 3
SIZES = [(7, 7), (4, 6), (1, 5)]


def block_of(*, window=0, side=7, seed=0, **settings):
    """A block none of whose arrays is zero or one."""
    block = EncoderBlock(DIM, HEADS, 20, window=window, side=side, rngs=nnx.Rngs(seed), **settings)
    rng = np.random.default_rng(seed)
    graph, state = nnx.split(block)
    noisy = jax.tree.map(lambda x: x + jnp.asarray(0.4 * rng.normal(size=x.shape), jnp.float32), state)
    return nnx.merge(graph, noisy)


def grid_of(*size, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(*size, DIM)), jnp.float32)


def attention_by_loops(attention, x):
    """What each patch reads, patch by patch in float64; padding by hand."""
    double = [np.asarray(p[...], np.float64) for p in (attention.qkv.kernel, attention.qkv.bias)]
    tables = [np.asarray(table[...], np.float64) for table in (attention.rel_pos_h, attention.rel_pos_w)]
    height, width, _ = x.shape
    step = attention.window or max(height, width)
    middle, size = attention.side - 1, DIM // HEADS
    read = np.zeros((height, width, DIM))
    extent = (-(-height // step) * step, -(-width // step) * step) if attention.window else (height, width)
    qkv = np.zeros((*extent, DIM))
    qkv[:height, :width] = x
    qkv = (qkv @ double[0] + double[1]).reshape(*extent, 3, HEADS, size)
    places = [(i, j) for i in range(extent[0]) for j in range(extent[1])]
    for i, j in [(i, j) for i in range(height) for j in range(width)]:
        seen = [(k, m) for k, m in places if (k // step, m // step) == (i // step, j // step)]
        for head in range(HEADS):
            q = qkv[i, j, 0, head]
            logits = np.array(
                [
                    q @ qkv[k, m, 1, head] / np.sqrt(size)
                    + q @ tables[0][middle + i - k]
                    + q @ tables[1][middle + j - m]
                    for k, m in seen
                ]
            )
            weights = np.exp(logits - logits.max())
            values = np.array([qkv[k, m, 2, head] for k, m in seen])
            read[i, j, head * size : (head + 1) * size] = weights @ values / weights.sum()
    return read @ np.asarray(attention.proj.kernel[...], np.float64) + np.asarray(attention.proj.bias[...])


@pytest.mark.parametrize(
    ("window", "size"), mostly_slow(itertools.product([0, 3], SIZES), (0, (4, 6)), (3, (7, 7)))
)
def test_attention_is_that_of_a_loop(window, size):
    """Grids of the table's size and smaller; windows that do not divide them."""
    attention, x = block_of(window=window).attn, grid_of(*size)
    np.testing.assert_allclose(attention(x), attention_by_loops(attention, np.asarray(x)), atol=5e-6)


@pytest.mark.parametrize(
    "tile", [(2, 10), *(pytest.param(tile, marks=pytest.mark.slow) for tile in [(1, 8), (16, 100)])]
)
def test_tiles_change_nothing(tile, monkeypatch, optimised):
    """Tiles of queries that divide the grid and others; of one head and of some."""
    attention, x = block_of().attn, grid_of(6, 5)
    whole = attention(x)
    monkeypatch.setattr(relative_attention, "LARGE", 4)
    monkeypatch.setitem(relative_attention.TILE, jax.default_backend(), tile)
    np.testing.assert_allclose(attention(x), whole, atol=2e-6)
    np.testing.assert_allclose(jax.vmap(attention)(x[None])[0], whole, atol=2e-6)


def test_a_block_is_two_residual_steps():
    block, x = block_of(window=3), grid_of(5, 4)
    between = x + block.attn(block.norm1(x))
    after = between + block.mlp(block.norm2(between))
    np.testing.assert_allclose(block(x), after, atol=1e-6)
    hidden = np.asarray(block.mlp.lin1(between), np.float64)
    gelu = jax.nn.gelu(jnp.asarray(hidden), approximate=False)
    np.testing.assert_allclose(block.mlp(between), block.mlp.lin2(gelu), atol=2e-5)


def test_windows_come_back():
    x = grid_of(5, 7)
    windows = partition(x, (3, 4))
    assert windows.shape == (4, 12, DIM)
    np.testing.assert_array_equal(windows[0].reshape(3, 4, DIM), x[:3, :4])
    np.testing.assert_array_equal(windows[3].reshape(3, 4, DIM)[:2, :3], x[3:, 4:])
    assert not windows[3].reshape(3, 4, DIM)[2].any()
    np.testing.assert_array_equal(unpartition(windows, (3, 4), (5, 7)), x)


def test_windows_do_not_see_each_other():
    block, x = block_of(window=3), grid_of(6, 6)
    changed = block(x.at[:3, :3].add(1.0))
    same = np.isclose(changed, block(x), atol=1e-6).all(axis=-1)
    assert not same[:3, :3].any() and same[3:].all() and same[:, 3:].all()


@pytest.mark.slow
@pytest.mark.parametrize("window", [0, 3])
def test_a_batch_is_a_loop_and_its_gradient_the_sum(window):
    graph, state = nnx.split(block_of(window=window))
    batch = jnp.stack([grid_of(4, 5, seed=seed) for seed in range(3)])

    def loss(state, batch):
        return (jax.vmap(nnx.merge(graph, state))(batch) ** 2).sum()

    total, gradient = jax.value_and_grad(loss)(state, batch)
    parts = [jax.value_and_grad(loss)(state, batch[index : index + 1]) for index in range(3)]
    np.testing.assert_allclose(total, sum(value for value, _ in parts), rtol=1e-5)
    summed = jax.tree.map(lambda *each: sum(each), *(part for _, part in parts))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max()), gradient, summed)
    assert all(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_the_gradient_is_the_slope():
    graph, state = nnx.split(block_of())
    x, step = grid_of(4, 4), 1e-2

    def loss(state):
        return nnx.merge(graph, state)(x).sum()

    direction = jax.tree.map(
        lambda leaf: jnp.asarray(np.random.default_rng(leaf.size).normal(size=leaf.shape), jnp.float32), state
    )
    _, slope = jax.jvp(loss, (state,), (direction,))
    forth, back = (jax.tree.map(lambda a, b: a + sign * step * b, state, direction) for sign in (1, -1))  # noqa: B023
    np.testing.assert_allclose(slope, (loss(forth) - loss(back)) / (2 * step), rtol=0.02)
    total = sum(
        jnp.vdot(a, b)
        for a, b in zip(jax.tree.leaves(jax.grad(loss)(state)), jax.tree.leaves(direction), strict=True)
    )
    np.testing.assert_allclose(total, slope, rtol=1e-4)


@pytest.mark.slow
def test_half_precision_is_close_and_keeps_the_stream():
    x = grid_of(6, 6)
    exact, half = block_of(window=4)(x), block_of(window=4, dtype=jnp.bfloat16)(x)
    assert half.dtype == jnp.float32 and not np.array_equal(half, exact)
    # bfloat16 keeps 8 bits.
    assert np.abs(half - exact).max() < 0.03 * np.abs(exact).max()


def test_the_neighbours_of_a_convolution():
    conv = NeckConv(4, 5, 3, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 7, 4)), jnp.float32)
    wanted = jax.lax.conv_general_dilated(
        x[None], conv.kernel[...], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]
    np.testing.assert_allclose(conv(x), wanted, atol=1e-5)


def test_sizes_that_do_not_fit():
    with pytest.raises(InputError, match=r"dim is 10 and heads is 3; expected a multiple"):
        EncoderBlock(10, 3, 8, window=0, side=4, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match="side is 0"):
        EncoderBlock(12, 3, 8, window=0, side=0, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match=r"The grid is 8x3 patches; expected at most 7 a side"):
        block_of()(grid_of(8, 3))
