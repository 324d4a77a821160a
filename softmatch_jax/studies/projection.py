"""High-dimensional points on a plane, for figures: t-SNE of scikit-learn, or principal components."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from softmatch_jax._checks import InputError, check_finite, check_rank
from softmatch_jax.studies.descent_config import ProjectionChoice

_PERPLEXITY = 30.0  # scikit-learn's default, and that of van der Maaten and Hinton's examples


class Projected(NamedTuple):
    """Points on a plane.

    Attributes:
        method: What brought them there.
        points: ``[n, 2]``.
    """

    method: Literal["t-SNE", "PCA"]
    points: Float[np.ndarray, "n 2"]


def project(points: Float[np.ndarray, "n d"], choice: ProjectionChoice, *, seed: int) -> Projected:
    """Brings points to a plane.

    Args:
        points: At least 3 of them.
        choice: ``tsne``, ``pca``, or ``auto`` for t-SNE where scikit-learn is installed, and else PCA.
        seed: Of t-SNE.

    Raises:
        InputError: There are fewer than 3 points, one is not finite, or scikit-learn is asked for and not
            installed.
    """
    check_rank("points", points, 2, "points, dimensions")
    check_finite("points", points, "expected finite numbers (lower the learning rate).")
    if len(points) < 3:
        raise InputError(f"There are {len(points)} points to project; expected at least 3.")
    if choice == "pca" or (choice == "auto" and importlib.util.find_spec("sklearn") is None):
        return Projected("PCA", principal_components(points))
    return Projected("t-SNE", _tsne(points, seed))


def principal_components(points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n 2"]:
    """The coordinates along the two directions of greatest variance, each up to its sign."""
    centred = np.asarray(points, np.float64) - np.mean(points, axis=0, dtype=np.float64)
    # Of the products of points, since dimensions are far more than points.
    values, vectors = np.linalg.eigh(centred @ centred.T)
    longest = np.argsort(values)[::-1][:2]
    return vectors[:, longest] * np.sqrt(np.maximum(values[longest], 0))


def _tsne(points: Float[np.ndarray, "n d"], seed: int) -> Float[np.ndarray, "n 2"]:
    try:
        manifold = importlib.import_module("sklearn.manifold")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "sklearn":
            raise
        raise InputError(
            "The package scikit-learn is not installed, which t-SNE needs; install it with "
            "pip install scikit-learn, or choose the projection 'pca'."
        ) from None
    # As many neighbours as there are others is the most that it can have.
    perplexity = min(_PERPLEXITY, (len(points) - 1) / 3)
    tsne = manifold.TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=seed)
    return np.asarray(tsne.fit_transform(np.asarray(points, np.float32)), np.float64)
