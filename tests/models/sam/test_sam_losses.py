from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softmatch_jax.models.sam.losses import cross_entropy, dice_loss, focal_loss, hard_iou

LOSSES = (focal_loss, cross_entropy, dice_loss)


@jax.jit
def every(logits, truth, inside):
    return tuple(loss(logits, truth, inside) for loss in (*LOSSES, hard_iou))


def compare(logits, truth, inside=None):
    inside = np.ones(truth.shape[-2:]) if inside is None else inside
    arrays = [np.asarray(array, np.float32) for array in (logits, truth, inside)]
    return [np.asarray(value) for value in every(*arrays)]


def oracle(logits, truth, inside):
    """One mask, cell by cell in float64."""
    z, t = (array[inside > 0].astype(np.float64) for array in (logits, truth))
    p = 1 / (1 + np.exp(-z))
    entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    right = p * t + (1 - p) * (1 - t)
    focal = (0.25 * t + 0.75 * (1 - t)) * (1 - right) ** 2 * entropy
    dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
    found, true = set(np.flatnonzero(z > 0)), set(np.flatnonzero(t > 0.5))
    iou = len(found & true) / len(found | true)
    return focal.mean(), entropy.mean(), dice, iou


@pytest.fixture
def example():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (2, 3, 6, 5)).astype(np.float32)
    truth = rng.choice([0, 0.25, 0.5, 0.75, 1], logits.shape, p=[0.4, 0.1, 0.1, 0.1, 0.3]).astype(np.float32)
    inside = np.zeros((6, 5), np.float32)
    inside[:4, :3] = 1
    return logits, truth, inside


def test_all_by_the_formulas_in_float64(example):
    logits, truth, inside = example
    found = compare(*example)
    for n in np.ndindex(2, 3):
        expected = oracle(logits[n], truth[n], inside)
        np.testing.assert_allclose([value[n] for value in found], expected, rtol=2e-6)


def test_padding_does_not_count(example):
    logits, truth, inside = example
    other = np.where(inside > 0, logits, 80.0), np.where(inside > 0, truth, 1.0)
    for first, second in zip(compare(*example), compare(*other, inside), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_right_mask_costs_nothing_and_the_opposite_much(share):
    truth = np.zeros((1, 1, 6, 5))
    truth[..., : int(6 * share), :] = 1
    focal, entropy, dice, iou = (value.item() for value in compare(50 * (2 * truth - 1), truth))
    assert (focal, entropy, dice, iou) == pytest.approx((0, 0, 0, 1), abs=1e-6)
    focal, entropy, dice, iou = (value.item() for value in compare(-50 * (2 * truth - 1), truth))
    assert entropy == pytest.approx(50)
    assert focal == pytest.approx(50 * (0.25 * share + 0.75 * (1 - share)))
    assert (dice, iou) == pytest.approx((1 - 1 / 31, 0))


def test_a_picture_that_is_all_padding(example):
    logits, truth, inside = example
    focal, entropy, dice, iou = compare(logits, truth, 0 * inside)
    assert not focal.any() and not entropy.any() and not dice.any() and (iou == 1).all()


def test_where_half_is_not_more_than_half():
    truth, logits = np.full((1, 1, 1, 2), 0.5), np.array([[[[1.0, 0.0]]]])
    assert compare(logits, truth)[3].item() == 0  # one cell found, none true
    assert compare(0 * logits, truth)[3].item() == 1  # both are empty


def test_gradients_by_finite_differences(example, x64):
    logits, truth, inside = (array.astype(np.float64) for array in example)

    @jax.jit
    def total(logits):
        return jnp.stack([loss(logits, truth, inside).sum() for loss in LOSSES])

    direction = np.random.default_rng(1).normal(size=logits.shape)
    _, slope = jax.jit(lambda z: jax.jvp(total, (z,), (direction,)))(logits)
    step = 1e-5
    differences = (total(logits + step * direction) - total(logits - step * direction)) / (2 * step)
    np.testing.assert_allclose(slope, differences, rtol=1e-7)
    far = jax.jit(jax.jacrev(total))(logits * 1e3)  # far beyond where the sigmoid is 0 or 1
    assert np.isfinite(far).all()
