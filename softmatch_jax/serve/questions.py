"""What the engine was asked and has not answered yet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from softmatch_jax._checks import InputError
from softmatch_jax.serve.asking import Asking, ExampleSet, failed_found, failed_mask
from softmatch_jax.serve.config import ConductorConfig
from softmatch_jax.serve.engine.queue import AHEAD, MATCHING, ON_VIEW, ClosedError, FullError
from softmatch_jax.serve.project.documents import Document, ImageDocument
from softmatch_jax.serve.project.errors import ReadOnlyError

if TYPE_CHECKING:
    from softmatch_jax.serve.engine.local import Engine
    from softmatch_jax.serve.project.state import State

_LOG = logging.getLogger(__name__)
Kind: TypeAlias = Literal["completion", "matching"]
Failures: TypeAlias = dict[str, Document]
"""Documents that say why something could not be asked, by key."""


@dataclass(eq=False, kw_only=True)
class Question:
    """A question that waits for its answer; ``key`` is that of the document it makes."""

    kind: Kind
    key: str
    basis: str
    future: Future[Any]
    priority: int = MATCHING


class Questions:
    """The questions that are open, at most one for each document. Not thread-safe: the conductor owns it.

    Args:
        engine: What is asked.
        asking: Makes the requests, and the documents of the answers.
        config: How many at a time.
        answered: Called from any thread with a question that has its answer.
        observe: Hears of every answer: its kind, seconds, whether it failed.
    """

    def __init__(
        self,
        engine: Engine,
        asking: Asking,
        config: ConductorConfig,
        answered: Callable[[Question], None],
        observe: Callable[[str, float, bool], None],
    ) -> None:
        self._engine, self._asking, self._config = engine, asking, config
        self._answered, self._observe = answered, observe
        self._open: dict[str, Question] = {}
        self._matchings: dict[str, Question] = {}
        self._encodings: set[Future[Any]] = set()

    def __len__(self) -> int:
        return len(self._open)

    def drop(self, wanted: Mapping[str, str]) -> None:
        """Forgets questions whose answer is no longer of use; those not begun are cancelled."""
        for key in [key for key, one in self._open.items() if wanted.get(key) != one.basis]:
            self._forget(key).future.cancel()

    def take(self, question: Question) -> Document | None:
        """Closes a question: the document that it makes, or None where the answer is of no use.

        Raises:
            ReadOnlyError: What it makes cannot be written now.
        """
        if self._open.get(question.key) is not question:
            return None
        self._forget(question.key)
        completion = question.kind == "completion"
        try:
            answer = question.future.result(0)
            make = self._asking.mask if completion else self._asking.found
            document: Document = make(question.basis, answer)
        except (CancelledError, ClosedError, FullError):
            return None
        except ReadOnlyError:
            # No fault of the picture, so no document says it: it is asked again.
            raise
        except Exception as error:
            self._observe(question.kind, 0.0, True)
            sentence = self._asking.told(_sentence(error))
            return (failed_mask if completion else failed_found)(question.basis, sentence)
        self._observe(question.kind, answer.seconds, False)
        return document

    def complete(self, state: State, masks: Mapping[tuple[str, str], str], view: str | None) -> Failures:
        """Asks for the masks of layers, by their basis: those on view at once, a few of the others.

        Those that have waited longest come first.

        Raises:
            FullError: The engine has no room for all of them now.
            ClosedError: It has ended.
        """
        failures: Failures = {}
        count = len(self._open) - len(self._matchings)
        for (iid, cid), basis in sorted(masks.items(), key=lambda item: item[0][0] != view):
            key = f"mask/{iid}/{cid}"
            if count >= self._config.ahead and iid != view:
                break
            if key in self._open:
                continue
            try:
                request = self._asking.completion(state, iid, cid)
            except InputError as error:
                failures[key] = failed_mask(basis, str(error))
                continue
            future = self._engine.submit_completion(request)
            count += 1
            self._ask(Question(kind="completion", key=key, basis=basis, future=future))
        return failures

    def match(self, state: State, found: Mapping[str, str], chosen: ExampleSet, view: str | None) -> Failures:
        """Asks for the findings on pictures, by their basis: the one on view at once, a few of the others.

        Raises:
            FullError: The engine has no room for all of them now.
            ClosedError: It has ended.
        """
        self._hurry(f"found/{view}")
        most = self._config.ahead
        needs_view = view in found and f"found/{view}" not in self._open
        # Sorting thousands is not worth it for each that is done.
        if not needs_view and len(self._matchings) > most // 2:
            return {}
        failures: Failures = {}
        for iid in sorted(found, key=lambda iid: (iid != view, picture_order(state, iid))):
            key = f"found/{iid}"
            if len(self._matchings) >= most and iid != view:
                break
            if key in self._open:
                continue
            try:
                request = self._asking.matching(state, iid, chosen)
            except InputError as error:
                failures[key] = failed_found(found[iid], str(error))
                continue
            priority = ON_VIEW if iid == view else MATCHING
            future = self._engine.submit_matching(request, priority=priority)
            question = Question(kind="matching", key=key, basis=found[iid], future=future, priority=priority)
            self._matchings[key] = question
            self._ask(question)
        return failures

    def encode(self, state: State, pictures: list[str], view: str | None, done: Callable[[], None]) -> None:
        """Has pictures encoded that may be needed, and takes them off the list.

        The one on view is at once, others while nothing else is asked.

        Raises:
            FullError: The engine has no room for all of them now.
            ClosedError: It has ended.
        """
        self._encodings = {future for future in self._encodings if not future.done()}
        while pictures and len(self._encodings) < self._config.encode_ahead:
            if pictures[0] != view and self._open:
                return
            try:
                picture = self._asking.picture(state, pictures[0])
            except InputError:
                # Who asks for its mask is told.
                del pictures[0]
                continue
            priority = ON_VIEW if pictures[0] == view else AHEAD
            future = self._engine.submit_encode(picture, priority=priority)
            del pictures[0]
            self._encodings.add(future)
            future.add_done_callback(lambda _: done())

    def cancel(self) -> None:
        """Cancels all that is not begun."""
        for question in self._open.values():
            question.future.cancel()
        for future in self._encodings:
            future.cancel()

    def _hurry(self, key: str) -> None:
        """Takes back a matching that waits with the others, so that it is asked again as on view."""
        question = self._matchings.get(key)
        if question is not None and question.priority != ON_VIEW and question.future.cancel():
            self._forget(key)

    def _ask(self, question: Question) -> None:
        self._open[question.key] = question
        question.future.add_done_callback(lambda _: self._answered(question))

    def _forget(self, key: str) -> Question:
        self._matchings.pop(key, None)
        return self._open.pop(key)


def picture_order(state: State, iid: str) -> tuple[int, int]:
    """Sorts pictures as the gallery does."""
    document = state.get(f"image/{iid}")
    return (document.order if isinstance(document, ImageDocument) else 0), int(iid[1:])


def keys_of(masks: Iterable[tuple[tuple[str, str], str]], found: Mapping[str, str]) -> dict[str, str]:
    """Bases by the keys of documents."""
    wanted = {f"mask/{iid}/{cid}": basis for (iid, cid), basis in masks}
    return wanted | {f"found/{iid}": basis for iid, basis in found.items()}


def _sentence(error: Exception) -> str:
    """What a person is told of a failure."""
    if isinstance(error, InputError):
        return str(error)
    _LOG.error("The engine failed.", exc_info=error)
    return f"The engine failed ({type(error).__name__}: {error})."[:1000]
