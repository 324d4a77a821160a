"""Folders of shards become the folder that the whole run would have written."""

import json
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from conftest import GREY, disc, picture, untimed

from softmatch_jax import Softmatcher
from softmatch_jax.cli.main import main
from softmatch_jax.evaluation.report import collect
from softmatch_jax.imaging import read_image, write_image, write_indexed_mask
from softmatch_jax.models import DenseDescriptor, DescriptorConfig, GrabCut


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def results(folder):
    return untimed(json.loads((folder / "results.json").read_text()))


@contextmanager
def small():
    """The small model of the tests here, for folders that several tests share."""

    def embedded(config, **options):
        return Softmatcher(DenseDescriptor(DescriptorConfig(longest=128)), GrabCut(), config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Softmatcher, "embedded", embedded)
        yield


def run(*words):
    assert main([str(word) for word in (*words, "--quiet")]) == 0


@pytest.fixture(scope="module")
def words(made):
    shown = ["--reference", made / "a.png", "--mask", made / "a-mask.png", "--class-name", "disc"]
    return ["segment", *shown, *(made / f"{name}.png" for name in ("t0", "t1", "t2", "b", "a"))]


@pytest.fixture(scope="module")
def segmented(words, tmp_path_factory):
    """The shards s1 and s2, and the whole."""
    root = tmp_path_factory.mktemp("segmented")
    with small():
        for number in (1, 2):
            run(*words, "-o", root / f"s{number}", "--shard", f"{number}/2")
        run(*words, "-o", root / "whole")
    return root


@pytest.fixture
def shards(segmented, tmp_path):
    return [shutil.copytree(segmented / name, tmp_path / name) for name in ("s1", "s2")]


def test_segmentations(command, words, segmented, shards, tmp_path, contents):
    for order in (shards, shards[::-1]):
        code, out, err = command("merge", *order, "-o", tmp_path / "out")
        assert (code, err) == (0, "") and "5 targets: 5 segmented" in out and "no results" not in out
        merged, whole = contents(tmp_path / "out"), contents(segmented / "whole")
        assert files(tmp_path / "out") == files(segmented / "whole")
        assert {n: merged[n] for n in merged if n != "contact_sheet.png"} == {
            n: whole[n] for n in whole if n != "contact_sheet.png"
        }
        assert list(results(tmp_path / "out")) == list(results(segmented / "whole"))
        assert read_image(tmp_path / "out" / "contact_sheet.png").size
        shutil.rmtree(tmp_path / "out")
    command("merge", *shards, "-o", tmp_path / "out")
    code, out, _ = command(*words, "-o", tmp_path / "out", "--resume")
    assert code == 0 and "5 of them by an earlier run" in out
    assert contents(tmp_path / "out") == contents(segmented / "whole")
    assert not list(tmp_path.glob(".*"))


def test_targets_that_were_done_twice_come_once(command, segmented, shards, tmp_path, contents):
    code, out, _ = command("merge", shards[1], segmented / "whole", shards[0], "-o", tmp_path / "out")
    assert code == 0 and "5 targets: 5 segmented" in out
    assert results(tmp_path / "out") == results(segmented / "whole")


def test_a_missing_shard_is_said(command, words, shards, tmp_path):
    code, out, _ = command("merge", shards[1], "-o", tmp_path / "out")
    assert code == 1 and "2 targets" in out and "Of 2 shards these have no results: 1;" in out
    # The records of a shard that was stopped count, though it wrote no results.
    (shards[0] / "results.shard-1-of-2.json").unlink()
    code, out, _ = command("merge", *shards, "-o", tmp_path / "all")
    assert code == 1 and "5 targets: 5 segmented" in out and "Of 2 shards these have no results: 1;" in out


def test_a_target_that_failed_once_and_was_done_since_is_done(command, shown, made, tmp_path):
    target = tmp_path / "x.png"
    words = ["segment", *shown, target, made / "t1.png"]
    target.write_bytes(b"no picture")
    assert command(*words, "-o", tmp_path / "s1", "--shard", "1/2").code == 1
    command(*words, "-o", tmp_path / "s2", "--shard", "2/2")
    code, out, _ = command("merge", tmp_path / "s1", tmp_path / "s2", "-o", tmp_path / "failed")
    assert code == 1 and "failed: " in out and results(tmp_path / "failed")["summary"]["failed"] == 1
    shutil.copy(made / "t0.png", target)
    command(*words, "-o", tmp_path / "s3", "--shard", "1/2")
    code, out, _ = command("merge", *(tmp_path / f"s{i}" for i in (1, 2, 3)), "-o", tmp_path / "out")
    assert code == 0 and results(tmp_path / "out")["summary"] == {"done": 2, "failed": 0, "absent": 0}


def spoil_seed(shards):
    for path in shards[1].glob("records/*.json"):
        path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))


def spoil_record(shards):
    text = (shards[0] / "records/t0.json").read_text()
    for folder in ("masks", "maps", "overlays"):
        for path in (shards[0] / folder).glob("t0.*"):
            shutil.copy(path, shards[1] / folder)
    (shards[1] / "records/t0.json").write_text(text.replace('"kept": ', '"kept": 1'))


