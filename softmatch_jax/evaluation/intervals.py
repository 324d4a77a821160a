"""How far the metrics of a run would move with other target pictures, and how far they move with the seed.

Target pictures are drawn anew within each class, and all episodes of a picture, whatever their seed, move
together. An interval is to cover what the metric would be on average over sets with as many pictures of each
class. What it does not cover:

- The choice of the classes, which stay.
- With one seed, the draw of the references; it shows in the spread over seeds.
- The metric of endlessly many pictures: ``miou`` and ``boundary_iou`` depend a little on how many there are,
  as ratios of sums do. So they do in the papers.

With few classes of few pictures it is too short, as any bootstrap: 95 % may be 90 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from softmatch_jax._checks import InputError
from softmatch_jax.evaluation.pooling import metrics_of
from softmatch_jax.evaluation.table import EpisodeTable

_BLOCK = 2_000_000  # numbers held at a time

Statistics: TypeAlias = Callable[[Float[np.ndarray, "... classes columns"]], Mapping[str, np.ndarray]]
"""From sums of each class to named values, over leading axes."""


class Interval(NamedTuple):
    """A value and where it might have been.

    Attributes:
        value: Of the run itself.
        low: Lower end of the interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


class Spread(NamedTuple):
    """A metric over the seeds of a run.

    Attributes:
        mean: Of the metric of each seed.
        deviation: Their standard deviation (of a sample); ``None`` with one seed.
        seeds: Their number.
    """

    mean: float
    deviation: float | None
    seeds: int


def bootstrap(
    table: EpisodeTable, *, level: float = 0.95, replicates: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """Returns an interval within 0 and 1 for each metric of a run, of all its seeds together.

    Args:
        table: The episodes.
        level: How often such an interval is to cover the average over other sets of pictures, see above.
        replicates: Number of draws.
        seed: Of the draws.

    Raises:
        InputError: ``level`` is not between 0 and 1, ``replicates`` below 1 or ``seed`` negative.
    """
    sums, unit_class = table.unit_sums(), table.unit_class
    found = resampled(metrics_of, sums, unit_class, level=level, replicates=replicates, seed=seed)
    return {
        name: Interval(value, max(low, 0.0), min(high, 1.0)) for name, (value, low, high) in found.items()
    }


def spread(table: EpisodeTable) -> dict[str, Spread]:
    """Returns mean and standard deviation over the seeds of each metric."""
    seeds = np.unique(table.seed)
    runs = [metrics_of(_present(table.class_sums(table.seed == seed))) for seed in seeds]
    result = {}
    for name in runs[0]:
        values = np.array([run[name] for run in runs])
        deviation = float(values.std(ddof=1)) if len(values) > 1 else None
        result[name] = Spread(float(values.mean()), deviation, len(values))
    return result


def resampled(
    statistics: Statistics,
    sums: Float[np.ndarray, "U columns"],
    unit_class: Int[np.ndarray, " U"],
    *,
    level: float,
    replicates: int,
    seed: int,
) -> dict[str, Interval]:
    """Returns bootstrap intervals of statistics of sums over the units of each class.

    Of the ``n`` units of a class ``n - 1`` are drawn with repetition, each with weight ``n / (n - 1)``: with
    ``n`` draws the few pictures of a class would vary too little, by ``(n - 1) / n`` (Rao and Wu 1988). A
    class with a single unit tells nothing about how units vary, and stays as it is.

    The ends are percentiles of the draws, moved so that their mean is the value. A ratio of sums over few
    pictures has a bias, and the draws have it twice; a mean over hundreds of classes varies too little to
    hide it, and plain percentiles would miss even the value itself.

    Args:
        statistics: From the sums of the classes, ``[..., C, columns]``, to values ``[...]``.
        sums: Of each unit, in the order of the classes.
        unit_class: The class of each unit, in order, none skipped.
        level: See :func:`bootstrap`.
        replicates: See :func:`bootstrap`.
        seed: See :func:`bootstrap`.

    Raises:
        InputError: See :func:`bootstrap`.
    """
    _check(level, replicates, seed)
    starts = np.flatnonzero(np.diff(unit_class, prepend=-1))
    rng = np.random.default_rng(seed)
    parts = [statistics(block) for block in _draws(sums, starts, replicates, rng)]
    intervals = {}
    for name, value in statistics(np.add.reduceat(sums, starts, axis=0)).items():
        moves = np.concatenate([part[name] for part in parts])
        low, high = value + np.quantile(moves - moves.mean(), [(1 - level) / 2, (1 + level) / 2])
        intervals[name] = Interval(float(value), float(low), float(high))
    return intervals


def _draws(
    sums: Float[np.ndarray, "U columns"],
    starts: Int[np.ndarray, " C"],
    replicates: int,
    rng: np.random.Generator,
) -> Iterator[Float[np.ndarray, "block C columns"]]:
    """Yields the sums of the classes for drawn units, some draws at a time."""
    classes = np.split(sums, starts[1:])
    largest = max(len(classes) * sums.shape[1], *map(len, classes))
    block = max(1, _BLOCK // largest)
    for start in range(0, replicates, block):
        size = min(block, replicates - start)
        drawn = np.empty((size, len(classes), sums.shape[1]))
        for i, units in enumerate(classes):
            number = len(units)
            # Whole numbers times exact ones: no library or number of threads changes a bit of the sums.
            drawn[:, i] = _times(number, size, rng) @ units * (number / max(number - 1, 1))
        yield drawn


def _times(units: int, draws: int, rng: np.random.Generator) -> Float[np.ndarray, "draws units"]:
    """Returns how often each unit is drawn."""
    if units == 1:
        return np.ones((draws, 1))
    chosen = rng.integers(units, size=(draws, units - 1)) + units * np.arange(draws)[:, None]
    return np.bincount(chosen.ravel(), minlength=draws * units).reshape(draws, units).astype(np.float64)


def _present(sums: Float[np.ndarray, "C columns"]) -> Float[np.ndarray, "some columns"]:
    return sums[sums[:, 4] > 0]  # a random draw of episodes may miss a class


def _check(level: float, replicates: int, seed: int) -> None:
    if not 0 < level < 1:
        raise InputError(f"level is {level}; expected between 0 and 1, such as 0.95.")
    if replicates < 1:
        raise InputError(f"replicates is {replicates}; expected at least 1, and for an interval some 1000.")
    if seed < 0:
        raise InputError(f"seed is {seed}; expected 0 or more.")
