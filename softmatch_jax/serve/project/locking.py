"""One writer for a project at a time; the system gives the lock back however the process ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from softmatch_jax.serve.project.errors import ConflictError
from softmatch_jax.serve.project.failing import writing


class Lock:
    """The lock of a project's folder, held from here to `release`.

    Raises:
        ConflictError: Another process holds it, or this one already does.
        ReadOnlyError: The folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        with writing(folder):
            self._descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(self._descriptor)
        except OSError:
            os.close(self._descriptor)
            raise ConflictError(
                f"The project in {folder} is open in another softmatch; close that one first, or open it to "
                "read only."
            ) from None

    def release(self) -> None:
        """Gives it back."""
        os.close(self._descriptor)


def _take(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