@pytest.mark.parametrize(
    "spoil, said",
    [
        (spoil_seed, "made differently: seed was 0 and is 1"),
        (spoil_record, "are different results: classes"),
        (lambda shards: (shards[1] / "maps/t1.png").unlink(), "t1.png does not exist"),
        (lambda shards: (shards[1] / "records/t1.json").unlink(), "is in none of the folders"),
        (lambda shards: (shards[1] / "results.shard-2-of-2.json").write_text("{}"), "cannot be read as"),
        (lambda shards: [p.unlink() for s in shards for p in s.glob("results*")], "hold no results"),
        (lambda shards: shutil.rmtree(shards[1]), "is not a folder"),
        (lambda shards: (shards[1] / "records/.softmatch").unlink(), "holds no results"),
        (lambda shards: ((shards[0].parent / "out").mkdir(), (shards[0].parent / "out/x").touch()), "empty"),
        (lambda shards: (shards[0].parent / "out").touch(), "is not an empty folder"),
    ],
    ids=range(10),
)
def test_what_does_not_make_one_run_is_refused(command, shards, tmp_path, spoil, said):
    spoil(shards)
    before = files(tmp_path)
    code, out, err = command("merge", *shards, "-o", tmp_path / "out")
    assert (code, out) == (2, "") and said in err
    assert files(tmp_path) == before


def test_one_folder_twice(command, shards, tmp_path):
    code, _, err = command("merge", shards[0], shards[0], "-o", tmp_path / "out")
    assert code == 2 and "given twice" in err


def test_a_full_disk_leaves_nothing(command, shards, tmp_path, monkeypatch):
    def full(source, goal):
        raise OSError(28, "No space left on device", str(goal))

    monkeypatch.setattr(shutil, "copyfile", full)
    before = files(tmp_path)
    code, _, err = command("merge", *shards, "-o", tmp_path / "out")
    assert code == 2 and "No space left" in err and files(tmp_path) == before


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The shards e1 and e2 and the whole of an evaluation of discs, in one class."""
    root = tmp_path_factory.mktemp("measured")
    folder = root / "data" / "disc"
    folder.mkdir(parents=True)
    for index, (x, y) in enumerate([(60, 40), (30, 30), (50, 66), (40, 50)]):
        write_image(folder / f"p{index}.png", picture(disc(x, y), index))
        write_indexed_mask(folder / f"p{index}_mask.png", disc(x, y).astype(np.uint8), GREY)
    evaluate = ["evaluate", "folder", "--root", root / "data"]
    with small():
        for number in (1, 2):
            run(*evaluate, "-o", root / f"e{number}", "--shard", f"{number}/2")
        run(*evaluate, "-o", root / "whole")
    return root


@pytest.fixture
def evaluated(measured, tmp_path):
    return [shutil.copytree(measured / name, tmp_path / name) for name in ("e1", "e2")]


def records(root):
    found = collect(root)
    return [replace(record, seconds=0) for record in (*found.done, *found.failed)]


def test_evaluations(command, evaluated, measured, tmp_path):
    code, out, err = command("merge", *evaluated, "-o", tmp_path / "out")
    assert (code, err) == (0, "") and "--resume" in out and "no record" not in out
    (run,) = (path.name for path in (measured / "whole").iterdir() if path.is_dir())
    merged, whole = tmp_path / "out" / run, measured / "whole" / run
    assert records(merged) == records(whole) and len(records(whole)) == 4
    assert results(merged) == results(whole)
    masks = {name for name in files(whole) if name.startswith("masks/")}
    assert len(masks) == 4 and all((merged / n).read_bytes() == (whole / n).read_bytes() for n in masks)
    assert out.startswith((tmp_path / "out" / "results.md").read_text())
    code, _, err = command(
        "evaluate", "folder", "--root", measured / "data", "-o", tmp_path / "out", "--resume"
    )
    assert code == 0 and "IoU" not in err and (merged / "worst.png").exists()
    # The folders of the method themselves.
    assert command("merge", *(e / run for e in evaluated), "-o", tmp_path / "one").code == 0
    assert results(tmp_path / "one" / run) == results(whole)


def test_episodes_that_are_missing_are_said(command, evaluated, tmp_path):
    code, out, _ = command("merge", evaluated[1], "-o", tmp_path / "out")
    assert code == 0 and "2 of 4 episodes have no record" in out


def test_evaluations_that_do_not_fit(command, evaluated, shards, tmp_path):
    (run,) = (path.name for path in evaluated[0].iterdir() if path.is_dir())
    path = evaluated[1] / run / "run.json"
    path.write_text(path.read_text().replace('"shots": 1', '"shots": 5'))
    before = files(tmp_path)
    for folders, said in (
        (evaluated, "shots was 1 and is 5"),
        ([evaluated[0], shards[0]], "folders of one kind"),
        ([evaluated[0], evaluated[1] / run], "folders of one level"),
        ([evaluated[0] / run / "masks"], "holds no results"),
    ):
        code, out, err = command("merge", *folders, "-o", tmp_path / "out")
        assert (code, out) == (2, "") and said in err
    assert files(tmp_path) == before
