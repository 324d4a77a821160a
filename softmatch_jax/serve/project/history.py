"""What can be undone and redone: a fold over the log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Optional


class Stack(NamedTuple):
    """An immutable stack: the entry on top, what it did, and the rest."""

    seq: int
    do: str
    rest: Optional[Stack]  # noqa: UP045  (evaluated by NamedTuple)


@dataclass(frozen=True)
class History:
    """What can be undone, and what was undone since the last command."""

    done: Stack | None = None
    undone: Stack | None = None

    @property
    def undo(self) -> str | None:
        """``do`` of what undoing would undo."""
        return None if self.done is None else self.done.do

    @property
    def redo(self) -> str | None:
        """``do`` of what redoing would do again."""
        return None if self.undone is None else self.undone.do

    def after(self, seq: int, kind: str, do: str | None) -> History:
        """The history after an entry of the log; one that did nothing leaves it as it is."""
        if kind == "undo" and self.done is not None:
            return History(self.done.rest, Stack(self.done.seq, self.done.do, self.undone))
        if kind == "redo" and self.undone is not None:
            return History(Stack(self.undone.seq, self.undone.do, self.done), self.undone.rest)
        if do is None or kind not in ("command", "upload"):
            return self
        return History(Stack(seq, do, self.done), None)


def folded(rows: Iterable[tuple[int, str, str | None]]) -> History:
    """The history after entries ``(seq, kind, do)``."""
    history = History()
    for seq, kind, do in rows:
        history = history.after(seq, kind, do)
    return history
