"""Waiting until a thread that follows the project has nothing left to do."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Quiet:
    """Lets others wait for a thread: each asks with a ticket, which the thread takes in with its messages."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._seq: int | None = None
        self._last, self._taken = 0, 0

    def ticket(self) -> int:
        """A new one, to be sent to the thread."""
        with self._changed:
            self._last += 1
            return self._last

    def take(self, ticket: int) -> None:
        """The thread has it, with all that was sent before."""
        self._taken = max(self._taken, ticket)

    def tell(self, seq: int | None) -> None:
        """Up to which entry of the log all is done; None while something is to be done."""
        with self._changed:
            self._seq = seq
            self._changed.notify_all()

    def wait(self, ticket: int, seq: Callable[[], int], timeout: float) -> bool:
        """Waits until all is done up to the newest entry, which ``seq`` gives.

        Returns:
            Whether that came about within ``timeout`` seconds.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._taken >= ticket and self._seq == seq(), timeout)
