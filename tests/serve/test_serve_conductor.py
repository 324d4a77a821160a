"""Whatever happens, what is derived becomes current, and nothing accepted changes."""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_fakes import FakeModels, Project, bad_file, labels_for

from softmatch_jax._checks import InputError
from softmatch_jax.serve.asking import Asking, example_set
from softmatch_jax.serve.conductor import Conductor
from softmatch_jax.serve.config import ConductorConfig
from softmatch_jax.serve.engine.local import LocalEngine
from softmatch_jax.serve.live import LiveDocuments
from softmatch_jax.serve.project import commands
from softmatch_jax.serve.project.documents import BrushStroke
from softmatch_jax.serve.project.errors import FullDiskError
from softmatch_jax.serve.project.showing import all_shown, found_basis, layer_basis, shown

CONFIG = ConductorConfig(ahead=3, settle_s=0.001, tick_s=0.05, retry_s=0.01)
MODEL = FakeModels.info.model


class World(Project):
    """A project whose conductor runs on fake models."""

    def __init__(self, folder, *, capacity=64, config=CONFIG):
        super().__init__(folder)
        self.models, self.live = FakeModels(), LiveDocuments()
        self.engine = LocalEngine(lambda: self.models, capacity=capacity)
        self.observed = []
        self.conductor = Conductor(
            self.store,
            self.pictures,
            self.engine,
            config=config,
            live=self.live,
            observe=lambda *what: self.observed.append(what),
        )
        self.conductor.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.models.gate.set()
        self.conductor.stop()
        self.engine.close()
        self.store.close()

    def settle(self):
        assert self.conductor.settled(20), (self.job(), self.models.calls[-5:])
        return self.store.state()

    def job(self):
        return self.live.since(0)[1]["live/job"]

    def until(self, holds, seconds=10.0):
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, self.job()
            time.sleep(0.005)


@pytest.fixture
def world(tmp_path):
    with World(tmp_path / "project") as made:
        yield made


def assert_current(world, *, failing=frozenset()):
    """Every derived document is there, of what is there now, and says what the models say."""
    state, asking = world.store.state(), Asking(world.store, world.pictures)
    chosen = example_set(state, MODEL)
    for key in state.of("image"):
        iid = key.partition("/")[2]
        document, basis = state.get(f"found/{iid}"), found_basis(state, iid, MODEL)
        if basis is None:
            assert document is None or state.image(iid).status != "open"
            continue
        assert document is not None and document.basis == basis, key
        if iid in failing:
            assert document.error and not document.classes
            continue
        answer = world.models.matched(asking.matching(state, iid, chosen))
        assert document.classes.keys() == answer.classes.keys() and document.error is None
        for cid, found in document.classes.items():
            expected = answer.classes[cid]
            assert found.absent == expected.absent
            if not found.absent:
                np.testing.assert_array_equal(world.store.raster(found.raster), expected.labels)
            np.testing.assert_array_equal(world.store.heat(found.heat), expected.heat)
    for key in {tuple(key.split("/")[1:3]) for key in state.of("prompt")}:
        document, basis = state.get("mask/" + "/".join(key)), layer_basis(state, *key, MODEL)
        if basis is None:
            continue
        assert document is not None and document.basis == basis
        if key[0] in failing:
            assert document.error and document.raster is None
            continue
        expected = world.models.completed(asking.completion(state, *key))
        np.testing.assert_array_equal(world.store.raster(document.raster), expected)
        assert document.area == np.count_nonzero(expected)


def test_scribble_to_mask_to_targets(world):
    first, *targets = [world.picture(number) for number in range(4)]
    cid = world.cls("duck")
    world.point(first, cid)
    state = world.settle()
    assert state.get(f"mask/{first}/{cid}").raster == shown(state, first, cid)
    assert {key for key in state.of("found")} == {f"found/{iid}" for iid in targets}
    assert_current(world)
    assert world.job() == {"state": "idle", "total": 3, "done": 3, "failed": 0, "waiting": 0}
    assert sorted(kind for kind, *_ in world.observed) == ["completion", *["matching"] * 3]


