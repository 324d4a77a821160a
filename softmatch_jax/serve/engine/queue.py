"""What waits for the models: bounded, urgent work first, with deadlines and cancellation."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

from softmatch_jax._checks import InputError, check_positive

Kind = Literal["completion", "matching", "encode"]

COMPLETION, ON_VIEW, MATCHING, AHEAD = range(4)
"""Priorities: a person waits for it; the picture on view; other targets; what may be needed later."""

LAST = AHEAD
"""The least urgent one."""


class FullError(InputError):
    """There is no room for more work; ``retry_after_s`` says when to ask again."""

    def __init__(self, depth: int, retry_after_s: float) -> None:
        """Says how much waits."""
        self.retry_after_s = retry_after_s
        super().__init__(
            f"{depth} requests are waiting, which is all that the engine takes; expected fewer at a time "
            f"(ask again in {retry_after_s:.0f} s)."
        )


class ClosedError(InputError):
    """The engine was closed before the work was done."""


class Answer(Future[Any]):
    """What a job will have led to.

    Attributes:
        unwanted: Nobody waits for it: it was cancelled when the work was begun already, which may then be
            broken off and end with a ``CancelledError``.
    """

    unwanted = False

    def cancel(self) -> bool:
        """Cancels what was not begun; whether it could."""
        cancelled = super().cancel()
        self.unwanted = True
        return cancelled


@dataclass(eq=False, kw_only=True)
class Job:
    """A piece of work and who waits for it.

    Attributes:
        kind: What is asked.
        request: The question.
        priority: Smaller goes first; equals go in the order in which they came.
        deadline: On the clock of ``time.monotonic``; what was not begun by then is not begun.
        group: Matchings of one group share what they are matched with.
        future: Where the answer goes.
    """

    kind: Kind
    request: Any
    priority: int
    deadline: float | None = None
    group: Hashable = None
    future: Answer = field(default_factory=Answer)


class RequestQueue:
    """Jobs by urgency; any thread may put and take.

    Among the most urgent, jobs of the group that was served last are preferred for ``turn`` of them in a row:
    what a group shares is prepared once, and no group waits for ever.
    """

    def __init__(self, *, capacity: int, turn: int) -> None:
        """Makes an empty queue.

        Raises:
            InputError: A number is not positive.
        """
        check_positive("capacity", capacity)
        check_positive("turn", turn)
        self.capacity, self.turn = capacity, turn
        self._waiting: OrderedDict[int, Job] = OrderedDict()
        self._changed = threading.Condition()
        self._count, self._row = 0, 0
        self._group: Hashable = None
        self._closed = False
        self._pace = 0.1  # seconds for a job, smoothed

    def put(self, job: Job) -> None:
        """Lets a job wait for its turn.

        Raises:
            FullError: There is no room. A completion may use an eighth more, lest background work lock a
                person out.
            ClosedError: The queue was closed.
        """
        with self._changed:
            if self._closed:
                raise ClosedError("The engine is closed; expected one that runs (start the server again).")
            room = self.capacity + (self.capacity // 8 + 1 if job.priority == COMPLETION else 0)
            if len(self._waiting) >= room:
                self._drop_cancelled()
            if len(self._waiting) >= room:
                raise FullError(len(self._waiting), max(1.0, round(len(self._waiting) * self._pace)))
            self._waiting[self._count] = job
            self._count += 1
            self._changed.notify()

    def take(self, timeout: float | None = None, *, before: int = LAST + 1) -> Job | None:
        """The next job, its future set running; None when closed, or when ``timeout`` seconds brought none.

        Jobs that were cancelled are left out, and those whose deadline has passed get a ``TimeoutError``.

        Args:
            timeout: None waits until there is one.
            before: Only what is more urgent than this priority.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._closed:
                job = self._next(before)
                if job is not None:
                    return job
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)
        return None

    def done(self, seconds: float) -> None:
        """Tells how long a job took, from which the time until there is room again is estimated."""
        self._pace += 0.1 * (seconds - self._pace)

    def close(self) -> list[Job]:
        """Ends the waiting of all who take; returns the jobs that were not begun."""
        with self._changed:
            self._closed = True
            left = list(self._waiting.values())
            self._waiting.clear()
            self._changed.notify_all()
        return left

    def __len__(self) -> int:
        """How many wait; among them may be some that were cancelled."""
        return len(self._waiting)

    @property
    def closed(self) -> bool:
        """Whether nothing more is taken or given."""
        return self._closed

    def _next(self, before: int) -> Job | None:
        while self._waiting:
            place = min(self._waiting, key=self._rank)
            if self._waiting[place].priority >= before:
                return None
            job = self._waiting.pop(place)
            if not job.future.set_running_or_notify_cancel():
                continue
            if job.deadline is not None and time.monotonic() > job.deadline:
                job.future.set_exception(TimeoutError("The request waited for longer than its deadline."))
                continue
            if job.kind == "matching":
                self._row = self._row % self.turn + 1 if job.group == self._group else 1
                self._group = job.group
            return job
        return None

    def _rank(self, place: int) -> tuple[int, bool, int]:
        """By urgency, then the group whose turn it is, then by age."""
        job = self._waiting[place]
        own = job.kind == "matching" and job.group == self._group and self._row < self.turn
        return job.priority, not own, place

    def _drop_cancelled(self) -> None:
        for place in [place for place, job in self._waiting.items() if job.future.cancelled()]:
            # Who waits on it is told only now.
            self._waiting.pop(place).future.set_running_or_notify_cancel()
