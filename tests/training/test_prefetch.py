from __future__ import annotations

import threading
import time

import pytest

from softmatch_jax.training.prefetch import Prefetcher


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_come_in_the_order_of_the_steps(workers):
    def make(step):
        time.sleep(0.003 if step % 2 else 0)
        return step

    with Prefetcher(make, 5, 25, workers=workers, ahead=4) as batches:
        assert [batches.next() for _ in range(20)] == list(range(5, 25))
        with pytest.raises(StopIteration):
            batches.next()


def test_no_more_is_made_than_asked_for():
    made = []
    with Prefetcher(lambda step: made.append(step) or step, 0, 100, workers=2, ahead=3) as batches:
        time.sleep(0.05)
        assert sorted(made) == [0, 1, 2]
        batches.next()
        time.sleep(0.05)
        assert sorted(made) == [0, 1, 2, 3]


def test_what_goes_wrong_is_raised_at_its_step_and_threads_end():
    def make(step):
        if step == 2:
            raise OSError("gone")
        return step

    with pytest.raises(OSError, match="gone"), Prefetcher(make, 0, 9, workers=1, ahead=4) as batches:
        assert batches.next() == 0 and batches.next() == 1
        batches.next()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