def test_nothing_is_made_twice(world):
    pictures = [world.picture(number) for number in range(3)]
    world.point(pictures[0], world.cls("duck"))
    world.settle()
    before = list(world.models.calls)
    world.cls("goose")
    world.run(commands.EditProject(name="renamed"))
    world.settle()
    assert world.models.calls == before


def test_a_new_seed_and_a_new_picture_are_matched(world):
    pictures = [world.picture(number) for number in range(3)]
    world.point(pictures[0], world.cls("duck"))
    world.settle()
    world.run(commands.EditProject(seed=7))
    world.settle()
    assert_current(world)
    calls = len(world.models.calls)
    world.picture(9)
    world.settle()
    assert_current(world)
    assert len(world.models.calls) == calls + 1


def test_without_references_nothing_is_found(world):
    pictures = [world.picture(number) for number in range(3)]
    cid = world.cls("duck")
    world.point(pictures[0], cid)
    world.settle()
    world.store.undo(id="undo")
    state = world.settle()
    assert not state.of("found") and not state.of("mask")
    world.store.redo(id="redo")
    world.settle()
    assert_current(world)


def test_accepted_pictures_never_change(world):
    first, second, third = [world.picture(number) for number in range(3)]
    cid = world.cls("duck")
    world.point(first, cid)
    state = world.settle()
    world.run(commands.Accept(image=second, shown=all_shown(state, second)))
    document = world.store.state().get(f"image/{second}")
    found = world.store.state().get(f"found/{second}")
    rasters = {c: world.store.raster(digest) for c, digest in document.accepted.items()}
    world.point(first, cid, 5.0)
    world.conductor.start_matching()
    state = world.settle()
    assert_current(world)
    assert state.get(f"image/{second}") == document and state.get(f"found/{second}") == found
    for c, raster in rasters.items():
        np.testing.assert_array_equal(world.store.raster(shown(state, second, c)), raster)
    assert state.get(f"found/{third}").basis != found.basis


def test_cancel_stops_within_one_item(world):
    pictures = [world.picture(number) for number in range(8)]
    cid = world.cls("duck")
    world.point(pictures[0], cid)
    world.settle()
    while world.models.begun.acquire(timeout=0):
        pass
    world.models.gate.clear()
    world.run(commands.EditProject(seed=1))
    assert world.models.begun.acquire(timeout=10)
    world.conductor.cancel_matching()
    world.until(lambda: world.job()["state"] == "cancelled")
    calls = len(world.models.calls)
    world.models.gate.set()
    world.settle()
    time.sleep(0.05)
    assert len(world.models.calls) <= calls
    assert world.job()["state"] == "cancelled" and world.job()["waiting"] > 0
    world.conductor.start_matching()
    world.settle()
    assert_current(world)
    assert world.job()["state"] == "idle"


def test_a_cancelled_job_goes_on_when_the_references_change(world):
    pictures = [world.picture(number) for number in range(4)]
    cid = world.cls("duck")
    world.conductor.cancel_matching()
    world.point(pictures[0], cid)
    world.settle()
    assert_current(world)


def test_by_hand_nothing_is_matched_until_told(world):
    world.run(commands.EditProject(automatic=False))
    pictures = [world.picture(number) for number in range(3)]
    world.point(pictures[0], world.cls("duck"))
    state = world.settle()
    assert state.of("mask") and not state.of("found")
    assert world.job() == {"state": "idle", "total": 0, "done": 0, "failed": 0, "waiting": 2}
    world.conductor.start_matching()
    world.settle()
    assert_current(world)


@pytest.mark.parametrize("error", [bad_file(), RuntimeError("out of memory")])
def test_an_error_becomes_a_document_and_the_rest_goes_on(world, error):
    first, bad, last = [world.picture(number) for number in range(3)]
    cid = world.cls("duck")
    world.models.bad[world.store.state().image(bad).digest] = error
    world.point(first, cid)
    world.settle()
    assert_current(world, failing={bad})
    assert str(error) in world.store.state().get(f"found/{bad}").error
    assert world.job()["failed"] == 1 and world.job()["done"] == 1
    world.point(bad, world.cls("goose"))
    world.settle()
    assert_current(world, failing={bad})
    made = len(world.models.calls)
    world.conductor.start_matching()
    world.settle()
    assert len(world.models.calls) == made + 2  # its mask and its matching, which fail again
    assert_current(world, failing={bad})
    world.models.bad.clear()
    world.conductor.start_matching()
    assert world.settle().get(f"found/{bad}").error is None
    assert_current(world)
    assert world.store.state().get(f"found/{last}").error is None


