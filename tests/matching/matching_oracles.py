"""Definitions from the paper's formulas: float64 NumPy, one patch at a time."""

from __future__ import annotations

import numpy as np


def cosines(reference, target):
    f, g = (np.asarray(x, np.float64) for x in (reference, target))
    f, g = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (f, g))
    return np.array([[sum(a * b for a, b in zip(r, t, strict=True)) for t in g] for r in f])


def softmax(logits, valid=None):
    shares = np.exp(logits - logits.max())
    if valid is not None:
        shares = shares * np.asarray(valid)
    return shares / shares.sum()


def shares_of(weights, count):
    weights = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    return weights / weights.sum()


def geometric(reference, target, temperature, weights=None, valid=None):
    """The normalised product of every reference's softmax to the power of its weight."""
    similarity = cosines(reference, target)
    product = np.ones(similarity.shape[1])
    for row, share in zip(similarity, shares_of(weights, len(similarity)), strict=True):
        product *= softmax(row / temperature, valid) ** share
    return product / product.sum()


def arithmetic(reference, target, temperature, weights=None, valid=None):
    similarity = cosines(reference, target)
    total = np.zeros(similarity.shape[1])
    for row, share in zip(similarity, shares_of(weights, len(similarity)), strict=True):
        total += share * softmax(row / temperature, valid)
    return total


def kernel_sums(reference, target, temperature, weights=None):
    """For every target patch, the references' weighted kernel."""
    similarity = cosines(reference, target)
    return shares_of(weights, len(similarity)) @ np.exp(similarity / temperature)
