"""``softmatch evaluate`` from end to end, on a small folder of discs."""

import json
import shutil

import numpy as np
import pytest
from conftest import GREY, disc, picture

from softmatch_jax.evaluation.records import read_records
from softmatch_jax.evaluation.running import mask_file
from softmatch_jax.imaging import read_mask, write_image, write_indexed_mask
from softmatch_jax.pipelines.one_class import SoftmatcherOneClass

PLACES = [(60, 40), (30, 30), (50, 66), (40, 50)]
WRITTEN = {"run.json", "results.json", "best.png", "median.png", "worst.png"}


def write_discs(root, places=PLACES, colour=(210, 40, 40)):
    root.mkdir(parents=True)
    for index, place in enumerate(places):
        write_image(root / f"{index}.png", picture(disc(*place), index, colour))
        write_indexed_mask(root / f"{index}_mask.png", disc(*place).astype(np.uint8), GREY)
    return root


@pytest.fixture(scope="session")
def discs(tmp_path_factory):
    return write_discs(tmp_path_factory.mktemp("evaluated") / "discs")


@pytest.fixture(autouse=True)
def small_sheets(monkeypatch):
    """Most of the time of an evaluation as small as these would go into its PNG files."""
    monkeypatch.setattr("softmatch_jax.evaluation.case_sheets._THUMBNAIL", 64)


@pytest.fixture
def own(discs, tmp_path):
    """A copy of the discs that a test may spoil."""
    return shutil.copytree(discs, tmp_path / "own")


@pytest.fixture
def evaluate(command, discs, tmp_path):
    """Evaluates the discs, or another folder, into ``out``."""

    def call(*words, root=discs, output="out"):
        return command("evaluate", "folder", "--root", root, "-o", tmp_path / output, *words)

    return call


@pytest.fixture
def asked(monkeypatch):
    """A list that grows with each call of the pipeline; ``asked.stop_at`` interrupts one."""

    class Asked(list):
        stop_at = None

    calls, call = Asked(), SoftmatcherOneClass.__call__

    def watched(self, target, references, *, key):
        if len(calls) == calls.stop_at:
            raise KeyboardInterrupt
        calls.append(len(references))
        return call(self, target, references, key=key)

    monkeypatch.setattr(SoftmatcherOneClass, "__call__", watched)
    return calls


def results(folder, method="geometric"):
    """The results of a run without its times."""
    document = json.loads((folder / method / "results.json").read_text())
    return {key: value for key, value in document.items() if key != "timings"}


def places(folder, method="geometric"):
    return [record.place for record in read_records(folder / method)]


def failed_with(ended, *words):
    """One sentence on standard error, and nothing else."""
    assert ended.code == 2 and ended.out == "", ended
    assert ended.err.startswith("softmatch: error: ") and ended.err.endswith(".\n"), ended.err
    assert ended.err.count("\n") == 1, ended.err
    for word in words:
        assert str(word) in ended.err, ended.err


def test_a_folder(evaluate, asked, tmp_path):
    ended = evaluate()
    assert ended.code == 0 and asked == [1] * 4
    run = tmp_path / "out" / "geometric"
    assert {path.name for path in run.iterdir() if path.is_file()} == WRITTEN
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"geometric", "results.md"}
    table = (tmp_path / "out" / "results.md").read_text()
    assert ended.out.startswith(table) and f"{run}/worst.png" in ended.out
    lines = ended.err.splitlines()
    assert [line[:6] for line in lines] == ["[1/4] ", "[2/4] ", "[3/4] ", "[4/4] "]
    for line in lines:
        assert line[6:].startswith("geometric: discs: ") and float(line.rpartition("IoU ")[2]) > 0.9
    document = results(tmp_path / "out")
    assert document["episodes"] == {
        "asked": 4,
        "done": 4,
        "failed": 0,
        "missing": 0,
        "called_absent": 0,
        "without_reference": 0,
    }
    found = [read_mask(mask_file(run, (0, index))) for index in range(4)]
    truth = [disc(*place) for place in PLACES]
    both = sum(np.sum(a & b) for a, b in zip(found, truth, strict=True))
    either = sum(np.sum(a | b) for a, b in zip(found, truth, strict=True))
    assert document["metrics"]["miou"]["value"] == pytest.approx(both / either, rel=1e-5)
    assert f"| geometric | folder discs | 4 | {100 * both / either:.1f} [" in table


def test_json_and_nothing_else(evaluate, tmp_path):
    ended = evaluate("--json", "--quiet")
    assert ended.code == 0 and ended.err == ""
    (run,) = json.loads(ended.out)["runs"]
    assert run == json.loads((tmp_path / "out" / "geometric" / "results.json").read_text())


def test_a_run_is_not_touched_without_being_asked_to(evaluate, asked, tmp_path):
    evaluate("--episodes", "1")
    failed_with(evaluate(), "holds an earlier run", "--resume", "--overwrite")
    assert len(asked) == 1 and len(places(tmp_path / "out")) == 1


