"""What waits for the models: order, bounds, deadlines, cancellation."""

import threading
import time
from concurrent.futures import wait

import pytest

from softmatch_jax import InputError
from softmatch_jax.serve.engine.queue import (
    AHEAD,
    COMPLETION,
    MATCHING,
    ON_VIEW,
    ClosedError,
    FullError,
    Job,
    RequestQueue,
)


def matching(name, group="g", priority=MATCHING, **more):
    return Job(kind="matching", request=name, priority=priority, group=group, **more)


def completion(name, **more):
    return Job(kind="completion", request=name, priority=COMPLETION, **more)


def encode(name):
    return Job(kind="encode", request=name, priority=AHEAD)


def made(*jobs, capacity=100, turn=8):
    queue = RequestQueue(capacity=capacity, turn=turn)
    for job in jobs:
        queue.put(job)
    return queue


def order(queue):
    taken = []
    while len(queue):
        job = queue.take(0)
        if job is not None:
            taken.append(job.request)
    return taken


def test_urgent_work_goes_first_and_equals_keep_their_order():
    queue = made(
        encode("e"), matching("m1"), matching("seen", priority=ON_VIEW), matching("m2"), completion("c")
    )
    assert order(queue) == ["c", "seen", "m1", "m2", "e"]


def test_matchings_of_a_group_follow_each_other():
    queue = made(*(matching(f"{group}{n}", group) for n in range(3) for group in "ab"))
    assert order(queue) == ["a0", "a1", "a2", "b0", "b1", "b2"]


def test_no_group_keeps_others_waiting_for_longer_than_its_turn():
    queue = made(matching("a0", "a"), matching("b0", "b"), *(matching(f"a{n}", "a") for n in (1, 2)), turn=2)
    assert order(queue) == ["a0", "a1", "b0", "a2"]


def test_a_completion_overtakes_a_turn_that_has_begun():
    queue = made(*(matching(n) for n in range(3)))
    assert queue.take(0).request == 0
    queue.put(completion("c"))
    assert order(queue) == ["c", 1, 2]


def test_there_is_room_for_so_many_and_a_little_more_for_completions():
    queue = made(*(matching(n) for n in range(8)), capacity=8)
    with pytest.raises(FullError, match="8 requests are waiting") as caught:
        queue.put(matching("one more"))
    assert caught.value.retry_after_s >= 1
    for name in range(2):
        queue.put(completion(name))
    with pytest.raises(FullError):
        queue.put(completion("too many"))
    assert len(queue) == 10


def test_when_to_ask_again_follows_from_the_pace():
    queue = made(*(matching(n) for n in range(50)), capacity=50)
    for _ in range(200):
        queue.done(2.0)
    with pytest.raises(FullError) as caught:
        queue.put(matching("one more"))
    assert caught.value.retry_after_s == pytest.approx(100, rel=0.05)


def test_what_was_cancelled_is_not_taken_and_makes_room():
    jobs = [matching(n) for n in range(3)]
    queue = made(*jobs, capacity=3)
    assert jobs[0].future.cancel() and jobs[1].future.cancel()
    queue.put(matching("new"))
    assert order(queue) == [2, "new"]
    assert not wait([jobs[0].future, jobs[1].future], timeout=1).not_done


def test_what_is_taken_cannot_be_cancelled():
    job = matching("m")
    queue = made(job)
    assert queue.take(0) is job and job.future.running() and not job.future.cancel()


def test_a_deadline_that_has_passed():
    late, early = (
        matching("late", deadline=time.monotonic() - 1),
        matching("m", deadline=time.monotonic() + 60),
    )
    queue = made(late, early)
    assert queue.take(0) is early
    with pytest.raises(TimeoutError, match="deadline"):
        late.future.result(timeout=0)


def test_taking_waits_for_work():
    queue, taken = made(), []
    thread = threading.Thread(target=lambda: taken.append(queue.take()))
    thread.start()
    queue.put(encode("e"))
    thread.join(10)
    assert [job.request for job in taken] == ["e"]
    assert queue.take(0.01) is None


def test_closing_wakes_all_and_hands_back_what_was_not_begun():
    queue, taken = made(), []
    threads = [threading.Thread(target=lambda: taken.append(queue.take())) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert queue.close() == []
    for thread in threads:
        thread.join(10)
    assert taken == [None, None, None]
    with pytest.raises(ClosedError):
        queue.put(encode("e"))
    waiting = made(matching(1), matching(2))
    assert [job.request for job in waiting.close()] == [1, 2] and waiting.take() is None


@pytest.mark.parametrize("bad", [{"capacity": 0}, {"turn": 0}])
def test_numbers_are_checked(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        made(**bad)
