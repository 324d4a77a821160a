"""What a mask generator is asked to decode (Softmatcher §3, step 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from softmatch_jax._checks import InputError, check_finite, check_shape
from softmatch_jax._clustering import Clusters


@dataclass(frozen=True, eq=False)
class Prompt:
    """Points, a box, or both, that together mean one object.

    Attributes:
        points: ``float32 [n, 2]`` positions ``(x, y)`` in the original picture.
        positive: ``bool [n]``, whether each point is on the object.
        box: ``(x0, y0, x1, y1)`` around the object, or None.
        logits: ``float32 [h, w]``, a row of ``Proposals.logits`` that this prompt is to correct, or None.

    Raises:
        InputError: if there is neither a point nor a box, or the shapes do not fit.
    """

    points: Float[np.ndarray, "n 2"]
    positive: Bool[np.ndarray, " n"]
    box: tuple[float, float, float, float] | None = None
    logits: Float[np.ndarray, "h w"] | None = None

    def __post_init__(self) -> None:
        check_shape("Prompt.points", self.points, (None, 2), "n points (x, y)")
        check_shape("Prompt.positive", self.positive, (len(self.points),), "one for each point")
        check_finite("Prompt.points", self.points, "expected (x, y) positions in pixels.")
        if len(self.points) == 0 and self.box is None:
            raise InputError("Prompt has neither a point nor a box; expected at least one of them.")
        object.__setattr__(self, "points", np.asarray(self.points, dtype=np.float32))
        object.__setattr__(self, "positive", np.asarray(self.positive, dtype=np.bool_))


def prompts_from_clusters(points_xy: ArrayLike, clusters: Clusters) -> tuple[Prompt, ...]:
    """Makes one prompt for each valid cluster: its points, all positive (Softmatcher §3, Fig. 1).

    Args:
        points_xy: ``[n, 2]`` the points that were grouped, ``(x, y)`` in the original picture.
        clusters: the result of `kmeans` on these points (in whatever space they were grouped).

    Returns:
        The prompts, in the order of the clusters.

    Raises:
        InputError: if there is not one point for each entry of ``clusters.assignment``.
    """
    points = np.asarray(points_xy, dtype=np.float32)
    assignment = np.asarray(clusters.assignment)
    check_shape("points_xy", points, (len(assignment), 2), "one (x, y) for each grouped point")
    groups = (points[assignment == index] for index in np.flatnonzero(np.asarray(clusters.valid)))
    return tuple(Prompt(group, np.ones(len(group), dtype=np.bool_)) for group in groups)


def prompts_from_points(points_xy: ArrayLike) -> tuple[Prompt, ...]:
    """Makes a prompt of each point, positive.

    Args:
        points_xy: ``[n, 2]``, ``(x, y)`` in the original picture.
    """
    points = np.asarray(points_xy, dtype=np.float32).reshape(-1, 1, 2)
    return tuple(Prompt(point, np.ones(1, dtype=np.bool_)) for point in points)
