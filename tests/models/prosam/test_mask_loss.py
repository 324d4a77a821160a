from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from softmatch_jax._checks import InputError
from softmatch_jax.models.prosam.losses import mask_loss

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (6, 8)).astype(np.float32)
TRUTH = (RNG.random((6, 8)) < 0.4).astype(np.float32)
INSIDE = np.ones((6, 8), bool)


def published(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """The sum of torch's cross entropy and of Dice with 1 in numerator and denominator."""
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
    found = logits.sigmoid()
    return entropy + 1 - (2 * (found * truth).sum() + 1) / (found.sum() + truth.sum() + 1)


@pytest.mark.parametrize(
    "truth", [TRUTH, RNG.random((6, 8)).astype(np.float32), np.zeros((6, 8), np.float32)]
)
def test_value_and_gradient_are_those_of_torch(truth):
    asked = torch.tensor(LOGITS, requires_grad=True)
    expected = published(asked, torch.tensor(truth))
    expected.backward()
    value, gradient = jax.value_and_grad(mask_loss)(jnp.asarray(LOGITS), truth, INSIDE)
    assert float(value) == pytest.approx(expected.item(), rel=1e-5)
    assert np.asarray(gradient) == pytest.approx(asked.grad.numpy(), rel=1e-4, abs=1e-6)


def test_cells_outside_do_not_count():
    inside = np.arange(8) < 5
    wild = np.where(inside, LOGITS, 1e4).astype(np.float32)
    other = np.where(inside, TRUTH, 1 - TRUTH).astype(np.float32)
    inside = np.broadcast_to(inside, (6, 8))
    alone = mask_loss(LOGITS[:, :5], TRUTH[:, :5], INSIDE[:, :5])
    assert float(mask_loss(wild, other, inside)) == pytest.approx(float(alone), rel=1e-5)
    gradient = jax.grad(mask_loss)(jnp.asarray(wild), other, inside)
    assert (np.asarray(gradient)[:, 5:] == 0).all()


def test_limits():
    sure = 100 * (2 * TRUTH - 1)
    assert float(mask_loss(sure, TRUTH, INSIDE)) == pytest.approx(0, abs=1e-6)
    assert float(mask_loss(-sure, TRUTH, INSIDE)) == pytest.approx(101, abs=0.1)
    assert float(mask_loss(LOGITS, TRUTH, np.zeros((6, 8), bool))) == 0


def test_shapes_must_fit():
    with pytest.raises(InputError, match="truth"):
        mask_loss(LOGITS, TRUTH[:5], INSIDE)
    with pytest.raises(InputError, match="inside"):
        mask_loss(LOGITS, TRUTH, INSIDE[:, :5])
