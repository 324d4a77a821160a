"""One thread owns the models: answers, failures, and an end in bounded time."""

import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest

from softmatch_jax import InputError
from softmatch_jax.serve.engine.local import LOADING, LocalEngine
from softmatch_jax.serve.engine.queue import ClosedError, FullError
from softmatch_jax.serve.engine.requests import (
    Completed,
    Completion,
    EngineInfo,
    Examples,
    Matched,
    Matching,
    Picture,
)
from softmatch_jax.serve.project.documents import Point

LABELS = np.ones((2, 3), np.uint16)
INFO = EngineInfo(backend="fake", model="fake 1", texts=False)


def picture(name="a"):
    return Picture(name, Path(f"{name}.png"))


def completion(name="a"):
    return Completion(picture=picture(name), prompts=(Point(xy=(1, 1)),))


def matching(name="a", digest="d", seed=0):
    return Matching(
        picture=picture(name), examples=Examples(digest=digest, references=(), phrases={}), seed=seed
    )


class Fake:
    """Models that note what they do, and may be held up."""

    info = INFO

    def __init__(self):
        self.done, self.threads = [], set()
        self.begun, self.go = threading.Semaphore(0), threading.Event()
        self.go.set()

    def _note(self, what):
        self.threads.add(threading.get_ident())
        self.begun.release()
        assert self.go.wait(20)
        self.done.append(what)
        if "bad" in what[1]:
            raise InputError("This picture cannot be read.")

    def warm_up(self):
        self.threads.add(threading.get_ident())

    def encode(self, picture):
        self._note(("encode", picture.digest))

    def complete(self, request):
        self._note(("complete", request.picture.digest))
        return Completed(labels=LABELS, seconds=0.5)

    def match(self, requests, *, between):
        answers = []
        for request in requests:
            try:
                self._note(("begin", request.picture.digest))
                between()
                self._note(("match", request.picture.digest))
                answers.append(Matched(classes={}, uncertainty=0.25, seconds=0))
            except Exception as error:
                answers.append(error)
        return answers


@pytest.fixture
def fake():
    return Fake()


@pytest.fixture
def engine(fake):
    made = LocalEngine(lambda: fake, capacity=8, batch=4)
    yield made
    fake.go.set()
    made.close()


def held(engine, fake):
    """Holds the models up at a first piece of work."""
    fake.go.clear()
    first = engine.submit_encode(picture("first"))
    assert fake.begun.acquire(timeout=10)
    return first


def test_answers_come_from_one_thread(engine, fake):
    assert engine.submit_encode(picture()).result(10) is None
    assert engine.submit_completion(completion()).result(10).labels is LABELS
    assert engine.submit_matching(matching()).result(10).uncertainty == 0.25
    assert engine.info == INFO and engine.ready
    assert len(fake.threads) == 1 and threading.get_ident() not in fake.threads
    load = engine.load()
    assert (load["completions"], load["matchings"], load["encodings"], load["failures"]) == (1, 1, 1, 0)
    assert load["capacity"] == 8 and load["depth"] == 0 and load["busy"] == 0


def test_a_completion_overtakes_what_waits(engine, fake):
    held(engine, fake)
    futures = [engine.submit_matching(matching(str(n))) for n in range(3)]
    futures.append(engine.submit_matching(matching("seen"), priority=1))
    futures.append(engine.submit_completion(completion("person")))
    assert engine.load()["depth"] == 5 and engine.load()["busy"] == 1
    fake.go.set()
    for future in futures:
        future.result(10)
    assert matched(fake) == ["seen", "0", "1", "2"]
    assert fake.done[:3] == [("encode", "first"), ("complete", "person"), ("begin", "seen")]


def matched(fake):
    return [name for what, name in fake.done if what == "match"]


def stopped_in_matching(engine, fake, name="slow", priority=2):
    """A matching that was begun, and is held up before its first pause."""
    fake.go.clear()
    future = engine.submit_matching(matching(name), priority=priority)
    assert fake.begun.acquire(timeout=10)
    return future


