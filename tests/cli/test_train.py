"""Training from the command line: what is refused, and a small model from pictures to a file of weights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from softmatch_jax.cli import train_sam
from softmatch_jax.cli.train_run_file import RUN
from softmatch_jax.imaging import write_image, write_indexed_mask
from softmatch_jax.models import optional
from softmatch_jax.models.sam.config import SamConfig, StemConfig
from softmatch_jax.models.sam.tiny_weights import read_weights
from softmatch_jax.training.loop import TrainResult
from softmatch_jax.training.metrics import read_metrics
from softmatch_jax.training.sam_task import SamTask

SIDE = 48
GREY = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
QUICK = ("--stages", "0:32:2", "--prompts", "1", "--correct-every", "0", "--warmup-steps", "1", "--seed", "3")


def draw(folder: Path, count: int, first: int = 0, *, empty: bool = False) -> Path:
    """Pictures of a disc with their masks."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
        x, y = rng.uniform(16, 32, 2)
        mask = (np.hypot(rows - y, columns - x) < 12) & (not empty)
        image = np.where(mask[..., None], (210, 40, 40), (60, 130, 60)) + rng.normal(0, 12, (SIDE, SIDE, 3))
        write_image(folder / f"p{number}.png", np.clip(image, 0, 255).astype(np.uint8))
        write_indexed_mask(folder / f"p{number}-mask.png", mask.astype(np.uint8), GREY)
    return folder


@pytest.fixture
def pictures(tmp_path) -> Path:
    return draw(tmp_path / "pictures", 3)


