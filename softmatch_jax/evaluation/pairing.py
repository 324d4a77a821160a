"""Two runs over the same episodes, compared episode by episode.

Most of what makes one episode harder than another is the same for both runs and drops out of their
difference: it is known far better than either score. Differences are those of the second run minus the first:
above 0, the second is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from softmatch_jax._checks import InputError
from softmatch_jax.evaluation.intervals import Interval, resampled
from softmatch_jax.evaluation.pooling import metrics_of
from softmatch_jax.evaluation.table import EpisodeTable

_BLOCK = 2_000_000  # numbers held at a time


@dataclass(frozen=True, kw_only=True)
class Change:
    """An episode that went otherwise in the second run.

    Attributes:
        seed: Of the episode.
        index: Of the episode.
        class_name: The class that was asked for.
        target: Name of the picture.
        before: IoU in the first run.
        after: IoU in the second.
    """

    seed: int
    index: int
    class_name: str
    target: str
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The second run against the first.

    Attributes:
        differences: Of each metric that both have, with its interval.
        p_value: Of the mean difference over the targets, were the runs interchangeable.
        wins: Targets where the second run has the greater IoU, by more than the tolerance.
        ties: Targets where neither has.
        losses: Targets where the first has.
        by_class: For each class the difference of its pooled IoU.
        changes: The episodes that changed most, first the greatest change either way.
    """

    differences: Mapping[str, Interval]
    p_value: float
    wins: int
    ties: int
    losses: int
    by_class: Mapping[str, float]
    changes: tuple[Change, ...]


def compare(
    a: EpisodeTable,
    b: EpisodeTable,
    *,
    level: float = 0.95,
    replicates: int = 2000,
    flips: int = 10_000,
    tolerance: float = 0.01,
    most: int = 10,
    seed: int = 0,
) -> Comparison:
    """Compares two runs over the same episodes, matched by seed and index.

    Intervals are those of :func:`~softmatch_jax.evaluation.intervals.bootstrap`, with the same pictures drawn
    for both runs. The p value is of a permutation test: were the runs interchangeable, each target's
    difference of mean IoU could as well have the other sign. It is the share of random signs, the true ones
    among them, whose mean is as far from 0.

    Args:
        a: The first run.
        b: The second run.
        level: Of the intervals.
        replicates: Draws of the intervals.
        flips: Random signs of the test.
        tolerance: Of a tie, in IoU.
        most: Greatest number of changes to list; episodes that did not change are never among them.
        seed: Of the draws and the signs.

    Raises:
        InputError: The runs do not share their episodes, or a number is out of range.
    """
    _check_shared(a, b)
    if flips < 1 or most < 0 or tolerance < 0:
        raise InputError(
            f"flips is {flips}, most {most} and tolerance {tolerance}; expected at least 1, 0 and 0."
        )
    first, second = a.unit_sums(), b.unit_sums()
    width = min(first.shape[1], second.shape[1])  # boundaries may be missing from one
    differences = resampled(
        _difference,
        np.concatenate([first[:, :width], second[:, :width]], axis=1),
        a.unit_class,
        level=level,
        replicates=replicates,
        seed=seed,
    )
    # Sums of scores are of multiples of 2**-32; anything smaller is no difference.
    gain = np.round(second[:, 5] / second[:, 4] - first[:, 5] / first[:, 4], 9)
    return Comparison(
        differences=differences,
        p_value=_sign_flips(gain, flips, np.random.default_rng(seed)),
        wins=int(np.count_nonzero(gain > tolerance)),
        ties=int(np.count_nonzero(np.abs(gain) <= tolerance)),
        losses=int(np.count_nonzero(gain < -tolerance)),
        by_class=_by_class(a, b),
        changes=_changes(a, b, most),
    )


def _difference(sums: Float[np.ndarray, "... C both"]) -> dict[str, np.ndarray]:
    before, after = (metrics_of(half) for half in np.split(sums, 2, axis=-1))
    return {name: after[name] - before[name] for name in before}


def _sign_flips(gain: Float[np.ndarray, " U"], flips: int, rng: np.random.Generator) -> float:
    """Returns the p value of the mean being this far from 0 when every sign is as likely as the other."""
    # Sums in another order differ in their last digits, and equal ones are to count.
    limit = abs(gain.sum()) - 1e-9 * np.abs(gain).sum()
    block = max(1, _BLOCK // len(gain))
    beyond = 0
    for start in range(0, flips, block):
        signs = 2.0 * rng.integers(2, size=(min(block, flips - start), len(gain)), dtype=np.int8) - 1
        beyond += int(np.count_nonzero(np.abs(signs @ gain) >= limit))
    return (1 + beyond) / (1 + flips)


def _by_class(a: EpisodeTable, b: EpisodeTable) -> dict[str, float]:
    gains = _difference(np.concatenate([a.class_sums()[:, None, :6], b.class_sums()[:, None, :6]], axis=2))
    return dict(zip(a.classes, gains["miou"].tolist(), strict=True))


def _changes(a: EpisodeTable, b: EpisodeTable, most: int) -> tuple[Change, ...]:
    gain = np.abs(b.iou - a.iou)
    order = np.argsort(-gain, kind="stable")[:most]
    return tuple(
        Change(
            seed=int(a.seed[i]),
            index=int(a.index[i]),
            class_name=a.classes[a.class_index[i]],
            target=a.targets[a.unit[i]],
            before=float(a.iou[i]),
            after=float(b.iou[i]),
        )
        for i in order
        if gain[i] > 0
    )


def _check_shared(a: EpisodeTable, b: EpisodeTable) -> None:
    first, second = _episodes(a), _episodes(b)
    if first.keys() != second.keys():
        missing, extra = len(first.keys() - second.keys()), len(second.keys() - first.keys())
        raise InputError(
            f"The runs do not share their episodes: {missing} of the first are missing from the second, and "
            f"{extra} of the second from the first; expected the same seeds and indices (finish both runs)."
        )
    if first != second:
        seed, index = next(key for key in first if first[key] != second[key])
        one, other = (" in ".join(map(repr, run[seed, index])) for run in (first, second))
        raise InputError(
            f"The runs ask different questions: at index {index} of seed {seed} one has {one} and the other "
            f"{other}; expected runs over one set of episodes."
        )


def _episodes(table: EpisodeTable) -> dict[tuple[int, int], tuple[str, str]]:
    """Returns the class and the target of each seed and index."""
    questions = [
        (table.classes[i], table.targets[j]) for i, j in zip(table.class_index, table.unit, strict=True)
    ]
    return dict(zip(zip(table.seed.tolist(), table.index.tolist(), strict=True), questions, strict=True))