def test_resuming_does_what_is_left(evaluate, asked, tmp_path):
    evaluate()
    assert evaluate("--episodes", "2", output="part").code == 0 and len(asked) == 6
    assert places(tmp_path / "part") == [(0, 0), (0, 2)]
    ended = evaluate("--resume", output="part")
    assert ended.code == 0 and len(asked) == 8 and ended.err.count("\n") == 2
    assert results(tmp_path / "part") == results(tmp_path / "out")
    ended = evaluate("--resume", output="part")  # nothing is left, and the table is printed all the same
    assert ended.code == 0 and len(asked) == 8 and ended.err == "" and "| geometric |" in ended.out


def test_an_interruption(evaluate, asked, tmp_path):
    evaluate()
    asked.clear()
    asked.stop_at = 2
    ended = evaluate(output="cut")
    assert ended.code == 130 and ended.out == "" and "--resume" in ended.err
    assert places(tmp_path / "cut") == [(0, 0), (0, 1)]
    asked.stop_at = None
    assert evaluate("--resume", output="cut").code == 0 and len(asked) == 4
    assert results(tmp_path / "cut") == results(tmp_path / "out")
    for name in ("best.png", "worst.png", "masks/seed0/000003.png"):
        whole, cut = (tmp_path / folder / "geometric" / name for folder in ("out", "cut"))
        assert whole.read_bytes() == cut.read_bytes()


def test_other_settings_are_refused_and_replaced(evaluate, asked, tmp_path):
    evaluate("--episodes", "1")
    other = ("--decision.min-resemblance", "0.25", "--episodes", "1")
    failed_with(evaluate(*other, "--resume"), "settings.decision.min_resemblance was 0.45 and is 0.25")
    failed_with(evaluate("--annotation", "box", "--resume"), "annotation was mask (fixed) and is box (fixed)")
    assert len(asked) == 1
    assert evaluate(*other, "--overwrite").code == 0 and len(asked) == 2
    assert results(tmp_path / "out")["settings"]["decision"]["min_resemblance"] == 0.25
    failed_with(evaluate("--resume", "--overwrite"), "--resume and --overwrite")


@pytest.mark.slow
def test_two_methods(evaluate, tmp_path):
    ended = evaluate("--method", "persam", "--method", "geometric", "--episodes", "2")
    assert ended.code == 0 and "[4/4] geometric: " in ended.err
    rows = [line.split(" | ")[0] for line in ended.out.splitlines() if "| folder discs |" in line]
    assert rows == ["| persam", "| geometric"]
    assert places(tmp_path / "out", "persam") == places(tmp_path / "out", "geometric") == [(0, 0), (0, 2)]


def test_when_one_run_is_in_the_way_none_is_begun(evaluate, asked, tmp_path):
    evaluate("--episodes", "1")
    failed_with(evaluate("--method", "persam", "--method", "geometric"), "holds an earlier run")
    assert not (tmp_path / "out" / "persam").exists() and len(asked) == 1


def test_shots_and_seeds(evaluate, asked, tmp_path):
    ended = evaluate("--shots", "2", "--seeds", "2", "--episodes", "2")
    assert ended.code == 0 and asked == [2] * 4
    assert "2-shot" in ended.out and "seeds 0, 1" in ended.out and "± " in ended.out
    document = results(tmp_path / "out")
    assert document["seeds"] == [0, 1] and document["shots"] == 2
    assert document["metrics"]["miou"]["seed_deviation"] is not None
    assert places(tmp_path / "out") == [(0, 0), (0, 2), (1, 0), (1, 2)]


def test_shards_make_the_whole(evaluate, asked, tmp_path):
    evaluate()
    first = evaluate("--shard", "1/2", output="parts")
    assert first.code == 0 and len(asked) == 6
    assert "2 of 4 episodes are not done yet" in first.out
    second = evaluate("--shard", "2/2", output="parts")
    assert second.code == 0 and len(asked) == 8 and "not done yet" not in second.out
    assert results(tmp_path / "parts") == results(tmp_path / "out")
    for name in WRITTEN - {"results.json"}:
        whole, parts = (tmp_path / folder / "geometric" / name for folder in ("out", "parts"))
        assert whole.read_bytes() == parts.read_bytes(), name
    failed_with(evaluate("--shard", "1/2", "--overwrite", output="parts"), "--shard and --overwrite")


def test_a_shard_may_begin_while_another_makes_the_folder(evaluate, tmp_path):
    (tmp_path / "out" / "geometric").mkdir(parents=True)
    (tmp_path / "out" / "geometric" / ".run.json.0123.tmp").write_text("{")  # not renamed yet
    assert evaluate("--shard", "1/2", "--episodes", "2").code == 0


