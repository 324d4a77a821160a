"""Episodes spread over Ray: the same records as one process makes, whatever becomes of the workers."""

import importlib.util
import os
import socket
import sys
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import disc_set
import pytest
from disc_set import ByColour, Refuses, disc_protocol

from softmatch_jax._checks import InputError
from softmatch_jax.evaluation import ray_pool
from softmatch_jax.evaluation.ray_pool import MOST_LIVES
from softmatch_jax.evaluation.ray_running import run_on_ray
from softmatch_jax.evaluation.records import finished, read_records
from softmatch_jax.evaluation.report import collect
from softmatch_jax.evaluation.run_file import start_run
from softmatch_jax.evaluation.running import choose_places, made_with, mask_file, run_episodes

with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")


@pytest.fixture
def protocol(tmp_path):
    return disc_protocol(tmp_path / "data")


@pytest.fixture(scope="module")
def session():
    """Ray with two workers, for all tests here; what is found running must be left running."""
    import ray

    for name in (__name__, disc_set.__name__):  # workers do not know the folder of the tests
        ray.cloudpickle.register_pickle_by_value(sys.modules[name])
    with ray_pool._session(2, None):
        yield
        assert ray.is_initialized()


@dataclass
class Deadly(ByColour):
    """Ends its process where it meets the picture of the largest red disc, ``deaths`` times."""

    folder: Path
    deaths: int = 1
    name = "deadly"
    cut = None
    seconds = 0.0

    def __post_init__(self):
        self.asked = []

    def __call__(self, target, references, *, key):
        mask = target[..., 1] < 100
        if target[..., 0].max() > 200 and mask.sum() > 370:
            marks = len(list(self.folder.glob("mark*")))
            if marks < self.deaths:
                (self.folder / f"mark{marks}").touch()
                os._exit(1)
        return super().__call__(target, references, key=key)


def records(root):
    """What is kept of each place, the time aside."""
    found = collect(root)
    return [replace(record, seconds=0) for record in (*found.done, *found.failed)]


def everything(protocol, seeds=(0, 1)):
    return choose_places(len(protocol.episodes), seeds=seeds)


@with_ray
def test_a_cluster_that_does_not_answer_is_said_at_once(protocol, tmp_path):
    # The first test, while this process has no Ray yet.
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(InputError, match=f"Ray cannot be reached at {address} .*refused"):
            run_on_ray(ByColour, protocol, [(0, 0)], tmp_path / "ray", workers=2, address=address)


@with_ray
def test_the_same_records_as_one_process(protocol, tmp_path, session, capsys):
    told, places = [], everything(protocol)
    run_episodes(protocol, Refuses(), places[:3], tmp_path / "ray")  # and was stopped then
    left = [place for place in places if place not in finished(tmp_path / "ray")]
    run_on_ray(Refuses, protocol, left, tmp_path / "ray", workers=2, step=told.append)
    run_episodes(protocol, Refuses(), places, tmp_path / "one")
    assert records(tmp_path / "ray") == records(tmp_path / "one")
    assert {r.error is None for r in told} == {True, False}
    assert Counter(r.place for r in told) == Counter(left) and len(left) == len(places) - 3
    for place in finished(tmp_path / "one"):
        one, other = (mask_file(tmp_path / name, place).read_bytes() for name in ("one", "ray"))
        assert one == other
    assert len(list(read_records(tmp_path / "ray"))) == len(places)
    assert capsys.readouterr().out == ""


@with_ray
@pytest.mark.slow
@pytest.mark.parametrize("deaths, seeds", [(1, range(4)), (MOST_LIVES, (0,))])
def test_a_lost_worker_loses_nothing(protocol, tmp_path, session, deaths, seeds, capsys):
    (tmp_path / "marks").mkdir()
    recipe = partial(Deadly, tmp_path / "marks", deaths)
    places, told = everything(protocol, seeds), []
    run_on_ray(recipe, protocol, places, tmp_path / "ray", workers=2, step=told.append)
    assert len(list((tmp_path / "marks").iterdir())) == deaths
    run_episodes(protocol, ByColour(), places, tmp_path / "one")
    failed = [record for record in records(tmp_path / "ray") if record.error is not None]
    if deaths < MOST_LIVES:
        assert not failed
    else:
        assert len(failed) == 1 and f"lost {MOST_LIVES} times" in failed[0].error
    expected = [
        record for record in records(tmp_path / "one") if record.place not in {f.place for f in failed}
    ]
    assert [record for record in records(tmp_path / "ray") if record.error is None] == expected
    assert Counter(r.place for r in told) == Counter(places)
    written = Counter(record.place for record in read_records(tmp_path / "ray"))
    assert set(written.values()) == {1}  # done before the loss, and not done again
    assert not list((tmp_path / "ray/records").glob(".ray*"))
    assert capsys.readouterr().out == ""


def _no_weights():
    raise InputError("weights cannot be found; expected a folder.")


@with_ray
@pytest.mark.slow
def test_what_the_user_must_mend_is_said_plainly(protocol, tmp_path, session):
    with pytest.raises(InputError, match=r"^weights cannot be found; expected a folder\.$"):
        run_on_ray(_no_weights, protocol, everything(protocol), tmp_path / "ray", workers=2)


@with_ray
@pytest.mark.slow
def test_workers_must_make_the_same_records(protocol, tmp_path, session):
    made = made_with(protocol, ByColour("another"))
    start_run(tmp_path / "ray", made, resume=False, overwrite=False, join=False)
    with pytest.raises(InputError, match="method was another and is by colour"):
        run_on_ray(ByColour, protocol, everything(protocol), tmp_path / "ray", workers=1)


@with_ray
@pytest.mark.slow
def test_workers_that_cannot_even_load_end_the_run(protocol, tmp_path, session):
    with pytest.raises(InputError, match="lost 3 times while it loaded"):
        run_on_ray(partial(os._exit, 1), protocol, [(0, 0)], tmp_path / "ray", workers=1)


def test_without_ray_the_extra_is_named(protocol, tmp_path, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(ray_pool.importlib, "import_module", absent)
    with pytest.raises(InputError, match=r"softmatch-jax\[ray\]"):
        run_on_ray(ByColour, protocol, everything(protocol), tmp_path / "ray", workers=2)


def test_nothing_to_do_starts_nothing(protocol, tmp_path):
    run_on_ray(ByColour, protocol, [], tmp_path / "ray", workers=2)
    assert not (tmp_path / "ray").exists()


def test_a_worker_remembers_what_its_lives_ended_at(tmp_path):
    path = tmp_path / "note"
    assert ray_pool._Notes(path).begin(7)
    for _ in range(2):  # two more lives end at 7, having been through other items first
        life = ray_pool._Notes(path)
        assert life.begin(5) and life.begin(7)
    last = ray_pool._Notes(path)
    assert last.begin(5) and not last.begin(7) and last.begin(8)
    path.write_text('{"at": 7, "lo')
    assert ray_pool._Notes(path).begin(7)