def test_a_completion_overtakes_a_matching_at_work(engine, fake):
    slow = stopped_in_matching(engine, fake)
    other = engine.submit_matching(matching("other"))
    seen = engine.submit_matching(matching("seen"), priority=1)
    person = engine.submit_completion(completion("person"))
    fake.go.set()
    for future in (slow, other, seen, person):
        assert future.result(10)
    order = ["begin slow", "complete person", "begin seen", "match seen", "match slow", "begin other"]
    assert [" ".join(done) for done in fake.done[:6]] == order
    assert len(fake.threads) == 1 and engine.load()["busy"] == 0


def test_what_nobody_waits_for_is_broken_off(engine, fake):
    slow = stopped_in_matching(engine, fake)
    assert not slow.cancel() and slow.unwanted
    fake.go.set()
    with pytest.raises(CancelledError):
        slow.result(10)
    assert engine.submit_matching(matching("next")).result(10)
    assert matched(fake) == ["next"] and engine.load()["failures"] == 0


def test_closing_breaks_a_matching_off(engine, fake):
    slow = stopped_in_matching(engine, fake)
    closing = threading.Thread(target=engine.close)
    closing.start()
    while not engine._queue.closed:
        time.sleep(0.001)
    fake.go.set()
    with pytest.raises(ClosedError, match="in the middle"):
        slow.result(10)
    closing.join(10)
    assert not matched(fake)


def test_a_failure_is_the_answer_and_stops_nothing(engine):
    for future in (
        engine.submit_completion(completion("bad")),
        engine.submit_matching(matching("bad")),
        engine.submit_encode(picture("bad")),
    ):
        with pytest.raises(InputError, match="cannot be read"):
            future.result(10)
    assert engine.submit_completion(completion()).result(10).seconds == 0.5
    assert engine.load()["failures"] == 3


def test_full_cancelled_and_late(engine, fake):
    held(engine, fake)
    late = engine.submit_completion(completion("late"), deadline=0.01)
    futures = [engine.submit_matching(matching(str(n))) for n in range(7)]
    with pytest.raises(FullError):
        engine.submit_matching(matching("too many"))
    assert futures[3].cancel()
    time.sleep(0.02)
    fake.go.set()
    with pytest.raises(TimeoutError):
        late.result(10)
    for number, future in enumerate(futures):
        assert number == 3 or future.result(10)
    assert {"late", "3"}.isdisjoint(name for _, name in fake.done)


def test_models_that_cannot_be_made():
    def make():
        raise InputError("weights cannot be found; expected a file.")

    engine = LocalEngine(make)
    with pytest.raises(InputError, match="weights cannot be found"):
        engine.submit_completion(completion()).result(10)
    with pytest.raises(InputError, match="weights cannot be found"):
        engine.submit_matching(matching()).result(10)
    assert not engine.ready and engine.info == LOADING and "weights" in str(engine.error)
    engine.close()


def test_models_that_cannot_be_warmed(fake):
    def broken():
        raise InputError("no memory")

    fake.warm_up = broken
    engine = LocalEngine(lambda: fake)
    with pytest.raises(InputError, match="no memory"):
        engine.submit_encode(picture()).result(10)
    assert not engine.ready and not fake.done
    engine.close()


def test_it_is_not_ready_before_the_models_are_warm(fake):
    warm, asked = threading.Event(), threading.Event()

    def slow():
        asked.set()
        assert warm.wait(10)

    fake.warm_up = slow
    engine = LocalEngine(lambda: fake)
    assert asked.wait(10) and not engine.ready and engine.info == INFO
    future = engine.submit_encode(picture())
    assert not future.done()
    warm.set()
    future.result(10)
    assert engine.ready
    engine.close()


def test_closing_cancels_what_waits_and_lets_the_running_finish(engine, fake):
    running = held(engine, fake)
    waiting = engine.submit_completion(completion())
    threading.Timer(0.05, fake.go.set).start()
    engine.close()
    assert waiting.cancelled() and running.result(10) is None
    assert not engine.ready and not engine._thread.is_alive()
    with pytest.raises(ClosedError):
        engine.submit_encode(picture())


def test_closing_does_not_wait_for_ever(engine, fake):
    running = held(engine, fake)
    engine.close(timeout=0.05)
    assert engine._thread.is_alive() and not running.done()
    fake.go.set()
    assert running.result(10) is None


def test_closing_twice_is_closing(engine):
    engine.close()
    engine.close()
    assert not engine.ready
