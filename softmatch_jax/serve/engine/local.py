"""The engine of one machine: one thread owns the models and runs all that is asked of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any, Protocol

from softmatch_jax.serve.engine.queue import (
    AHEAD,
    COMPLETION,
    MATCHING,
    ClosedError,
    Job,
    RequestQueue,
)
from softmatch_jax.serve.engine.requests import (
    Completed,
    Completion,
    EngineInfo,
    Matched,
    Matching,
    Models,
    Picture,
)

_LOG = logging.getLogger(__name__)

LOADING = EngineInfo(backend="loading", model="", texts=False)
"""What an engine is before its models are there."""


class Engine(Protocol):
    """Answers requests in the background; every method may be called from any thread and returns at once."""

    @property
    def info(self) -> EngineInfo:
        """What the models are; :data:`LOADING` until they are made."""

    @property
    def ready(self) -> bool:
        """Whether the models are made and warm."""

    def submit_completion(self, request: Completion, *, deadline: float | None = None) -> Future[Completed]:
        """Asks for what prompts mean.

        Args:
            request: The question.
            deadline: Seconds from now; what was not begun by then ends with a ``TimeoutError``.

        Raises:
            FullError: Too much is waiting.
            ClosedError: The engine was closed.
        """

    def submit_matching(
        self, request: Matching, *, priority: int = MATCHING, deadline: float | None = None
    ) -> Future[Matched]:
        """Asks for the classes on a target; ``priority`` 1 is for the picture on view, 2 for others.

        Raises:
            FullError: Too much is waiting.
            ClosedError: The engine was closed.
        """

    def submit_encode(self, picture: Picture, *, priority: int = AHEAD) -> Future[None]:
        """Encodes a picture ahead of need.

        Raises:
            FullError: Too much is waiting.
            ClosedError: The engine was closed.
        """

    def load(self) -> Mapping[str, float]:
        """Figures: depth, capacity, busy, completions, matchings, encodings, failures, turns."""

    def close(self) -> None:
        """Ends what runs and cancels what waits."""


class Submitting:
    """Puts requests into a queue: what all engines have in common."""

    def __init__(self, queue: RequestQueue) -> None:
        """Takes the queue."""
        self._queue = queue
        self._lock = threading.Lock()
        self._done = dict.fromkeys(("completions", "matchings", "encodings", "failures"), 0)
        self._busy = 0

    def submit_completion(self, request: Completion, *, deadline: float | None = None) -> Future[Completed]:
        """See :class:`Engine`."""
        return self._submit(Job(kind="completion", request=request, priority=COMPLETION), deadline)

    def submit_matching(
        self, request: Matching, *, priority: int = MATCHING, deadline: float | None = None
    ) -> Future[Matched]:
        """See :class:`Engine`."""
        group = request.examples.digest, request.seed
        return self._submit(Job(kind="matching", request=request, priority=priority, group=group), deadline)

    def submit_encode(self, picture: Picture, *, priority: int = AHEAD) -> Future[None]:
        """See :class:`Engine`."""
        return self._submit(Job(kind="encode", request=picture, priority=priority), None)

    def load(self) -> Mapping[str, float]:
        """See :class:`Engine`."""
        queue = self._queue
        return {"depth": len(queue), "capacity": queue.capacity, "busy": self._busy, **self._done}

    def _submit(self, job: Job, deadline: float | None) -> Future[Any]:
        job.deadline = None if deadline is None else time.monotonic() + deadline
        self._queue.put(job)
        return job.future

    def _finish(self, job: Job, answer: Any, started: float) -> None:
        """Hands an answer, or the exception in its place, to who waits."""
        self._queue.done(time.monotonic() - started)
        name = {"completion": "completions", "matching": "matchings", "encode": "encodings"}[job.kind]
        with self._lock:
            self._done[name] += 1
            failed = isinstance(answer, BaseException) and not isinstance(answer, CancelledError)
            self._done["failures"] += failed
        if isinstance(answer, BaseException):
            job.future.set_exception(answer)
        else:
            job.future.set_result(answer)


class LocalEngine(Submitting):
    """An :class:`Engine` in this process.

    The models get one matching at a time, and between its stages whatever is more urgent, so that a
    completion waits for one stage at most; a matching that nobody waits for any more is broken off there.
    Matchings with the same examples follow each other, for which the models keep what they share.
    """

    def __init__(self, make: Callable[[], Models], *, capacity: int = 256, batch: int = 8) -> None:
        """Starts the thread, which makes the models.

        Args:
            make: Called once, in the thread.
            capacity: Most requests that wait.
            batch: Most matchings with the same examples before others get their turn.

        Raises:
            InputError: A number is not positive.
        """
        super().__init__(RequestQueue(capacity=capacity, turn=batch))
        self._models: Models | None = None
        self._warm = False
        self._error: Exception | None = None
        # A daemon: a call into a model cannot be broken off, and must not keep the process.
        self._thread = threading.Thread(target=self._work, args=(make,), name="models", daemon=True)
        self._thread.start()

    @property
    def info(self) -> EngineInfo:
        """See :class:`Engine`."""
        return LOADING if self._models is None else self._models.info

    @property
    def ready(self) -> bool:
        """See :class:`Engine`."""
        return self._warm and self._thread.is_alive()

    @property
    def error(self) -> Exception | None:
        """Why the models could not be made."""
        return self._error

    def close(self, timeout: float = 5.0) -> None:
        """Cancels what waits, and waits for what runs, but no longer than ``timeout`` seconds."""
        for job in self._queue.close():
            if not job.future.cancel():
                continue
            job.future.set_running_or_notify_cancel()
        self._warm = False
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _work(self, make: Callable[[], Models]) -> None:
        try:
            models = make()
            self._models = models
            models.warm_up()
            self._warm = True
        except Exception as error:
            _LOG.exception("The models could not be made.")
            self._error = error
        while (job := self._queue.take()) is not None:
            self._busy = 1
            self._run(job)
            self._busy = 0

    def _run(self, job: Job) -> None:
        started = time.monotonic()
        answer = self._error or _answer(self._models, job, lambda: self._between(job))
        self._finish(job, answer, started)

    def _between(self, job: Job) -> None:
        """Does what is more urgent than a job at work, and breaks that off if nobody waits for it."""
        while (urgent := self._queue.take(0, before=job.priority)) is not None:
            self._run(urgent)
        if job.future.unwanted:
            raise CancelledError
        if self._queue.closed:
            raise ClosedError("The engine was closed in the middle of a matching.")


def _answer(models: Models | None, job: Job, between: Callable[[], None]) -> Any:
    """What the models say, or the exception they raise."""
    if models is None:
        return ClosedError("There are no models.")
    try:
        if job.kind == "completion":
            return models.complete(job.request)
        if job.kind == "matching":
            return models.match([job.request], between=between)[0]
        return models.encode(job.request)
    except Exception as error:
        if not isinstance(error, ValueError):
            _LOG.exception("A %s failed.", job.kind)
        return error
