"""Corrected sampling: every picture of every class is a target once, and no reference is drawn twice."""

from __future__ import annotations

import bisect
import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax.data.episodes import ClassLists, Episode, OfLists, Sample, Sampling, check_episode
from softmatch_jax.imaging import image_size


@dataclass(frozen=True)
class CorrectedEpisodes(OfLists):
    """The episodes of class lists: targets in the order of classes and pictures, the same for every seed.

    The references of a target depend on the seed, the name of the class, the place of the target in its list
    and the length of the list, and on nothing else: another class, or the order of classes, changes none of
    them. The references of fewer shots are the first of those of more.

    Attributes:
        lists: The pictures of each class.
        shots: References for each target.
        left_out: Names of pictures that are in no list because their truth is empty.

    Raises:
        InputError: ``shots`` is below 1, a class has too few pictures, or has one twice.
    """

    lists: ClassLists
    shots: int
    left_out: tuple[str, ...] = ()
    _ends: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.lists.check_shots(self.shots)
        for name, samples in self.lists.samples.items():
            _check_distinct(f"The class {name!r} of {self.lists.name}", samples)
        ends = itertools.accumulate(len(samples) for samples in self.lists.samples.values())
        object.__setattr__(self, "_ends", tuple(ends))

    @property
    def sampling(self) -> Sampling:
        """How references are drawn."""
        return "corrected"

    def __len__(self) -> int:
        return self._ends[-1]

    def episode(self, seed: int, index: int) -> Episode:
        """See :meth:`softmatch_jax.data.episodes.EpisodeSet.episode`."""
        check_episode(self, seed, index)
        position = bisect.bisect_right(self._ends, index)
        name = self.classes[position]
        samples = self.lists.samples[name]
        place = index - self._ends[position] + len(samples)
        stream = np.random.SeedSequence(
            seed, spawn_key=(zlib.crc32(name.encode(errors="surrogateescape")), place)
        )
        others = _draw(np.random.default_rng(stream), len(samples) - 1, self.shots)
        references = tuple(samples[other + (other >= place)] for other in others)
        return Episode(index=index, class_name=name, target=samples[place], references=references)


def leave_out_empty(lists: ClassLists) -> tuple[ClassLists, tuple[str, ...]]:
    """Takes pictures out whose truth is empty: without an object there is nothing to find or to learn from.

    Reads every truth of the lists once.

    Returns:
        The lists without them, and the names of the pictures taken out.

    Raises:
        InputError: A file cannot be read.
    """
    samples, empty = dict(lists.samples), []
    for name, pictures in lists.samples.items():
        shown = [sample.truth.read(image_size(sample.image)).mask.any() for sample in pictures]
        samples[name] = tuple(itertools.compress(pictures, shown))
        empty += [sample.name for sample, seen in zip(pictures, shown, strict=True) if not seen]
    return replace(lists, samples=samples), tuple(empty)


def _draw(rng: np.random.Generator, count: int, shots: int) -> list[int]:
    """Draws ``shots`` different numbers below ``count``: the first steps of a Fisher-Yates shuffle.

    Only the cells that the shuffle has touched are held, so the time does not grow with ``count``.
    """
    cells: dict[int, int] = {}
    drawn = []
    for i in range(shots):
        j = int(rng.integers(i, count))
        drawn.append(cells.get(j, j))
        cells[j] = cells.get(i, i)
    return drawn


def _check_distinct(owner: str, samples: Sequence[Sample]) -> None:
    """Raises ``InputError`` when a picture is listed twice: it could be the reference of itself."""
    seen: set[str] = set()
    for sample in samples:
        if sample.name in seen:
            raise InputError(f"{owner} lists the picture {sample.name!r} twice; list each picture once.")
        seen.add(sample.name)
