"""Batches made ahead, in threads of their own, and handed out in the order of the steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Makes what the next steps need while the current one runs.

    Args:
        make: From the number of a step to its batch, in any thread and any order.
        first: Number of the first step.
        last: Number after that of the last step.
        workers: Threads.
        ahead: How many batches are made or in the making ahead of need.
    """

    def __init__(self, make: Callable[[int], T], first: int, last: int, *, workers: int, ahead: int) -> None:
        self._make = make
        self._steps = iter(range(first, last))
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
        self._coming: deque[Future[T]] = deque()
        for _ in range(ahead):
            self._ask()

    def next(self) -> T:
        """The batch of the next step; waits until it is there. What went wrong in making it is raised here.

        Raises:
            StopIteration: The last step is through.
        """
        if not self._coming:
            raise StopIteration
        batch = self._coming.popleft().result()
        self._ask()
        return batch

    def __enter__(self) -> Prefetcher[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forgets the batches that were asked for and ends the threads, once they are done with theirs."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._coming.clear()

    def _ask(self) -> None:
        step = next(self._steps, None)
        if step is not None:
            self._coming.append(self._pool.submit(self._make, step))
