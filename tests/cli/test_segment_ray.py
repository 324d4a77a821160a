"""Segmentation over Ray on this machine, with two workers: the files of one process, byte for byte."""

import importlib.util
import json

import pytest
from conftest import untimed

from softmatch_jax.cli.layout import make_folders
from softmatch_jax.evaluation import ray_pool

COARSE = ("--stride", 16)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed"),
]


@pytest.fixture(autouse=True)
def small_model():
    """Workers are other processes, which no change here reaches: the models are the usual ones."""


@pytest.fixture(scope="module")
def session():
    with ray_pool._session(2, None):
        yield


def test_the_same_files(command, shown, made, tmp_path, contents, session, monkeypatch):
    monkeypatch.chdir(made)  # relative paths mean the same in the workers
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    targets = ["t0.png", "t1.png", broken, "t2.png", "b.png", "a.png"]
    assert command("segment", *shown, *targets, *COARSE, "-o", tmp_path / "one").code == 1
    words = ["segment", *shown, *targets, *COARSE, "-o", tmp_path / "ray", "--ray", 2]
    code, out, err = command(*words, "--json")
    assert code == 1
    progress = [line for line in err.splitlines() if line.startswith("[")]
    assert len(progress) == 6 and not any("kept" in line for line in progress)
    assert contents(tmp_path / "ray") == contents(tmp_path / "one")
    document = json.loads(out)  # and nothing of Ray's beside it
    assert untimed(document) == untimed(json.loads((tmp_path / "one" / "results.json").read_text()))
    (tmp_path / "ray" / "records" / "t1.json").unlink()
    code, out, err = command(*words, "--resume")
    assert code == 1 and "4 of them by an earlier run" in out
    assert contents(tmp_path / "ray") == contents(tmp_path / "one")


def test_a_full_disk_ends_the_run_plainly(command, shown, made, tmp_path, session):
    words = ["segment", *shown, made / "t0.png", made / "t1.png", *COARSE, "-o", tmp_path / "out"]
    make_folders(tmp_path / "out")
    (tmp_path / "out" / "masks" / "t1.png").mkdir()  # a folder where the mask should be
    code, out, err = command(*words, "--overwrite", "--ray", 2)
    assert code == 2 and out == "" and "Traceback" not in err
    assert "softmatch: error: " in err.splitlines()[-1] and "t1.png is a folder" in err.splitlines()[-1]