def test_a_damaged_picture_fails_its_episodes(evaluate, own, tmp_path):
    whole = (own / "2.png").read_bytes()
    (own / "2.png").write_bytes(whole[: len(whole) // 2])
    ended = evaluate(root=own)
    assert ended.code == 1
    document = results(tmp_path / "out")
    failures = document["failures"]
    assert len(failures) == document["episodes"]["failed"] >= 1
    assert 2 in [failure["index"] for failure in failures]
    assert all(str(own / "2.png") in failure["error"] for failure in failures)
    for failure in failures:
        assert f"\nfailed: own: {failure['target']}: {failure['error']}\n" in ended.out
    assert ended.err.count("failed: geometric: own: ") == len(failures)
    assert f"{len(failures)} of 4 episodes failed and are not counted" in ended.out
    (own / "2.png").write_bytes(whole)
    ended = evaluate("--resume", root=own)  # what failed is tried again
    assert ended.code == 0 and ended.err.count("\n") == len(failures)


def test_failures_and_json(evaluate, own, tmp_path):
    for picture_file in own.glob("?.png"):
        data = picture_file.read_bytes()
        picture_file.write_bytes(data[: len(data) // 2])
    ended = evaluate("--json", root=own)
    (run,) = json.loads(ended.out)["runs"]
    assert ended.code == 1 and run["episodes"]["failed"] == 4 and "metrics" not in run
    ended = evaluate("--resume", root=own)
    assert ended.code == 1 and ended.out.count("\nfailed: ") == 4
    assert "| geometric | folder own | 0 |  |  |" in ended.out
    assert "worst.png" not in ended.out and not (tmp_path / "out/geometric/worst.png").exists()


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--class-name", "cube"], "no class 'cube'; expected one of 'discs'"),
        (["--shots", "4"], "expected at least 5"),
        (["--shots", "0"], "shots is 0"),
        (["--seeds", "0"], "--seeds"),
        (["--workers", "0"], "--workers"),
        (["--episodes", "0"], "--episodes is 0"),
        (["--fold", "1"], "--fold is given for folder"),
        (["--sampling", "published"], "folder has no published sampling"),
        (["--raster", "published"], "--raster is published"),
        (["--raster", "big"], "--raster is 'big'"),
        (["--raster", "0"], "--raster is '0'"),
        (["--shard", "3/2"], "--shard is '3/2'"),
        (["--label", "road"], "--label is 'road'"),
        (["--ray-address", "auto"], "--ray-address is given without --ray"),
    ],
)
def test_options_that_cannot_be_used(evaluate, tmp_path, words, sentence):
    failed_with(evaluate(*words), sentence)
    assert not (tmp_path / "out").exists()


def test_data_that_cannot_be_used(evaluate, own, tmp_path):
    failed_with(evaluate(root=tmp_path / "none"), tmp_path / "none")
    alone = write_discs(tmp_path / "alone", PLACES[:1])
    failed_with(evaluate(root=alone), "'alone'", "has 1 picture", "expected at least 2")
    write_indexed_mask(own / "1_mask.png", np.eye(9, dtype=np.uint8), GREY)
    failed_with(evaluate(root=own), own / "1_mask.png", "9x9", "96x96")
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_used(evaluate, own, tmp_path):
    (tmp_path / "file").write_text("mine")
    failed_with(evaluate(output="file"), "cannot be made")
    (tmp_path / "full" / "geometric").mkdir(parents=True)
    (tmp_path / "full" / "geometric" / "thesis.tex").write_text("mine")
    failed_with(evaluate("--overwrite", output="full"), "not of a run")
    assert (tmp_path / "file").read_text() == (tmp_path / "full/geometric/thesis.tex").read_text() == "mine"


def test_results_do_not_go_among_the_data(evaluate, own):
    before = sorted(own.rglob("*"))
    for inside in ("own", "own/results", "own/../own/results"):
        failed_with(evaluate(root=own, output=inside), "in the data's folder", own)
    assert sorted(own.rglob("*")) == before


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_names_that_are_no_text(evaluate, own, tmp_path, words):
    try:
        odd = own.rename(own.with_name("caf\udce9"))
    except OSError:
        pytest.skip("this file system wants names that are text")
    (odd / "0.png").write_bytes((odd / "0.png").read_bytes()[:-900])
    ended = evaluate("--resume", *words, root=odd)
    assert ended.code == 1 and "caf\ufffd" in ended.out, ended
    assert results(tmp_path / "out")["data"] == "folder caf\ufffd"


def test_pictures_are_squashed_where_asked_to(evaluate, tmp_path):
    ended = evaluate("--raster", "64", "--episodes", "1")
    assert ended.code == 0 and "squashed to 64x64" in ended.out
    assert read_mask(mask_file(tmp_path / "out" / "geometric", (0, 0))).shape == (64, 64)


def test_other_annotations(evaluate, tmp_path):
    ended = evaluate("--annotation", "scribble", "--episodes", "1")
    assert ended.code == 0 and "annotated by scribble (fixed)" in ended.out
