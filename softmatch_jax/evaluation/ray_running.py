"""The loop over episodes, spread over the workers of Ray; the run's folder holds the truth.

Each worker appends to a file of its own in the run's folder, which all must see. A worker that is lost takes
nothing with it but the episode it was at, and the one in its place passes over what is recorded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from softmatch_jax._checks import InputError
from softmatch_jax.evaluation.ray_pool import MOST_LIVES, work_on_ray
from softmatch_jax.evaluation.records import FOLDER, EpisodeRecord, RecordWriter, finished, read_records
from softmatch_jax.evaluation.run_file import RUN, first_difference, read_run
from softmatch_jax.evaluation.running import (
    EvaluationProtocol,
    Place,
    answer,
    made_with,
    read_episode,
    record_of,
)
from softmatch_jax.evaluation.segmenter import Segmenter


def run_on_ray(
    recipe: Callable[[], Segmenter],
    protocol: EvaluationProtocol,
    places: Sequence[Place],
    root: Path,
    *,
    workers: int,
    address: str | None = None,
    gpus_per_worker: float = 0.0,
    step: Callable[[EpisodeRecord], None] = lambda record: None,
) -> None:
    """Answers episodes and records them, as :func:`~softmatch_jax.evaluation.running.run_episodes` does.

    The records are the same, the order in which they come is not. An episode that takes several workers with
    it is recorded as failed.

    Args:
        recipe: Makes the method, once in each worker; can be pickled.
        protocol: What is asked.
        places: Which episodes.
        root: The run's folder, on a disk that all workers share.
        workers: Number of processes.
        address: The cluster's; ``None`` for processes on this machine.
        gpus_per_worker: GPUs, or a share of one, for each process.
        step: Called here after each episode.

    Raises:
        InputError: Ray is not installed or cannot be reached, the folder cannot be written, or the recipe
            cannot be followed where a worker is.
    """
    make = partial(_EpisodeWorker, recipe, protocol, tuple(places), root.absolute())
    answers = work_on_ray(
        make,
        len(places),
        notes=root / FOLDER,
        workers=workers,
        address=address,
        gpus_per_worker=gpus_per_worker,
    )
    with closing(answers):
        for record in answers:
            step(record)


def _check_same(root: Path, here: Mapping[str, Any]) -> None:
    """Checks that a worker makes the records of the run in the folder, where it is one."""
    if not (root / RUN).is_file():
        return
    difference = first_difference(read_run(root), json.loads(json.dumps(here)))
    if difference is not None:
        raise InputError(
            f"A worker of Ray would make other records than {root} holds: {difference}; expected the same "
            "version, models and data on all machines."
        )


class _EpisodeWorker:
    """Answers the episodes at ``places``, by their number there."""

    def __init__(
        self,
        recipe: Callable[[], Segmenter],
        protocol: EvaluationProtocol,
        places: Sequence[Place],
        root: Path,
    ) -> None:
        self._segmenter, self._protocol = recipe(), protocol
        _check_same(root, made_with(protocol, self._segmenter))
        self._places, self._root = places, root
        self._writer = RecordWriter(root)
        self._finished = finished(root)

    def __call__(self, item: int) -> EpisodeRecord:
        place = self._places[item]
        earlier = self._earlier(place) if place in self._finished else None
        if earlier is not None:
            return earlier
        prepared = read_episode(self._protocol, place)
        return self._kept(answer(self._protocol, self._segmenter, place, prepared, self._root))

    def give_up(self, item: int) -> EpisodeRecord:
        record = record_of(self._protocol, self._places[item])
        return self._kept(record(error=f"its worker was lost {MOST_LIVES} times (out of memory perhaps)"))

    def _kept(self, record: EpisodeRecord) -> EpisodeRecord:
        self._writer.write(record)
        if record.error is None:
            self._finished.add(record.place)
        return record

    def _earlier(self, place: Place) -> EpisodeRecord | None:
        """The record of an episode that came again; rare, so that reading all of them is cheap."""
        known = (record for record in read_records(self._root) if record.place == place)
        return next((record for record in known if record.error is None), None)