@pytest.fixture
def run(tmp_path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def small_sam(monkeypatch) -> Iterator[None]:
    """A model that compiles in a moment takes the place of the tiny one."""
    full = SamConfig.tiny

    def small(image_size: int = 64) -> SamConfig:
        sizes = {"encoder_dim": 16, "encoder_depth": 1, "encoder_heads": 2, "encoder_mlp_dim": 16}
        sizes |= {"dim": 32, "heads": 2, "mlp_dim": 16, "iou_hidden": 16, "mask_in_channels": 8}
        sizes |= {"depth": 1, "iou_depth": 2}
        stem = StemConfig(dims=(8, 8), depths=(1, 1))
        return replace(full(image_size), **sizes, global_attention=(0,), stem=stem)

    monkeypatch.setattr(SamConfig, "tiny", small)
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def test_usage(command):
    for words in (["train"], ["train", "--help"], ["train", "-h"]):
        code, out, err = command(*words)
        assert code == 0 and "{sam,prosam,export}" in out and err == ""
    code, out, err = command("train", "sem")
    assert (code, out) == (2, "") and "'sem' is not a command; expected sam, prosam or export" in err


def test_usage_needs_no_heavy_import():
    source = """
import sys
from softmatch_jax.cli.main import main
assert main(["train", "--help"]) == 0
heavy = {"jax", "cv2", "torch", "flax", "optax", "orbax"} & set(sys.modules)
assert not heavy, heavy
"""
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("package", ["optax", "orbax"])
def test_a_missing_package_is_named_with_its_extra(package, command, monkeypatch):
    def absent(module):
        if module.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(optional.importlib, "import_module", absent)
    code, out, err = command("train", "sam", "--data", "folder:x", "-o", "run")
    assert (code, out) == (2, "")
    assert err == (
        f"softmatch: error: The package {package} is not installed, which training needs; install it with "
        "pip install 'softmatch-jax[train]'.\n"
    )


def refused(command, run, sentence, *words):
    """Exit status 2, one sentence, no folder."""
    code, out, err = command("train", "sam", "-o", run, *words)
    assert (code, out) == (2, "") and err.count("\n") == 1, err
    assert sentence in err
    assert not run.exists()


def test_bad_input_is_told_before_there_is_a_folder(command, run, pictures, tmp_path):
    data = ("--data", f"folder:{pictures}")
    blank = draw(tmp_path / "blank", 2, empty=True)
    refused(command, run, "No data was given; expected at least one --data KIND:FOLDER")
    refused(command, run, "nowhere does not exist", "--data", f"folder:{tmp_path}/nowhere")
    refused(command, run, "expected one of bsds500, camvid, folder, masks", "--data", f"coco:{pictures}")
    refused(command, run, "expected some (check the masks", "--data", f"masks:{blank}")
    refused(command, run, "--preset is 'base'; expected tiny", *data, "--preset", "base")
    refused(command, run, "training.devices is 99", *data, "--devices", "99")
    refused(command, run, "expected a multiple of 3, which is --devices", *data, "--accumulate", "3")
    refused(command, run, "expected a multiple of 16 up to 256", *data, "--stages", "0:272:4")
    refused(command, run, "stages begin at steps [5]", *data, "--stages", "5:32:4")
    refused(command, run, "no.safetensors cannot be read", *data, "--init", tmp_path / "no.safetensors")
    refused(command, run, "3 pictures are trained on", *data, "--validate", f"folder:{pictures}")
    refused(command, run, "with a weight", *data, "--validate", f"folder:{pictures}=2")
    refused(command, run, "show no region of 0.69 to 0.7", *data, *QUICK, "--drawing.min-area", "0.69")


def test_a_folder_that_cannot_be_made(command, pictures):
    run = pictures / "p0.png" / "run"
    code, out, err = command("train", "sam", "--data", f"folder:{pictures}", "-o", run)
    assert (code, out) == (2, "") and err.count("\n") == 1 and "cannot be made" in err


@pytest.mark.parametrize(
    "stopped, status",
    [(None, 0), ("the 3 minutes are over", 0), ("SIGINT was received", 130), ("SIGTERM was received", 143)],
)
def test_exit_status(stopped, status, command, run, pictures, monkeypatch):
    def train(*args, **options):
        history = ({"step": 5, "loss": 1.5, "val_box": 0.25},)
        return TrainResult(None, None, 5, 0, history, stopped)

    monkeypatch.setattr(train_sam, "train", train)
    code, out, err = command("train", "sam", "--data", f"folder:{pictures}", "-o", run, "--quiet")
    assert code == status
    assert "loss 1.5000, val_box 0.2500" in out and f"softmatch train export {run} -o" in out
    assert ("with --resume" in out) == bool(stopped) == bool(err)


def test_a_signal_before_training_says_how_to_go_on(command, run, pictures, monkeypatch):
    def train(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_sam, "train", train)
    code, _, err = command("train", "sam", "--data", f"folder:{pictures}", "-o", run, "--quiet")
    assert code == 130 and "give the same command with --resume" in err


def test_data_of_one_name_are_numbered(pictures, tmp_path):
    from softmatch_jax.cli.train_arguments import parse_data

    other = draw(tmp_path / "other" / "pictures", 1)
    sources = train_sam.open_sources([parse_data(f"folder:{pictures}"), parse_data(f"folder:{other}=3")])
    assert [each.name for each in sources] == ["folder pictures", "folder pictures 2"]
    assert [each.weight for each in sources] == [1, 3]


def test_export_without_a_training(command, tmp_path):
    out = tmp_path / "w.safetensors"
    code, _, err = command("train", "export", tmp_path, "-o", out)
    assert code == 2 and "holds no checkpoint; expected the folder of a training" in err and not out.exists()
    code, _, err = command("train", "export", tmp_path, "-o", tmp_path / "w.npz")
    assert code == 2 and "ends in .safetensors" in err


@pytest.mark.slow
def test_from_pictures_to_weights(command, run, pictures, tmp_path, small_sam):
    held_out = draw(tmp_path / "held out", 2, first=10)
    words = ["train", "sam", "--data", f"folder:{pictures}", "-o", run, *QUICK, "--steps", "4"]
    words += ["--save-every", "2", "--log-every", "2"]
    code, out, err = command(*words, "--validate", f"folder:{held_out}", "--validate-every", "2")
    assert code == 0, err
    assert "Data: folder pictures, 3 pictures, 100 %" in err and "[4/4] val_box" in err
    assert "4 of 4 steps are done" in out and "val_best_of_three" in out and f"train export {run}" in out
    kinds = {"val_box", "val_centre", "val_point", "val_best_of_three"}
    measured = [line for line in read_metrics(run / "metrics.jsonl") if "val_box" in line]
    assert [line["step"] for line in measured] == [2, 4]
    assert all(line.keys() == kinds | {"step"} and 0 <= line["val_box"] <= 1 for line in measured)
    assert json.loads((run / RUN).read_text())["recipe"]["stages"] == [[0, 32, 2]]

    # What goes on must be what was begun.
    code, _, err = command(*words)
    assert code == 2 and "holds an earlier training; give --resume" in err
    before = (run / RUN).read_bytes()
    for changed, sentence in (
        (["--sam.rounds", "2"], "sam.rounds is 1 there and 2 here"),
        (["--colours.hue", "0.3"], "colours.hue is 0.05 there and 0.3 here"),
        (["--data", f"folder:{held_out}"], "data is ['folder pictures 1.0 3'] there"),
    ):
        code, _, err = command(*words, "--resume", *changed)
        assert code == 2 and err.count("\n") == 1 and sentence in err, err
    assert (run / RUN).read_bytes() == before

    # Export: averaged or raw, any step, documents beside.
    first, last, raw = (tmp_path / f"{name}.safetensors" for name in ("first", "last", "raw"))
    assert command("train", "export", run, "-o", last).code == 0
    assert command("train", "export", run, "-o", first, "--step", "2").code == 0
    assert command("train", "export", run, "-o", raw, "--raw").code == 0
    found = {path: read_weights(path) for path in (first, last, raw)}
    assert len({each.digest for each in found.values()}) == 3
    about = found[last].metadata
    assert [about[name] for name in ("step", "seed", "init", "parameters")] == [
        "4",
        "3",
        "random",
        "averaged",
    ]
    assert json.loads(about["recipe"])["prompts"] == 1
    assert json.loads(about["data"]) == [{"name": "folder pictures", "weight": 1.0, "pictures": 3}]
    assert json.loads(about["metrics"]).keys() >= {"loss", "val_box"}
    code, _, err = command("train", "export", run, "-o", tmp_path / "no.safetensors", "--step", "3")
    assert code == 2 and "no checkpoint after step 3; expected one of 2, 4" in err

    # A damaged newest checkpoint is passed over, with a line.
    (run / "checkpoints" / "step_00000004" / "about.json").write_text("{")
    code, _, err = command("train", "export", run, "-o", tmp_path / "earlier.safetensors")
    assert code == 0 and err.startswith("softmatch: warning: The checkpoint ") and err.count("\n") == 1
    assert read_weights(tmp_path / "earlier.safetensors").digest == found[first].digest
    code, _, err = command("train", "export", run, "-o", tmp_path / "no.safetensors", "--step", "4")
    assert code == 2 and "is damaged" in err and not (tmp_path / "no.safetensors").exists()

    # Starting from weights is another training, and says so.
    code, _, err = command(*words, "--resume", "--init", last)
    assert code == 2 and "init is None there and " in err
    assert_starts_from(found[last].arrays)


def assert_starts_from(weights):
    """A task with these weights begins with them, and a checkpoint would tell them from others."""
    task = SamTask(initial=weights)
    begun = task.init(jax.random.key(0))
    assert begun.keys() == weights.keys()
    assert all((np.asarray(begun[name]) == weights[name]).all() for name in weights)
    name = next(iter(weights))
    other = SamTask(initial={**weights, name: weights[name] + 1})
    settings = [each.settings["initial"] for each in (SamTask(), task, other)]
    assert settings[0] is None and len(set(settings)) == 3
    assert SamTask(initial=dict(reversed(weights.items()))).settings == task.settings
