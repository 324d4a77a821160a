from __future__ import annotations

import json
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slow_params import mostly_slow

from softmatch_jax._checks import InputError
from softmatch_jax.training.checkpoints import Checkpoints, Identity

MINE = Identity(task="tiny", settings={"alpha": 0.5}, config={"seed": 1, "steps": 9}, data="abc")
PROGRESS = {"window": {"counts": {"loss": 1}, "sums": {"loss": 0.1 + 0.2}}, "seconds": 1.5}


def state(seed=0):
    key = jax.random.key(seed)
    return {
        "kernel": jax.random.normal(key, (4, 3)),
        "odd/na.me [é]": [jnp.int32(seed), jnp.array([True, False]), None, jnp.zeros((0, 2))],
        "half": jax.random.normal(key, (5,), jnp.bfloat16),
    }


def same(one, other) -> bool:
    equal = jax.tree.map(
        lambda a, b: a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes(), one, other
    )
    return jax.tree.all(equal)


@pytest.fixture
def three(tmp_path):
    checkpoints = Checkpoints(tmp_path, MINE, 3)
    for step in (5, 10, 15):
        checkpoints.save(step, state(step), PROGRESS)
    return checkpoints


def test_what_was_saved_comes_back_bit_for_bit(three, capfd):
    found, step, progress = three.restore(state())
    assert step == 15 and progress == PROGRESS and same(found, state(15))
    assert capfd.readouterr() == ("", "")


def test_only_the_newest_are_kept(three, tmp_path):
    three.save(20, state(20), PROGRESS)
    assert three.steps() == [10, 15, 20]
    assert Checkpoints(tmp_path, MINE, 1).save(20, state(21), PROGRESS).name == "step_00000020"
    assert three.steps() == [20] and same(three.restore(state())[0], state(21))


def test_no_checkpoint(tmp_path):
    assert Checkpoints(tmp_path, MINE, 1).restore(state()) is None


def newest(tmp_path):
    return tmp_path / "checkpoints" / "step_00000015"


def cut_a_file_short(folder):
    file = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[:-5])


def turn_a_bit(folder):
    file = next(path for path in sorted((folder / "arrays" / "d").iterdir()))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def put_in_arrays_of_another_step(folder):
    shutil.rmtree(folder / "arrays")
    shutil.copytree(folder.with_name("step_00000005") / "arrays", folder / "arrays")


@pytest.mark.parametrize(
    "spoil",
    [
        cut_a_file_short,
        put_in_arrays_of_another_step,
        turn_a_bit,
        lambda folder: shutil.rmtree(folder / "arrays"),
        lambda folder: (folder / "about.json").unlink(),
        lambda folder: (folder / "about.json").write_text('{"task": '),
        lambda folder: (folder / "about.json").write_text("[]"),
        lambda folder: (folder / "about.json").write_text("{}"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over(three, tmp_path, spoil):
    spoil(newest(tmp_path))
    with pytest.warns(UserWarning, match="step_00000015 is damaged"):
        found, step, _ = three.restore(state())
    assert step == 10 and same(found, state(10))


def test_a_save_that_was_interrupted_leaves_the_others(three, tmp_path):
    half = tmp_path / "checkpoints" / ".step_00000020.0123abcd.tmp"
    (half / "arrays").mkdir(parents=True)
    assert three.restore(state())[1] == 15
    three.save(20, state(20), PROGRESS)
    assert not half.exists()


def test_all_damaged(three, tmp_path):
    for folder in (tmp_path / "checkpoints").iterdir():
        cut_a_file_short(folder)
    with pytest.warns(UserWarning), pytest.raises(InputError, match="holds no checkpoint that can be read"):
        three.restore(state())


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"task": "base"}, "the task is 'tiny' there and 'base' here"),
        ({"data": "abd"}, "the digest of the data is 'abc' there and 'abd' here"),
        ({"settings": {"alpha": 0.5, "beta": 2}}, "tiny.beta is missing there and 2 here"),
        ({"config": {"seed": 2, "steps": 9}}, "training.seed is 1 there and 2 here"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(three, tmp_path, other, told):
    with pytest.raises(InputError, match=told) as raised:
        Checkpoints(tmp_path, replace(MINE, **other), 3).restore(state())
    assert str(raised.value).count(". ") == 0


def test_arrays_of_another_shape_are_refused(three):
    with pytest.raises(InputError, match=r"\['kernel'\] is \['float32', 4, 3\] there and .* 4, 5\] here"):
        three.restore({**state(), "kernel": jnp.zeros((4, 5))})


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writes beyond ``size`` fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", mostly_slow([500, 20_000], 20_000))
def test_a_full_disk_leaves_the_earlier_checkpoints(three, tmp_path, capfd, caplog, size):
    large = {**state(), "kernel": jax.random.normal(jax.random.key(0), (100, 200))}
    with (
        file_size_limit(size),
        pytest.raises(InputError, match=r"step_00000020 cannot be written \(File too"),
    ):
        three.save(20, large, PROGRESS)
    assert three.steps() == [5, 10, 15] and len(list((tmp_path / "checkpoints").iterdir())) == 3
    assert three.restore(state())[1] == 15
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_the_folder_of_checkpoints_is_a_file(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        Checkpoints(tmp_path, MINE, 1).save(1, state(), PROGRESS)


def test_what_lies_beside_the_arrays(three, tmp_path):
    about = json.loads((newest(tmp_path) / "about.json").read_text())
    assert (about["task"], about["step"], about["config"]) == ("tiny", 15, {"seed": 1, "steps": 9})
    assert about["softmatch"] and about["leaves"]["['half']"] == ["bfloat16", 5]


@pytest.mark.slow
def test_three_million_parameters_are_saved_quickly(tmp_path):
    key = jax.random.key(0)
    arrays = [jax.random.normal(jax.random.fold_in(key, n), (250, 300)) for n in range(160)]  # and moments
    jax.block_until_ready(arrays)
    checkpoints = Checkpoints(tmp_path, MINE, 1)
    taken = []
    for step in range(2):
        start = time.process_time()
        checkpoints.save(step, arrays, PROGRESS)
        taken.append(time.process_time() - start)
    # The processor's time, which other programs do not lengthen; 0.6 s by the clock on two quiet cores.
    assert min(taken) < 2