def test_a_missing_file_is_told(world):
    first, gone, last = [world.picture(number) for number in range(3)]
    world.pictures.path(world.store.state().image(gone).digest).unlink()
    cid = world.cls("duck")
    world.point(first, cid)
    world.settle()
    told, name = world.store.state().get(f"found/{gone}").error, world.store.state().image(gone).name
    assert told.startswith(f"{name}: ") and "missing" in told and str(world.store.folder) not in told
    assert world.store.state().get(f"found/{last}").error is None
    world.point(gone, cid)
    assert "missing" in world.settle().get(f"mask/{gone}/{cid}").error


def test_a_full_engine_loses_nothing(tmp_path):
    config = ConductorConfig(ahead=50, settle_s=0.001, tick_s=0.02, retry_s=0.005)
    with World(tmp_path / "project", capacity=1, config=config) as world:
        pictures = [world.picture(number) for number in range(12)]
        for cid in [world.cls("duck"), world.cls("goose")]:
            for iid in pictures[:3]:
                world.point(iid, cid)
        world.settle()
        assert_current(world)


def test_the_picture_on_view_goes_first(tmp_path):
    with World(tmp_path / "project") as world:
        pictures = [world.picture(number) for number in range(9)]
        cid = world.cls("duck")
        world.settle()
        world.models.gate.clear()
        world.point(pictures[0], cid)
        world.until(lambda: world.models.calls)
        world.conductor.view(pictures[7])
        world.models.gate.set()
        world.settle()
        digests = [world.store.state().image(iid).digest for iid in pictures]
        matched = [digest for kind, digest in world.models.calls if kind == "matching"]
        assert matched == [digests[7], *digests[1:7], digests[8]]


def test_masks_are_made_in_the_order_of_waiting_a_few_at_a_time(tmp_path):
    with World(tmp_path / "project") as world:
        pictures = [world.picture(number) for number in range(9)]
        cid = world.cls("duck")
        world.settle()
        world.models.gate.clear()
        drawn = [5, 1, 8, 0, 7, 2, 6, 3, 4]
        for number in drawn:
            world.point(pictures[number], cid)
            world.until(lambda: world.conductor._state.seq == world.store.state().seq)
        world.until(lambda: world.engine.load()["depth"] == 2)
        world.conductor.view(pictures[6])
        # The mask on view, and the picture itself.
        world.until(lambda: world.engine.load()["depth"] == 4)
        world.models.gate.set()
        world.settle()
        digests = [world.store.state().image(iid).digest for iid in pictures]
        made = [digests.index(digest) for kind, digest in world.models.calls if kind == "completion"]
        assert made == [5, 1, 8, 6, 0, 7, 2, 3, 4]
        assert_current(world)


def test_view_moves_a_picture_forward_that_waits_already(tmp_path):
    with World(tmp_path / "project") as world:
        pictures = [world.picture(number) for number in range(9)]
        cid = world.cls("duck")
        world.point(pictures[0], cid)
        world.settle()
        world.models.gate.clear()
        world.models.calls.clear()
        world.run(commands.EditProject(seed=3))
        world.until(lambda: world.models.calls)
        world.until(lambda: world.engine.load()["depth"] == 2)
        world.conductor.view(pictures[3])
        world.until(lambda: world.engine.load()["depth"] >= 3)
        world.models.gate.set()
        world.settle()
        digests = [world.store.state().image(iid).digest for iid in pictures]
        assert [digest for _, digest in world.models.calls][:2] == [digests[1], digests[3]]
        assert len(world.models.calls) == 8


