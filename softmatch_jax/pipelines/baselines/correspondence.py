"""Patches assigned forth and back, and prompts sampled from the matches (Matcher, arXiv 2305.13310, §3.2)."""

from __future__ import annotations

from functools import partial
from itertools import chain, combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from softmatch_jax.prompting import Clusters, kmeans

MAX_ITERATIONS = 100
"""Limit for Lloyd's iteration, as published."""


class Matches(NamedTuple):
    """Patches of the target with a partner on the object.

    Attributes:
        places: ``int [m]``, the target's patches, each once.
        similarity: ``[m]``, cosine to the partner.
    """

    places: Int[np.ndarray, " m"]
    similarity: Float[np.ndarray, " m"]


def match_patches(similarity: Float[np.ndarray, "N T"], on_object: Bool[np.ndarray, " N"]) -> Matches:
    """Assigns object patches to target patches, and keeps those that are assigned back to the object.

    On the way back every patch of the references may be a partner. If no match survives, all of the way
    forth are kept.

    Args:
        similarity: ``[N, T]``, cosine of each patch of the references with each of the target.
        on_object: ``[N]``, patches of the object, at least one.
    """
    inside = np.flatnonzero(on_object)
    rows, places = linear_sum_assignment(similarity[inside], maximize=True)
    cosine = similarity[inside[rows], places]
    _, partners = linear_sum_assignment(similarity[:, places].T, maximize=True)
    back = on_object[partners]
    return Matches(places[back], cosine[back]) if back.any() else Matches(places, cosine)


def trim(matches: Matches, keep: int) -> Matches:
    """The better half by similarity where there are more than ``keep``; else all."""
    count = len(matches.places)
    best = np.argsort(-matches.similarity, kind="stable")[: count // 2 if count > keep else count]
    return Matches(matches.places[best], matches.similarity[best])


@partial(jax.jit, static_argnames="k")
def _clusters(points: Array, valid: Array, key: jax.Array, *, k: int) -> Clusters:
    return kmeans(points, k, key=key, valid=valid, max_iterations=MAX_ITERATIONS)


def centres_of(points: Float[np.ndarray, "m 2"], k: int, *, key: jax.Array) -> Float[np.ndarray, "c 2"]:
    """At most ``k`` k-means centres of points.

    Args:
        points: At least one.
        k: Most centres; all points stand for themselves where there are no more of them.
        key: Random key.
    """
    if len(points) <= k:
        return points
    # Padded to a power of two, so that targets share programs; invalid points change nothing.
    bucket = 1 << (len(points) - 1).bit_length()
    padded = np.zeros((bucket, 2), np.float32)
    padded[: len(points)] = points
    found = jax.device_get(_clusters(jnp.asarray(padded), np.arange(bucket) < len(points), key, k=k))
    centres: np.ndarray = found.centres[found.valid]
    return centres


def subsets(count: int, sizes: tuple[int, int]) -> list[tuple[int, ...]]:
    """All subsets of ``count`` points whose size is in ``sizes``, both ends included.

    Sizes beyond the number of points are taken for it, so that few points are one subset.
    """
    least, most = (min(size, count) for size in sizes)
    return list(chain.from_iterable(combinations(range(count), size) for size in range(least, most + 1)))
