"""Random draws on PASCAL-5i and COCO-20i as the public code of VRP-SAM makes them.

That code draws episodes one after another from two global generators, Python's and NumPy's legacy one, and
seeds both with 321 before each evaluation. ProSAM names the same seed, and has no public code. Here all
episodes of a seed are drawn at once, by the same calls on generators of their own; one episode is then a
look-up. They are those of an evaluation in one process with masks as annotations: on several processes each
draws from the start, and other annotations consume random numbers between episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax.data.episodes import (
    ClassLists,
    Episode,
    OfLists,
    Sample,
    Sampling,
    check_episode,
    checksum,
)

PUBLISHED_SEED = 321
"""What the published code seeds both generators with. Seed ``s`` of an evaluation stands for ``321 + s``, so
that seed 0 is the published one."""

EPISODES = 1000
"""Episodes of a published evaluation."""


class Draws(Protocol):
    """How a data set draws. Compares by value and can be pickled."""

    @property
    def digest(self) -> str:
        """Checksum of what it draws from besides the lists; empty for nothing."""

    def __call__(self, lists: ClassLists, shots: int, seed: int) -> tuple[Episode, ...]:
        """All episodes for a seed of the generators, in order."""


@dataclass(frozen=True, kw_only=True)
class PublishedEpisodes(OfLists):
    """The episodes of an evaluation as the published code draws them; an :class:`EpisodeSet`.

    Attributes:
        lists: The pictures of each class.
        shots: References for each target.
        draws: How the data set draws.

    Raises:
        InputError: ``shots`` is below 1, or a class has too few pictures.
    """

    lists: ClassLists
    shots: int
    draws: Draws
    _drawn: dict[int, tuple[Episode, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        self.lists.check_shots(self.shots, repeated=True)

    @property
    def sampling(self) -> Sampling:
        """How references are drawn."""
        return "published"

    @property
    def digest(self) -> str:
        """That of the lists and of the draws."""
        own = self.draws.digest
        return checksum([self.lists.digest, own]) if own else self.lists.digest

    def __len__(self) -> int:
        return EPISODES

    def episode(self, seed: int, index: int) -> Episode:
        """See :meth:`softmatch_jax.data.episodes.EpisodeSet.episode`; ``seed`` as :data:`PUBLISHED_SEED`."""
        check_episode(self, seed, index)
        if PUBLISHED_SEED + seed >= 2**32:
            raise InputError(f"seed is {seed}; expected at most {2**32 - 1 - PUBLISHED_SEED}.")
        if seed not in self._drawn:
            self._drawn[seed] = self.draws(self.lists, self.shots, PUBLISHED_SEED + seed)
        return self._drawn[seed][index]


def pick(stream: np.random.RandomState, count: int) -> int:
    """One of ``count`` positions, drawn as ``numpy.random.choice(..., 1, replace=False)`` draws.

    NumPy shuffles all positions for it, and consumes random numbers for each of them.
    """
    return int(stream.choice(count, 1, replace=False)[0])


def pick_references(
    stream: np.random.RandomState, samples: Sequence[Sample], target: Sample, shots: int
) -> tuple[Sample, ...]:
    """``shots`` of ``samples``, each drawn again while it is the target; one may repeat another."""
    drawn: list[Sample] = []
    while len(drawn) < shots:
        sample = samples[pick(stream, len(samples))]
        if sample.name != target.name:
            drawn.append(sample)
    return tuple(drawn)