def test_targets_wait_for_the_mask_of_a_reference(world):
    pictures = [world.picture(number) for number in range(3)]
    cid = world.cls("duck")
    world.point(pictures[0], cid)
    world.settle()
    world.models.calls.clear()
    world.models.gate.clear()
    world.point(pictures[0], cid, 6.0)
    world.until(lambda: world.models.calls)
    time.sleep(0.05)
    assert [kind for kind, _ in world.models.calls] == ["completion"]
    world.models.gate.set()
    world.settle()
    assert [kind for kind, _ in world.models.calls] == ["completion", "matching", "matching"]


def test_work_that_was_left_is_found_again(tmp_path):
    with World(tmp_path / "project") as world:
        pictures = [world.picture(number) for number in range(4)]
        world.settle()
        world.models.gate.clear()
        world.point(pictures[0], world.cls("duck"))
        world.until(lambda: world.models.calls)
        world.conductor.stop()
    with World(tmp_path / "project") as world:
        world.settle()
        assert world.store.state().of("found")
        assert_current(world)


def test_results_that_cannot_be_written_are_made_again(world, monkeypatch):
    pictures = [world.picture(number) for number in range(3)]
    monkeypatch.setattr("softmatch_jax.serve.conductor._AFTER_FAULT_S", 0.01)
    failures, derive = itertools.count(), world.store.derive

    def failing(changes, *, what):
        if next(failures) < 3:
            raise InputError("The disk is full.")
        return derive(changes, what=what)

    monkeypatch.setattr(world.store, "derive", failing)
    world.point(pictures[0], world.cls("duck"))
    world.until(lambda: "full" in str(world.live.since(0)[1]["live/engine"]["error"]))
    world.settle()
    assert_current(world)
    assert world.live.since(0)[1]["live/engine"]["error"] is None


def test_a_full_disk_is_no_fault_of_a_picture(world, monkeypatch):
    first, _ = (world.picture(number) for number in range(2))
    monkeypatch.setattr("softmatch_jax.serve.conductor._AFTER_FAULT_S", 0.01)
    failures, put = itertools.count(), world.store.put_raster

    def failing(labels):
        if next(failures) < 3:
            raise FullDiskError(f"The project in {world.store.folder} is full.")
        return put(labels)

    monkeypatch.setattr(world.store, "put_raster", failing)
    world.point(first, world.cls("duck"))
    world.until(lambda: world.live.since(0)[1]["live/engine"]["error"])
    assert str(world.store.folder) not in world.live.since(0)[1]["live/engine"]["error"]
    world.settle()
    assert next(failures) > 3
    assert_current(world)
    assert world.live.since(0)[1]["live/engine"]["error"] is None
    assert all(entry.error is None for entry in world.store.state().of("mask").values())


def test_errors_of_the_engine_tell_no_paths(world):
    iid = world.picture(0)
    digest = world.store.state().image(iid).digest
    path = world.pictures.path(digest)
    world.models.bad[digest] = InputError(f"{path} is damaged; copy it again.")
    cid = world.cls("duck")
    world.point(iid, cid)
    assert world.settle().get(f"mask/{iid}/{cid}").error == (
        f"images/{digest[:2]}/{digest} is damaged; copy it again."
    )


def test_what_an_edit_made_pointless_is_not_done(world):
    first, second = world.picture(1), world.picture(2)
    cid = world.cls("duck")
    world.settle()
    world.models.gate.clear()
    world.point(first, cid)
    world.until(lambda: world.models.calls)
    for x in (1.0, 5.0, 7.0):
        world.point(second, cid, x)
        world.until(lambda: world.conductor._state.seq == world.store.state().seq)
        world.until(lambda: len(world.conductor._questions) == 2)
    world.models.gate.set()
    world.settle()
    assert_current(world)
    assert [kind for kind, _ in world.models.calls].count("completion") == 2


def test_a_stumble_loses_nothing(world, monkeypatch):
    pictures = [world.picture(number) for number in range(4)]
    monkeypatch.setattr("softmatch_jax.serve.conductor._AFTER_FAULT_S", 0.01)
    failures, put = itertools.count(), world.store.derive

    def failing(changes, *, what):
        if next(failures) in (0, 2):
            raise RuntimeError("a fault of ours")
        return put(changes, what=what)

    monkeypatch.setattr(world.store, "derive", failing)
    world.point(pictures[0], world.cls("duck"))
    world.settle()
    assert_current(world)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("point", "point", "point", "unpoint", "clear", "paint", "promote", "unpromote", "accept"),
                *(
                    "reject",
                    "reopen",
                    "delete",
                    "class",
                    "unclass",
                    "picture",
                    "seed",
                    "undo",
                    "undo",
                    "redo",
                ),
                *("view", "cancel", "start", "settle", "hold", "free", "automatic", "by hand"),
            ]
        ),
        st.integers(0, 5),
        st.integers(0, 2),
    ),
    max_size=25,
)


