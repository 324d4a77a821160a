from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_training import Regression, Waves, config, fingerprint, numbers

from softmatch_jax._checks import InputError
from softmatch_jax.training.loop import train
from softmatch_jax.training.step import make_step

PROGRAM = Path(__file__).with_name("small_training.py")
BAD = frozenset({1, 8, 9, 13})
WAVES = {"wide_from": 8, "bad": BAD}


@pytest.fixture(scope="module", autouse=True)
def shared_programs():
    """Trainings of the same task with the same settings share their compiled step, which saves time."""
    made = {}

    def make_shared(task, settings, mesh):
        key = (repr(task), repr(settings.learned_with()), mesh.size)
        if key not in made:
            made[key] = make_step(task, settings, mesh)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("softmatch_jax.training.loop.make_step", make_shared)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training that was not interrupted, its folder and what it said."""
    folder, stream = tmp_path_factory.mktemp("training") / "new", io.StringIO()
    return train(Regression(), Waves(**WAVES), config(), folder, stream=stream), folder, stream.getvalue()


def arrays_of(folder: Path, step: int) -> dict[str, str]:
    """Checksums of types, shapes and values of a checkpoint: parameters, average, moments, counts."""
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as orbax:
        found = orbax.restore((folder / "checkpoints" / f"step_{step:08d}" / "arrays").absolute())
    return {name: (str(array.dtype), array.shape, array.tobytes()) for name, array in found.items()}


def program(folder: Path, *, pause: float, mode: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", str(PROGRAM), str(folder), str(pause), mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_training_from_end_to_end(whole):
    result, folder, said = whole
    assert (result.step, result.skipped, result.stopped) == (20, 4, None)
    assert [line["step"] for line in result.history] == [4, 8, 12, 16, 20]
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "curves.png", "metrics.jsonl"]
    assert len(list((folder / "checkpoints").iterdir())) == 3
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(result.history)
    assert said.count("\n") == 5 and said.startswith("[4/20] loss ")
    for line in lines:
        assert line["waiting"] + line["stepping"] + line["other"] == pytest.approx(1, abs=1e-4)
    assert [line["compiling"] > 0 for line in lines] == [True, False, True, False, False]


def test_the_metrics_are_means_over_the_steps_that_were_not_skipped(whole, tmp_path):
    with pytest.raises(RuntimeError):
        train(
            Regression(), Waves(bad=BAD, fails_at=8), config(log_every=1, save_every=99), tmp_path, quiet=True
        )
    losses = [line["loss"] for line in map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())]
    assert [step for step, loss in enumerate(losses) if loss is None] == [1]
    means = [np.mean([loss for loss in losses[n : n + 4] if loss is not None]) for n in (0, 4)]
    assert [line["loss"] for line in whole[0].history[:2]] == pytest.approx(means, rel=1e-12)


def test_it_learns_and_compiles_once_for_each_variant_of_the_batch(tmp_path, count_compiles):
    settings = config(steps=200, learning_rate=0.05, save_every=999)
    with count_compiles("step") as compiled:
        result = train(
            Regression(settings={"noise": 0.0}), Waves(wide_from=50), settings, tmp_path, quiet=True
        )
    assert len(compiled) == 2
    assert result.history[-1]["loss"] < 0.5 * result.history[0]["loss"]


def test_a_training_that_broke_goes_on_bit_for_bit(whole, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(RuntimeError, match="the data broke"):
        train(Regression(), Waves(**WAVES, fails_at=14), config(), tmp_path, quiet=True)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
    stream = io.StringIO()
    result = train(Regression(), Waves(**WAVES), config(), tmp_path, resume=True, stream=stream)
    assert "Resumed after step 10 of 20." in stream.getvalue()
    assert fingerprint(result) == fingerprint(whole[0])
    assert numbers(result) == numbers(whole[0])
    assert arrays_of(tmp_path, 20) == arrays_of(whole[1], 20)


class Rotation(Regression):
    """Also learns a matrix that is wide enough for Muon."""

    def init(self, key):
        return {**super().init(key), "turn": jax.random.normal(key, (16, 16)) / 4}

    def loss(self, params, batch, key):
        error, metrics = super().loss(params, batch, key)
        return error + jnp.mean((params["turn"] @ params["turn"].T - jnp.eye(16)) ** 2), metrics


@pytest.mark.slow
def test_muon_goes_on_bit_for_bit(tmp_path):
    settings = config(optimiser="muon", learning_rate=0.05)
    once = train(Rotation(), Waves(), settings, tmp_path / "once", quiet=True)
    with pytest.raises(RuntimeError, match="the data broke"):
        train(Rotation(), Waves(fails_at=14), settings, tmp_path / "twice", quiet=True)
    twice = train(Rotation(), Waves(), settings, tmp_path / "twice", resume=True, quiet=True)
    assert fingerprint(once) == fingerprint(twice)
    assert once.history[-1]["loss"] < 0.7 * once.history[0]["loss"]
    adam = train(Rotation(), Waves(), config(learning_rate=0.05), tmp_path / "adam", quiet=True)
    assert not np.allclose(adam.params["turn"], once.params["turn"], atol=0.01)


def test_a_signal_stops_with_a_checkpoint(whole, tmp_path):
    running = program(tmp_path, pause=0.1, mode="new")
    for line in running.stdout:
        if line.startswith("[8/20]"):
            running.send_signal(signal.SIGTERM)
            break
    said, errors = running.communicate(timeout=300)
    assert running.returncode == 0 and errors == ""
    step = int((tmp_path / "metrics.jsonl").read_text().count("\n")) * 4
    assert 8 <= step < 20 and f"SIGTERM was received. Its checkpoint is in {tmp_path}; resume" in said

    result = train(Regression(), Waves(**WAVES), config(), tmp_path, resume=True, quiet=True)
    assert fingerprint(result) == fingerprint(whole[0])
    assert numbers(result) == numbers(whole[0])
    assert arrays_of(tmp_path, 20) == arrays_of(whole[1], 20)


def test_the_time_limit_stops_with_a_checkpoint_in_any_thread(whole, tmp_path):
    settings, found = config(max_minutes=1e-6, save_every=99), []
    thread = threading.Thread(
        target=lambda: found.append(train(Regression(), Waves(**WAVES), settings, tmp_path, quiet=True))
    )
    thread.start()
    thread.join()
    assert (found[0].step, found[0].history) == (1, ())
    assert found[0].stopped == "the 1e-06 minutes are over"

    result = train(Regression(), Waves(**WAVES), config(workers=2), tmp_path, resume=True, quiet=True)
    assert fingerprint(result) == fingerprint(whole[0])
    assert numbers(result) == numbers(whole[0])


def test_losses_that_are_not_finite_stop_it(tmp_path):
    source = Waves(bad=frozenset({2, *range(7, 20)}))
    with pytest.raises(InputError, match=r"not finite in 3 steps in a row, up to step 9") as raised:
        train(Regression(), source, config(max_skipped=3), tmp_path, quiet=True)
    path = tmp_path / "not_finite_step_00000009.npz"
    assert str(path) in str(raised.value)
    with np.load(path) as kept:
        for name, array in source.batch(0, 9).items():
            np.testing.assert_array_equal(kept[name], array)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["skipped"] for line in lines] == [1, 2]


def test_a_second_training_in_the_same_folder(whole):
    result, folder, _ = whole
    with pytest.raises(InputError, match="holds an earlier training; resume it"):
        train(Regression(), Waves(**WAVES), config(), folder, quiet=True)
    with pytest.raises(InputError, match=r"training\.learning_rate is 0\.001 there and 0\.01 here"):
        train(Regression(), Waves(**WAVES), config(learning_rate=0.01), folder, resume=True, quiet=True)
    with pytest.raises(InputError, match=r"\['bias'\]"):
        train(Regression(hidden=9), Waves(**WAVES), config(), folder, resume=True, quiet=True)
    again = train(Regression(), Waves(**WAVES), config(log_every=7), folder, resume=True, quiet=True)
    assert fingerprint(again) == fingerprint(result) and again.history == result.history


def test_a_batch_that_cannot_be_dealt_out(tmp_path):
    with pytest.raises(InputError, match=r"8 pictures; expected a multiple of 3"):
        train(Regression(), Waves(), config(accumulate=3), tmp_path, quiet=True)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        train(Regression(), Waves(), config(), tmp_path / "file" / "x", quiet=True)


SHARED = """
import sys, pathlib, numpy as np
sys.path.insert(0, sys.argv[1])
from small_training import Regression, Waves, config
from softmatch_jax.training.loop import train
from softmatch_jax.training.step import make_step
import jax
folder = pathlib.Path(sys.argv[2])
settings = config(steps=6, devices=4, accumulate=2, save_every=99)
result = train(Regression(settings={"noise": 0.0}), Waves(), settings, folder / "four", quiet=True)
leaves = jax.tree.leaves((result.params, result.averaged))
assert all(leaf.sharding.num_devices == 4 for leaf in leaves)
np.savez(folder / "four.npz", *leaves)
"""


@pytest.mark.slow
def test_four_devices_give_what_one_gives(tmp_path):
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", "-c", SHARED, str(PROGRAM.parent), str(tmp_path)]
    done = subprocess.run(command, env=os.environ | flags, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    settings = config(steps=6, save_every=99)
    one = train(Regression(settings={"noise": 0.0}), Waves(), settings, tmp_path / "one", quiet=True)
    with np.load(tmp_path / "four.npz") as four:
        for leaf, name in zip(jax.tree.leaves((one.params, one.averaged)), four.files, strict=True):
            # The same sums in another order, six times through Adam.
            np.testing.assert_allclose(four[name], leaf, rtol=1e-4, atol=1e-5)
