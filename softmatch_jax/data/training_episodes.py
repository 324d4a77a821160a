"""The endless stream of episodes that a prompt encoder is trained on (VRP-SAM, ProSAM §5.1)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax.data.episodes import (
    AnnotatedPicture,
    ClassLists,
    Episode,
    OfLists,
    Sampling,
    checksum,
)
from softmatch_jax.data.pascal_coco_draws import PUBLISHED_SEED

_Places: TypeAlias = tuple[tuple[str, int], ...]
"""The classes that a picture is listed under, and its place in each list."""

_T = TypeVar("_T")

_ORDER, _DRAW = 0x6F726472, 0x64726177  # set the two streams apart from each other and from those of others


class TrainingDraws(Protocol):
    """How published code draws an epoch. Compares by value and can be pickled."""

    @property
    def digest(self) -> str:
        """Checksum of what it draws from besides the lists; empty for nothing."""

    def __call__(self, lists: ClassLists, shots: int, seed: int, count: int) -> tuple[Episode, ...]:
        """The first ``count`` episodes for a seed of the generators, in order."""


@dataclass(frozen=True)
class TrainingEpisodes(OfLists):
    """Epochs one after another, each with as many episodes as there are pictures in the lists.

    ``corrected``: every picture is a target once in each epoch, in an order of that epoch alone; the class is
    uniform among those it is listed under, and the reference among the other pictures of the class.

    ``published``: as VRP-SAM's code in one process, which seeds its generators with ``321 + epoch``: the
    draws of the data set, from the start of the list. Seed ``s`` stands for ``321 + s``. (That code with
    several processes gives PASCAL one fixed shuffle for all epochs, and every process the same pairs of
    COCO.) An epoch of COCO-20i takes some seconds to draw.

    Attributes:
        lists: The pictures of each base class.
        draws: How published code draws; ``None`` for ``corrected``.

    Raises:
        InputError: There is no class, one has a single picture or the same twice.
    """

    lists: ClassLists
    draws: TrainingDraws | None = None
    _pictures: tuple[_Places, ...] = field(init=False, repr=False, compare=False)
    _epochs: dict[int, tuple[Episode, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        self.lists.check_shots(1, repeated=True)
        object.__setattr__(self, "_pictures", _by_picture(self.lists))

    @property
    def sampling(self) -> Sampling:
        """Which of the two ways."""
        return "corrected" if self.draws is None else "published"

    @property
    def shots(self) -> int:
        """References of each episode: 1."""
        return 1

    @property
    def digest(self) -> str:
        """Checksum of all that decides the episodes for a seed, wherever files lie."""
        drawn = "" if self.draws is None else self.draws.digest
        return checksum([self.lists.digest, self.sampling, drawn])

    def __len__(self) -> int:
        """Number of pictures, which is the episodes of an epoch; the stream has no end."""
        return len(self._pictures)

    def episode(self, seed: int, index: int, attempt: int = 0) -> Episode:
        """The episode at ``index`` of the stream: a pure function of its arguments.

        Args:
            seed: Of the training.
            index: From 0; episode ``len(self)`` is the first of the second epoch.
            attempt: 0, or how often the episode was drawn already and found to be of no use. Other attempts
                draw any target, whatever the sampling.

        Raises:
            InputError: A number is negative, or too large for the published generators.
        """
        for name, value in (("seed", seed), ("index", index), ("attempt", attempt)):
            if value < 0:
                raise InputError(f"{name} is {value}; expected 0 or more.")
        if self.draws is not None and attempt == 0:
            return self._published(seed, index)
        rng = _generator(_DRAW, seed, index, attempt)
        epoch, place = divmod(index, len(self))
        target = int(rng.integers(len(self))) if attempt else int(_order(seed, epoch, len(self))[place])
        places = self._pictures[target]
        name, own = places[int(rng.integers(len(places)))]
        samples = self.lists.samples[name]
        other = int(rng.integers(len(samples) - 1))
        reference = samples[other + (other >= own)]
        return Episode(index=index, class_name=name, target=samples[own], references=(reference,))

    def _published(self, seed: int, index: int) -> Episode:
        epoch, place = divmod(index, len(self))
        number = PUBLISHED_SEED + seed + epoch
        if number >= 2**32:
            raise InputError(
                f"seed {seed} and epoch {epoch} are too large; expected a sum below 2**32 - 321."
            )
        drawn = self._epochs.get(number)
        if drawn is None:
            assert self.draws is not None
            drawn = self.draws(self.lists, 1, number, len(self))
            # Two, since workers that read ahead may be in the next epoch already.
            for old in list(self._epochs)[:-1]:
                self._epochs.pop(old, None)
            self._epochs[number] = drawn
        return Episode(
            index=index,
            class_name=drawn[place].class_name,
            target=drawn[place].target,
            references=drawn[place].references,
        )


@dataclass(frozen=True, eq=False)
class ReadEpisode:
    """An episode in memory.

    Attributes:
        episode: What was read.
        target: Its target.
        reference: Its first reference.
    """

    episode: Episode
    target: AnnotatedPicture
    reference: AnnotatedPicture


def read_shown(episode: Episode) -> ReadEpisode | None:
    """Reads an episode; ``None`` where target or reference shows no pixel of the class.

    Raises:
        InputError: A file cannot be read or is not as expected.
    """
    reference = episode.references[0].read()
    if not reference.truth.mask.any():
        return None
    target = episode.target.read()
    return ReadEpisode(episode, target, reference) if target.truth.mask.any() else None


def first_usable(
    episodes: TrainingEpisodes,
    seed: int,
    index: int,
    read: Callable[[Episode], _T | None],
    *,
    tries: int = 16,
) -> _T:
    """What ``read`` makes of the episode at ``index``, or of the next attempt at it that is of use.

    A pure function where ``read`` is one, so that a training that goes on after a stop draws the same again.

    Args:
        episodes: The stream.
        seed: Of the training.
        index: In the stream.
        read: Returns ``None`` for an episode of no use; :func:`read_shown`, or what also prepares it.
        tries: Attempts, at least 1.

    Raises:
        InputError: No attempt was of use; or as ``read`` does.
    """
    if tries < 1:
        raise InputError(f"tries is {tries}; expected at least 1.")
    for attempt in range(tries):
        episode = episodes.episode(seed, index, attempt)
        made = read(episode)
        if made is not None:
            return made
    raise InputError(
        f"{tries} episodes drawn from {episodes.name} show no pixel of the class that they ask for, last "
        f"{episode.class_name!r} in {episode.target.name} with {episode.references[0].name}; check the "
        "masks, or leave out small objects (min_area)."
    )


def _by_picture(lists: ClassLists) -> tuple[_Places, ...]:
    """For each picture, by name, the classes that it is listed under."""
    places: dict[str, dict[str, int]] = {}
    for name, samples in lists.samples.items():
        for place, sample in enumerate(samples):
            if places.setdefault(sample.name, {}).setdefault(name, place) != place:
                raise InputError(
                    f"The class {name!r} of {lists.name} lists the picture {sample.name!r} twice; list each "
                    "picture once."
                )
    return tuple(tuple(places[picture].items()) for picture in sorted(places))


@functools.lru_cache(maxsize=8)
def _order(seed: int, epoch: int, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The order of the targets of an epoch."""
    return _generator(_ORDER, seed, epoch).permutation(count)


def _generator(stream: int, *numbers: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(list(numbers), spawn_key=(stream,)))
