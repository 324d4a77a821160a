"""What the pipelines return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Int32

from softmatch_jax._checks import InputError
from softmatch_jax._types import IndexedMask, Map, Mask, Size
from softmatch_jax.models import Proposals


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One separate object.

    Attributes:
        score: Mean probability over the object, in ``[0, 1]``.
        area: Number of pixels.
        box: ``(x0, y0, x1, y1)`` in pixels; the object lies within ``x0 <= x < x1``.
        centroid: ``(x, y)`` mean of the pixel centres.
    """

    score: float
    area: int
    box: tuple[int, int, int, int]
    centroid: tuple[float, float]


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassSegmentation:
    """What was found of one class in one target.

    Attributes:
        name: Class name.
        index: Its value in the indexed mask, from 1.
        mask: ``bool [H, W]``; empty when the class is absent.
        instances: Separate objects, best first.
        instance_labels: ``int32 [H, W]``; pixel value ``i`` belongs to ``instances[i - 1]``.
        match_map: ``float32 [H, W]``, probability that a pixel is on the object, after matching and
            before mask proposals; with ProSAM the pseudo mask, a likeness in ``[0, 1]``.
        confidence: ``float32 [H, W]`` in ``[0, 1]``, how sure it is that a pixel is on the object, after mask
            proposals: the best proposal's trust times the certainty of its outline; with ProSAM the mean
            probability over the masks that were merged. Also given where the class is absent and the mask
            therefore empty.
        log_evidence: Log of the mean unnormalised match, from the match map; with ProSAM of its mean.
        resemblance: How much the find looks like the references: 1 alike, 0 no more than the
            surroundings do, or where nothing was found.
        points: ``float32 [n, 2]``, points ``(x, y)`` sampled from the match map.
        clusters: ``int32 [n]``, the cluster, and so the prompt, of each point.
        proposals: All decoded masks, those discarded included.
        kept: ``int [k]``, which of them stayed, best first.
        absent: Whether the object seems not to be in the target.
        reason: Why it seems absent, or None.
        uncertainty: ``float32 [H, W]`` in ``[0, 1]``, how far the masks of sampled prompts disagree about a
            pixel, see :class:`~softmatch_jax.models.prosam.strategies.Disagreement`; None without samples.
        disagreement: The same of the whole mask, in ``[0, 1]``; None without samples.
    """

    name: str
    index: int
    mask: Mask
    instances: tuple[Instance, ...]
    instance_labels: Int32[np.ndarray, "H W"]
    match_map: Map
    confidence: Map
    log_evidence: float
    resemblance: float
    points: Float[np.ndarray, "n 2"]
    clusters: Int32[np.ndarray, " n"]
    proposals: Proposals
    kept: Int[np.ndarray, " k"]
    absent: bool
    reason: str | None = None
    uncertainty: Map | None = None
    disagreement: float | None = None

    @property
    def score(self) -> float:
        """Mean probability over the mask, 0 when it is empty."""
        return float(self.match_map[self.mask].mean()) if self.mask.any() else 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Segmentation:
    """The segmentation of one target.

    Attributes:
        image_size: ``(H, W)`` of the target.
        classes: One entry per class, in the order of their index.
        labels: ``uint8 [H, W]``, the class index of each pixel, 0 for background; no overlaps.
        timings: Seconds spent in each stage: references, encode, match, sample, decode, merge, verify,
            assemble.
    """

    image_size: Size
    classes: tuple[ClassSegmentation, ...]
    labels: IndexedMask
    timings: Mapping[str, float]

    def __getitem__(self, name: str) -> ClassSegmentation:
        """The class called ``name``.

        Raises:
            InputError: There is no such class.
        """
        for entry in self.classes:
            if entry.name == name:
                return entry
        known = ", ".join(repr(entry.name) for entry in self.classes)
        raise InputError(f"No class {name!r} in this segmentation; expected one of {known}.")

    @property
    def absent(self) -> bool:
        """Whether no class was found."""
        return all(entry.absent for entry in self.classes)
