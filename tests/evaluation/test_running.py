"""The loop over episodes: what is recorded, in which order, and what does not matter."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from disc_set import ByColour, Refuses, disc_protocol

from softmatch_jax._checks import InputError
from softmatch_jax.data.annotating import Annotator
from softmatch_jax.evaluation.boundaries import BoundaryCounts
from softmatch_jax.evaluation.counting import Counts
from softmatch_jax.evaluation.records import finished, read_records
from softmatch_jax.evaluation.running import (
    NOTHING_SAID,
    choose_places,
    made_with,
    mask_file,
    run_episodes,
    shard,
)
from softmatch_jax.imaging import read_mask


@pytest.fixture
def protocol(tmp_path):
    return disc_protocol(tmp_path / "data")


def everything(protocol, seeds=(0,)):
    return choose_places(len(protocol.episodes), seeds=seeds)


def without_time(root):
    return [replace(record, seconds=0) for record in read_records(root)]


def test_a_perfect_answer(protocol, tmp_path):
    method = ByColour()
    run_episodes(protocol, method, everything(protocol), tmp_path / "run")
    records = list(read_records(tmp_path / "run"))
    assert [record.place for record in records] == [(0, i) for i in range(8)]
    for record in records:
        counts, boundary = Counts(*record.counts), BoundaryCounts(*record.boundary)
        assert counts.iou == 1 and sum(counts) == 48 * 64 and boundary.f == 1 and not record.absent
        episode = protocol.episodes.episode(0, record.index)
        assert (record.class_name, record.target) == (episode.class_name, episode.target.name)
        assert record.references == tuple(sample.name for sample in episode.references)
        truth = episode.target.read().truth.mask
        np.testing.assert_array_equal(read_mask(mask_file(tmp_path / "run", record.place)), truth)


def test_half_an_answer_is_counted_by_hand(protocol, tmp_path):
    run_episodes(protocol, ByColour(cut=16), [(0, 0)], tmp_path)
    truth = protocol.episodes.episode(0, 0).target.read().truth.mask
    inside = int(truth[:, :16].sum())
    (record,) = read_records(tmp_path)
    assert record.counts == (inside, 0, int(truth.sum()) - inside, int((~truth).sum()))


def test_threads_change_nothing(protocol, tmp_path):
    places = everything(protocol, seeds=(0, 1))
    asked = []
    for workers in (1, 5):
        method = ByColour(cut=20)
        run_episodes(protocol, method, places, tmp_path / str(workers), workers=workers)
        asked.append(method.asked)
    assert without_time(tmp_path / "1") == without_time(tmp_path / "5")
    assert asked[0] == asked[1] and len({key for _, key in asked[0]}) == 16


def test_shards_make_the_whole(protocol, tmp_path):
    places = everything(protocol, seeds=(0, 1, 2))
    run_episodes(protocol, ByColour(cut=20), places, tmp_path / "whole")
    for number in (1, 2, 3):
        run_episodes(protocol, ByColour(cut=20), shard(places, number, 3), tmp_path / "parts")
    by_place = sorted(without_time(tmp_path / "parts"), key=lambda record: record.place)
    assert by_place == without_time(tmp_path / "whole")
    assert len(list((tmp_path / "parts/records").iterdir())) == 3


def test_only_so_many_are_read_ahead(protocol, tmp_path, monkeypatch):
    read, lock = [], threading.Lock()

    class Watched:
        name = "watched"

        def __call__(self, truth, *, seed, index, shot):
            with lock:
                read.append(index)
            return Annotator(kind="mask", mode="fixed")(truth, seed=seed, index=index, shot=shot)

    ahead = []

    class Method(ByColour):
        def __call__(self, target, references, *, key):
            with lock:
                ahead.append(len(set(read)) - len(self.asked))
            return super().__call__(target, references, key=key)

    watched = replace(protocol, annotate=Watched())
    run_episodes(watched, Method(seconds=0.01), everything(protocol, (0, 1)), tmp_path, workers=2)
    assert max(ahead) <= 3  # the one that is answered, and two behind it


def test_a_run_that_was_stopped_goes_on_where_it_was(protocol, tmp_path):
    class Stopped(ByColour):
        def __call__(self, target, references, *, key):
            if len(self.asked) == 3:
                raise KeyboardInterrupt
            return super().__call__(target, references, key=key)

    places = everything(protocol)
    with pytest.raises(KeyboardInterrupt):
        run_episodes(protocol, Stopped(), places, tmp_path / "run")
    assert finished(tmp_path / "run") == set(places[:3])
    left = [place for place in places if place not in finished(tmp_path / "run")]
    run_episodes(protocol, ByColour(), left, tmp_path / "run")
    run_episodes(protocol, ByColour(), places, tmp_path / "whole")
    assert without_time(tmp_path / "run") == without_time(tmp_path / "whole")


def test_a_failure_does_not_stop_the_others(protocol, tmp_path):
    run_episodes(protocol, Refuses(), everything(protocol), tmp_path)
    records = list(read_records(tmp_path))
    failed = [record for record in records if record.error]
    assert {record.class_name for record in failed} == {"blue"} and len(failed) == 4
    assert all("expected red ones" in record.error and not record.counts for record in failed)
    assert finished(tmp_path) == {record.place for record in records if not record.error}


def test_a_damaged_file_fails_its_episode(protocol, tmp_path):
    protocol.episodes.episode(0, 0).target.image.write_bytes(b"no picture")
    run_episodes(protocol, ByColour(), [(0, 0), (0, 4)], tmp_path / "run")
    first, second = read_records(tmp_path / "run")
    assert "0.png" in first.error and second.error is None


def test_a_mask_of_another_size_fails_its_episode(protocol, tmp_path):
    from disc_set import GREY

    from softmatch_jax.imaging import write_indexed_mask

    path = protocol.episodes.episode(0, 0).target.truth.path
    write_indexed_mask(path, np.eye(9, dtype=np.uint8), GREY)
    run_episodes(protocol, ByColour(), [(0, 0)], tmp_path / "run")
    (record,) = read_records(tmp_path / "run")
    assert "9x9" in record.error and "64x48" in record.error and str(path) in record.error


def test_a_reference_that_says_nothing(protocol, tmp_path):
    class Silent:
        name = "silent"

        def __call__(self, truth, *, seed, index, shot):
            return None

    method = ByColour()
    run_episodes(replace(protocol, annotate=Silent()), method, [(0, 0)], tmp_path)
    (record,) = read_records(tmp_path)
    assert record.reason == NOTHING_SAID and record.absent and not method.asked
    assert Counts(*record.counts).iou == 0 and record.counts[1] == 0


def test_pictures_are_squashed(tmp_path):
    protocol = disc_protocol(tmp_path / "data", raster=(32, 20))
    run_episodes(protocol, ByColour(), [(0, 1)], tmp_path / "run")
    (record,) = read_records(tmp_path / "run")
    assert sum(record.counts) == 32 * 20 and Counts(*record.counts).iou > 0.8


def test_what_a_run_is_made_with_is_json(protocol):
    made = made_with(protocol, ByColour(cut=3))
    assert json.loads(json.dumps(made)) == made
    assert made["settings"] == {"cut": 3} and made["sampling"] == "corrected" and made["shots"] == 1


def test_places():
    assert choose_places(3, seeds=(0, 2)) == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2)]
    assert choose_places(10, seeds=(1,), episodes=4) == [(1, 0), (1, 2), (1, 5), (1, 7)]
    assert choose_places(3, seeds=(0,), episodes=99) == choose_places(3, seeds=(0,))
    with pytest.raises(InputError, match="--episodes is 0"):
        choose_places(3, seeds=(0,), episodes=0)
    with pytest.raises(InputError, match="--shard is 4/3"):
        shard([], 4, 3)
