"""The scores of episodes as columns of numbers, for statistics over all of them at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from softmatch_jax._checks import InputError
from softmatch_jax.evaluation.pooling import EpisodeScore, columns_of, metrics_of


@dataclass(frozen=True, eq=False, kw_only=True)
class EpisodeTable:
    """``n`` episodes, in the order of seed and index: about 150 bytes for each.

    A *unit* is a target picture as one of a class. All its episodes, of whatever seed, share what is hard
    about it: they are not independent, units are.

    Attributes:
        classes: Names of the ``C`` classes, in alphabetical order.
        targets: Name of the target of each of the ``U`` units, which are in the order of class and target.
        unit_class: ``int [U]``, the class of each unit.
        seed: ``int [n]``.
        index: ``int [n]``, of the episode in its set.
        class_index: ``int [n]``, into ``classes``.
        unit: ``int [n]``, into ``targets``.
        counts: ``int64 [n, 4]``: tp, fp, fn, tn.
        iou: ``float64 [n]``.
        boundary: ``int64 [n, 6]``, the fields of ``BoundaryCounts``; ``None`` unless every episode has them.
    """

    classes: tuple[str, ...]
    targets: tuple[str, ...]
    unit_class: Int[np.ndarray, " U"]
    seed: Int[np.ndarray, " n"]
    index: Int[np.ndarray, " n"]
    class_index: Int[np.ndarray, " n"]
    unit: Int[np.ndarray, " n"]
    counts: Int[np.ndarray, "n 4"]
    iou: Float[np.ndarray, " n"]
    boundary: Int[np.ndarray, "n 6"] | None

    @classmethod
    def of(cls, scores: Iterable[EpisodeScore]) -> EpisodeTable:
        """Makes a table of scores in any order.

        Raises:
            InputError: There is none, or two are of one episode.
        """
        rows = sorted(scores, key=lambda score: (score.seed, score.index))
        _check(rows)
        classes = sorted({row.class_name for row in rows})
        units = sorted({(row.class_name, row.target) for row in rows})
        of_class = {name: i for i, name in enumerate(classes)}
        of_unit = {unit: i for i, unit in enumerate(units)}
        bounds = [row.boundary for row in rows if row.boundary is not None]
        return cls(
            classes=tuple(classes),
            targets=tuple(target for _, target in units),
            unit_class=np.array([of_class[name] for name, _ in units]),
            seed=np.array([row.seed for row in rows]),
            index=np.array([row.index for row in rows]),
            class_index=np.array([of_class[row.class_name] for row in rows]),
            unit=np.array([of_unit[row.class_name, row.target] for row in rows]),
            counts=np.array([row.counts for row in rows], np.int64),
            iou=np.array([row.counts.iou for row in rows]),
            boundary=np.array(bounds, np.int64) if len(bounds) == len(rows) else None,
        )

    def __len__(self) -> int:
        return len(self.seed)

    def class_sums(self, among: np.ndarray | slice = slice(None)) -> Float[np.ndarray, "C columns"]:
        """Returns the sums of each class for ``metrics_of``, over all episodes or some of them."""
        return _sums(self._columns[among], self.class_index[among], len(self.classes))

    def unit_sums(self) -> Float[np.ndarray, "U columns"]:
        """Returns the sums of each unit for ``metrics_of``."""
        return _sums(self._columns, self.unit, len(self.targets))

    def metrics(self) -> dict[str, float]:
        """The metrics of all episodes, see :mod:`softmatch_jax.evaluation.pooling`."""
        return {name: float(value) for name, value in metrics_of(self.class_sums()).items()}

    @property
    def _columns(self) -> Float[np.ndarray, "n columns"]:
        return columns_of(self.counts, self.boundary)


def _check(rows: list[EpisodeScore]) -> None:
    if not rows:
        raise InputError("There is no episode to score; expected at least one (run some first).")
    (key, times), *_ = Counter((row.seed, row.index) for row in rows).most_common(1)
    if times > 1:
        raise InputError(
            f"The episode at index {key[1]} of seed {key[0]} is there {times} times; expected once "
            "(leave out the repeated rows)."
        )


def _sums(
    columns: Float[np.ndarray, "n columns"], group: Int[np.ndarray, " n"], groups: int
) -> Float[np.ndarray, "groups columns"]:
    sums = [np.bincount(group, column, groups) for column in columns.T]
    return np.stack(sums, axis=1)
