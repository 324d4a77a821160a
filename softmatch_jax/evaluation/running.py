"""The loop over episodes: read ahead, segment, count, record."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np
import PIL.Image

from softmatch_jax import __version__
from softmatch_jax._checks import InputError, check_positive
from softmatch_jax._types import Mask, Size
from softmatch_jax.data.episodes import EpisodeSet
from softmatch_jax.evaluation.boundaries import count_boundaries
from softmatch_jax.evaluation.counting import count
from softmatch_jax.evaluation.preparing import Annotates, Prepared, prepare
from softmatch_jax.evaluation.records import EpisodeRecord, RecordWriter
from softmatch_jax.evaluation.run_file import MASKS
from softmatch_jax.evaluation.segmenter import Segmenter

Place: TypeAlias = tuple[int, int]
"""``(seed, index)`` of an episode."""

NOTHING_SAID = "no reference tells the object from the rest: its annotation marks nothing, or everything"


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol:
    """What is asked, of whichever method. Can be pickled.

    Attributes:
        episodes: The set of episodes.
        annotate: How references are annotated.
        raster: ``(H, W)`` that all pictures are squashed to, or ``None``.
    """

    episodes: EpisodeSet
    annotate: Annotates
    raster: Size | None = None


def made_with(protocol: EvaluationProtocol, segmenter: Segmenter) -> dict[str, Any]:
    """All that decides the records of a run, the episodes that were asked for aside."""
    episodes = protocol.episodes
    return {
        "softmatch": __version__,
        "data": episodes.name,
        "sampling": episodes.sampling,
        "shots": episodes.shots,
        "set_size": len(episodes),
        "lists": episodes.digest,
        "raster": None if protocol.raster is None else list(protocol.raster),
        "annotation": protocol.annotate.name,
        "method": segmenter.name,
        "settings": dict(segmenter.settings),
    }


def choose_places(total: int, *, seeds: Sequence[int], episodes: int | None = None) -> list[Place]:
    """The episodes of a run: all, or so many spread evenly over the set, for every seed.

    Raises:
        InputError: ``episodes`` is not positive.
    """
    if episodes is None:
        chosen = range(total)
        return [(seed, index) for seed in seeds for index in chosen]
    check_positive("--episodes", episodes)
    number = min(episodes, total)
    return [(seed, index * total // number) for seed in seeds for index in range(number)]


def shard(places: Sequence[Place], number: int, of: int) -> list[Place]:
    """Every ``of``-th place from the ``number``-th on, counted from 1: the shares of all make the whole.

    Raises:
        InputError: ``number`` is not in ``1..of``.
    """
    if not 1 <= number <= of:
        raise InputError(f"--shard is {number}/{of}; expected i/n with i from 1 to n, such as 1/4.")
    return list(places[number - 1 :: of])


def run_episodes(
    protocol: EvaluationProtocol,
    segmenter: Segmenter,
    places: Iterable[Place],
    root: Path,
    *,
    workers: int = 2,
    step: Callable[[EpisodeRecord], None] = lambda record: None,
) -> None:
    """Answers episodes and records them, in their order; memory does not grow with their number.

    An episode whose files cannot be used is recorded as failed, and does not stop the others.

    Args:
        protocol: What is asked.
        segmenter: Who answers.
        places: Which episodes.
        root: The run's folder.
        workers: Threads that read ahead. They change nothing but the time.
        step: Called after each episode.

    Raises:
        InputError: The folder cannot be written, or ``workers`` is not positive.
    """
    check_positive("--workers", workers)
    with RecordWriter(root) as writer:
        for place, prepared in _read_ahead(protocol, places, workers):
            record = answer(protocol, segmenter, place, prepared, root)
            writer.write(record)
            step(record)


def _read_ahead(
    protocol: EvaluationProtocol, places: Iterable[Place], workers: int
) -> Iterator[tuple[Place, Prepared | InputError]]:
    """Episodes in their order, ``workers`` of them being read while one is answered."""
    read = partial(read_episode, protocol)
    waiting: deque[tuple[Place, Future[Prepared | InputError]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="episode") as pool:
        try:
            for place in places:
                waiting.append((place, pool.submit(read, place)))
                if len(waiting) > workers:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def read_episode(protocol: EvaluationProtocol, place: Place) -> Prepared | InputError:
    """Reads an episode, or says why its files cannot be used."""
    seed, index = place
    try:
        return prepare(protocol.episodes, protocol.annotate, raster=protocol.raster, seed=seed, index=index)
    except InputError as error:
        return error


def record_of(protocol: EvaluationProtocol, place: Place) -> partial[EpisodeRecord]:
    """Makes the record of an episode, given what became of it."""
    seed, index = place
    episode = protocol.episodes.episode(seed, index)
    return partial(
        EpisodeRecord,
        seed=seed,
        index=index,
        class_name=episode.class_name,
        target=episode.target.name,
        references=tuple(sample.name for sample in episode.references),
    )


def answer(
    protocol: EvaluationProtocol,
    segmenter: Segmenter,
    place: Place,
    prepared: Prepared | InputError,
    root: Path,
) -> EpisodeRecord:
    """Asks the method, compares its answer with the truth, and keeps its mask.

    Raises:
        InputError: The run's folder cannot be written.
    """
    record = record_of(protocol, place)
    if isinstance(prepared, InputError):
        return record(error=str(prepared))
    truth, started = prepared.target.truth, time.perf_counter()
    key = jax.random.fold_in(jax.random.key(place[0]), place[1])
    if prepared.references:
        try:
            found = segmenter(prepared.target.image, prepared.references, key=key)
        except InputError as error:
            return record(error=str(error), seconds=time.perf_counter() - started)
        mask, absent, reason = found.mask, found.absent, found.reason
    else:
        mask, absent, reason = np.zeros_like(truth.mask), True, NOTHING_SAID
    seconds = time.perf_counter() - started
    keep_mask(root, place, mask)
    return record(
        counts=tuple(count(mask, truth.mask, truth.void)),
        boundary=tuple(count_boundaries(mask, truth.mask, truth.void)),
        absent=absent,
        reason=reason,
        seconds=round(seconds, 6),
    )


def mask_file(root: Path, place: Place) -> Path:
    """Where the mask of an episode is kept."""
    return root / MASKS / f"seed{place[0]}" / f"{place[1]:06d}.png"


def keep_mask(root: Path, place: Place, mask: Mask) -> None:
    """Writes a mask, one bit a pixel.

    It is not forced to the disk: the record written after it says that it is whole, and a mask lost with the
    machine costs a tile of a contact sheet.

    Raises:
        InputError: It cannot be written.
    """
    path = mask_file(root, place)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(mask).save(path, "PNG", compress_level=1)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); check the disk's free space, then give the same "
            "command with --resume."
        ) from None