def take_step(world, what, number, which, accepted):
    """One random thing a person might do, where it can be done."""
    state = world.store.state()
    images = sorted(key.partition("/")[2] for key in state.of("image"))
    classes = sorted(key.partition("/")[2] for key in state.of("class"))
    # Undoing takes away the first ones too.
    iid, cid = [*images, "i1"][number % (len(images) or 1)], [*classes, "c1"][which % (len(classes) or 1)]
    there = shown(state, iid, cid)
    layer = {"image": iid, "class": cid}
    prompts = [key.split("/")[3] for key in state.of("prompt") if key.startswith(f"prompt/{iid}/{cid}/")]
    stroke = BrushStroke(points=((1.0 + number, 2.0),), width=3.0, add=bool(which))
    made = {
        "unpoint": lambda: commands.DeletePrompt(**layer, prompt=prompts[0]),
        "clear": lambda: commands.ClearLayer(**layer),
        "paint": lambda: commands.Paint(**layer, shown=there, strokes=(stroke,)),
        "promote": lambda: commands.Promote(**layer, reference=True, shown=there),
        "unpromote": lambda: commands.Promote(**layer, reference=False, shown=there),
        "accept": lambda: commands.Accept(image=iid, shown=all_shown(state, iid)),
        "reject": lambda: commands.Reject(image=iid),
        "reopen": lambda: commands.Reopen(image=iid),
        "delete": lambda: commands.DeleteImage(image=iid) if len(images) > 2 else None,
        "class": lambda: commands.AddClass(name=f"class {number}"),
        "unclass": lambda: commands.DeleteClass(**{"class": cid}) if len(classes) > 1 else None,
        "seed": lambda: commands.EditProject(seed=number),
        "automatic": lambda: commands.EditProject(automatic=True),
        "by hand": lambda: commands.EditProject(automatic=False),
    }
    others = {
        "point": lambda: world.point(iid, cid, 1.0 + number, shown=there),
        "picture": lambda: world.picture(20 + number),
        "undo": lambda: world.store.undo(id=f"u{time.monotonic_ns()}"),
        "redo": lambda: world.store.redo(id=f"r{time.monotonic_ns()}"),
        "view": lambda: world.conductor.view(iid),
        "cancel": world.conductor.cancel_matching,
        "start": world.conductor.start_matching,
        "settle": lambda: world.models.gate.is_set() and world.settle(),
        "hold": world.models.gate.clear,
        "free": world.models.gate.set,
    }
    try:
        if what in others:
            others[what]()
        elif (command := made[what]()) is not None:
            world.run(command)
            if what == "accept":
                accepted.append((iid, world.store.state().image(iid)))
    except (InputError, IndexError):
        return
    if what in ("reopen", "undo", "redo", "delete"):
        accepted[:] = [pair for pair in accepted if world.store.state().get(f"image/{pair[0]}") == pair[1]]


def run_steps(steps):
    with tempfile.TemporaryDirectory() as folder, World(Path(folder) / "project", capacity=2) as world:
        for number in range(4):
            world.picture(number)
        world.cls("duck")
        world.cls("goose")
        accepted = []
        for what, number, which in steps:
            take_step(world, what, number, which, accepted)
        world.models.gate.set()
        world.conductor.start_matching()
        state = world.settle()
        assert_current(world)
        for iid, document in accepted:
            assert state.get(f"image/{iid}") == document
        assert world.store.check() == []


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_after_any_commands_all_is_current(steps):
    run_steps(steps)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_after_any_commands_all_is_current_often(steps):
    run_steps(steps)


def test_fakes_differ():
    assert not np.array_equal(labels_for(1), labels_for(2))
