"""Definitions of the methods, float64 NumPy, one patch at a time; and how tests call them all alike."""

from __future__ import annotations

import jax
import matching_oracles as oracles
import numpy as np
import pytest

from softmatch_jax import matching

TEMPERATURE = 0.5
HEAVY = ("cumulant", "random_features", "sinkhorn")
"""Methods that take seconds to compile: once per law by default, in all its variants with ``-m slow``."""


def heavy_are_slow(names=tuple(matching.METHODS)):
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in HEAVY)) for name in names]


def settings_of(name):
    """The method's settings; few random features, so that sums over them round little."""
    return matching.RandomFeatures(count=64) if name == "random_features" else matching.METHODS[name]


def drawn(method, temperature=TEMPERATURE):
    """What ``prepare`` needs for methods that draw random numbers."""
    return {"key": jax.random.key(3), "temperature": temperature} if method.needs_key else {}


def match(method, reference, target, *, temperature=TEMPERATURE, **options):
    """``matching.match``, with a key where one is needed."""
    method = settings_of(method) if isinstance(method, str) else method
    key = {"key": jax.random.key(3)} if method.needs_key else {}
    return matching.match(reference, target, method=method, temperature=temperature, **key, **options)


def prepare(method, reference, **options):
    method = settings_of(method) if isinstance(method, str) else method
    return matching.prepare(reference, method=method, **drawn(method), **options)


def probability(result):
    return np.exp(np.asarray(result.log_probability, np.float64))


def total_variation(p, q):
    return 0.5 * np.abs(np.asarray(p, np.float64) - np.asarray(q, np.float64)).sum(axis=-1)


def log_softmax(logits):
    return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())


def geometric_of(logits, weights=None):
    """The normalised geometric mean of the softmaxes of every row."""
    shares = oracles.shares_of(weights, len(logits))
    return oracles.softmax(sum(share * log_softmax(row) for share, row in zip(shares, logits, strict=True)))


def quadratic(reference, target, temperature, weights=None):
    similarity = oracles.cosines(reference, target)
    return geometric_of(-((1 - similarity) ** 2) / temperature, weights)


def cumulant(reference, target, temperature):
    """References as one Gaussian: the formula at the top of the module, by a symmetric root."""
    f, g = (np.asarray(x, np.float64) for x in (reference, target))
    f, g = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (f, g))
    mean = f.mean(axis=0)
    values, vectors = np.linalg.eigh((f - mean).T @ (f - mean) / len(f))
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    tilt = oracles.softmax(g @ mean / temperature)
    centred = g - tilt @ g
    spread = centred.T * tilt @ centred
    inverse = np.linalg.inv(np.eye(len(mean)) + root @ spread @ root / temperature**2)
    quadratic_forms = [y @ root @ inverse @ root @ y for y in centred]
    return oracles.softmax(g @ mean / temperature + np.array(quadratic_forms) / (2 * temperature**2))


def bidirectional(reference, target, temperature, weights):
    """Mean over object rows of the forward log-softmax plus the reverse one over all rows."""
    logits = oracles.cosines(reference, target) / temperature
    score = np.zeros(logits.shape[1])
    for r, share in enumerate(oracles.shares_of(weights, len(logits))):
        forward = log_softmax(logits[r])
        for t in range(logits.shape[1]):
            score[t] += share * (forward[t] + log_softmax(logits[:, t])[r])
    return oracles.softmax(score)
