"""From the scores of episodes to those of a run.

The names of the metrics, the same everywhere:

``miou``
    Mean over the classes of their sum of intersections over their sum of unions: the figure in the tables of
    the few-shot papers. A union is at least 1, so a class of empty masks that stayed empty has 0 here.
``fb_iou``
    Mean of two such ratios, of the object and of the background, each with its sums over all classes.
``mean_iou``
    Mean over the episodes of the IoU of each: small objects weigh as much as large ones.
``boundary_iou``
    As ``miou``, of the inner bands (:mod:`softmatch_jax.evaluation.boundaries`).
``boundary_f``
    Mean over the episodes of the F measure of the outlines.

The last two are there only when every episode has its boundaries. Classes without an episode are left out;
the published code would count them as 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from softmatch_jax._checks import InputError
from softmatch_jax.evaluation.boundaries import BoundaryCounts
from softmatch_jax.evaluation.counting import Counts

_EXACT = 2**32
"""Scores from 0 to 1 are added up as whole multiples of its inverse: exactly, in any order and grouping."""


@dataclass(frozen=True, kw_only=True)
class EpisodeScore:
    """How an episode went.

    Attributes:
        seed: Of the draw of references.
        index: Of the episode in its set.
        class_name: The class that was asked for.
        target: Name of the picture that was segmented.
        counts: Its pixels.
        boundary: Along its outlines; ``None`` where not measured.
    """

    seed: int
    index: int
    class_name: str
    target: str
    counts: Counts
    boundary: BoundaryCounts | None = None


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """How a class went.

    Attributes:
        episodes: Number of its episodes.
        counts: Sums of pixels over them.
        iou: Sum of intersections over sum of unions, the class's part of ``miou``.
        mean_iou: Mean over its episodes.
        boundary_iou: The same of the inner bands; ``None`` where not measured.
        boundary_f: Mean over its episodes; ``None`` where not measured.
    """

    episodes: int
    counts: Counts
    iou: float
    mean_iou: float
    boundary_iou: float | None
    boundary_f: float | None


class PooledScores:
    """Running sums of a stream of episodes: a few numbers for each class, however many episodes there are.

    Those of shards are merged with ``+``. The sums are exact, so neither the order of the episodes nor how
    they were cut into shards changes a bit of the result.
    """

    def __init__(self, scores: Iterable[EpisodeScore] = ()) -> None:
        # For each class: tp, fp, fn, tn, episodes, ious, bands' intersection and union, fs, bounded episodes.
        self._sums: dict[str, list[int]] = {}
        for score in scores:
            self.add(score)

    def add(self, score: EpisodeScore) -> None:
        """Adds an episode."""
        bands = (0, 0, 0, 0)
        if (boundary := score.boundary) is not None:
            bands = (boundary.intersection, boundary.union, round(boundary.f * _EXACT), 1)
        self._add(score.class_name, (*score.counts, 1, round(score.counts.iou * _EXACT), *bands))

    def __add__(self, other: PooledScores) -> PooledScores:
        merged = PooledScores()
        for part in (self, other):
            for name, sums in part._sums.items():
                merged._add(name, sums)
        return merged

    def _add(self, name: str, sums: Iterable[int]) -> None:
        known = self._sums.get(name, [0] * 10)
        # NumPy's integers are made Python's own, which do not overflow.
        self._sums[name] = [a + int(b) for a, b in zip(known, sums, strict=True)]

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return sum(sums[4] for sums in self._sums.values())

    @property
    def counts(self) -> Counts:
        """Sums of pixels over all episodes."""
        return sum((Counts(*sums[:4]) for sums in self._sums.values()), Counts())

    def metrics(self) -> dict[str, float]:
        """The metrics of the run, see the top of this module.

        Raises:
            InputError: There is no episode yet.
        """
        if not self._sums:
            raise InputError("There is no episode to score; expected at least one (run some first).")
        return {name: float(value) for name, value in metrics_of(self._columns(*sorted(self._sums))).items()}

    def by_class(self) -> dict[str, ClassScore]:
        """The classes by name, in alphabetical order."""
        table = {}
        for name in sorted(self._sums):
            of_class = metrics_of(self._columns(name))
            table[name] = ClassScore(
                episodes=self._sums[name][4],
                counts=Counts(*self._sums[name][:4]),
                iou=float(of_class["miou"]),
                mean_iou=float(of_class["mean_iou"]),
                boundary_iou=float(of_class["boundary_iou"]) if "boundary_iou" in of_class else None,
                boundary_f=float(of_class["boundary_f"]) if "boundary_f" in of_class else None,
            )
        return table

    def _columns(self, *names: str) -> Float[np.ndarray, "classes columns"]:
        rows = [self._sums[name] for name in names]
        bounded = all(row[4] == row[9] for row in rows)
        exact = (1, 1, 1, 1, 1, _EXACT, 1, 1, _EXACT)[: 9 if bounded else 6]
        return np.array([[a / unit for a, unit in zip(row, exact, strict=False)] for row in rows])


def columns_of(
    counts: Float[np.ndarray, "n 4"], boundary: Float[np.ndarray, "n 6"] | None
) -> Float[np.ndarray, "n columns"]:
    """Returns what is to be added up of each episode for :func:`metrics_of`, 9 columns or 6."""
    tp, union = counts[:, 0], counts[:, :3].sum(axis=1)
    columns = [*counts.T, np.ones(len(counts)), _exact(_ratio(tp, union, empty=1))]
    if boundary is not None:
        columns += [boundary[:, 0], boundary[:, 1], _exact(_f(*boundary[:, 2:].T))]
    return np.stack(columns, axis=1).astype(np.float64)


def metrics_of(sums: Float[np.ndarray, "... classes columns"]) -> dict[str, Float[np.ndarray, ...]]:
    """Returns the metrics for sums over the episodes of each class; the only place of their formulas.

    Args:
        sums: For each class those of tp, fp, fn, tn, 1, IoU, and, if measured, the intersection and the union
            of bands and F. Leading axes are kept.
    """
    tp, fp, fn, tn, episodes, iou, *bounded = np.moveaxis(sums, -1, 0)
    union = tp + fp + fn
    object_iou = _ratio(tp.sum(axis=-1), union.sum(axis=-1), empty=0)
    background_iou = _ratio(tn.sum(axis=-1), (tn + fp + fn).sum(axis=-1), empty=0)
    metrics = {
        "miou": _ratio(tp, union, empty=0).mean(axis=-1),
        "fb_iou": (object_iou + background_iou) / 2,
        "mean_iou": iou.sum(axis=-1) / episodes.sum(axis=-1),
    }
    if bounded:
        intersection, band, f = bounded
        metrics["boundary_iou"] = _ratio(intersection, band, empty=0).mean(axis=-1)
        metrics["boundary_f"] = f.sum(axis=-1) / episodes.sum(axis=-1)
    return metrics


def _exact(scores: np.ndarray) -> np.ndarray:
    return np.round(scores * _EXACT) / _EXACT


def _ratio(part: np.ndarray, whole: np.ndarray, *, empty: float) -> np.ndarray:
    # Not max(whole, 1): resampled sums are weighted, and need not be whole numbers.
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), empty)


def _f(found: np.ndarray, found_near: np.ndarray, truth: np.ndarray, truth_near: np.ndarray) -> np.ndarray:
    both = (found > 0) & (truth > 0)
    precision, recall = _ratio(found_near, found, empty=1), _ratio(truth_near, truth, empty=1)
    mean = _ratio(2 * precision * recall, precision + recall, empty=0)
    return np.where(both, mean, (found == truth).astype(np.float64))
