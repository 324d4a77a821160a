"""Shards of one run: each does its share, and together they are the whole."""

import json
import threading

import pytest

from softmatch_jax.cli.arguments import parse_segment
from softmatch_jax.cli.layout import results_file, results_files
from softmatch_jax.cli.run import run_segment

SHARDS = ("results.shard-1-of-2.json", "results.shard-2-of-2.json")


@pytest.fixture
def targets(made):
    return [made / name for name in ("t0.png", "t1.png", "t2.png", "b.png", "a.png")]


def done(folder):
    return sorted(path.stem for path in folder.glob("records/*.json"))


def test_shards_and_then_the_whole(command, shown, targets, tmp_path, contents):
    command("segment", *shown, *targets, "-o", tmp_path / "whole")
    words = ["segment", *shown, *targets, "-o", tmp_path / "out"]
    code, out, _ = command(*words, "--shard", "2/2")
    assert code == 0 and "2 targets: 2 segmented" in out and "shard 2 of 2" in out
    assert "contact_sheet" not in out and done(tmp_path / "out") == ["b", "t1"]
    assert command(*words, "--shard", "1/2").code == 0
    both = contents(tmp_path / "out")
    assert set(SHARDS) < set(both) and not {"results.json", "contact_sheet.png"} & set(both)
    first = json.loads((tmp_path / "out" / SHARDS[0]).read_text())
    assert [entry["target"] for entry in first["targets"]] == [str(targets[i]) for i in (0, 2, 4)]
    code, out, err = command(*words, "--resume")
    assert code == 0 and "5 of them by an earlier run" in out and err.count("kept from") == 5
    after = contents(tmp_path / "out")
    assert {name: after[name] for name in after if name not in SHARDS} == contents(tmp_path / "whole")


def test_a_shard_that_stopped_goes_on_and_a_whole_one_stays(command, shown, targets, tmp_path):
    words = ["segment", *shown, *targets, "-o", tmp_path, "--shard", "1/2"]
    assert command(*words).code == 0
    (tmp_path / "records" / "t2.json").unlink()
    code, _, err = command(*words)  # no --resume is needed
    assert code == 0 and [("kept" in line) for line in err.splitlines()] == [True, False, True]


def test_names_do_not_depend_on_the_shard(command, shown, made, tmp_path):
    for folder in "pq":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.png").write_bytes((made / "t0.png").read_bytes())
    words = ["segment", *shown, tmp_path / "p", tmp_path / "q", "-o", tmp_path / "out"]
    assert command(*words, "--shard", "2/2").code == 0
    assert done(tmp_path / "out") == ["q-t"]


def test_more_shards_than_targets(command, shown, targets, tmp_path):
    code, out, _ = command("segment", *shown, targets[0], "-o", tmp_path, "--shard", "3/3")
    assert code == 0 and "0 targets: 0 segmented." in out
    assert results_files(tmp_path) == {(3, 3): tmp_path / results_file(3, 3)}


@pytest.mark.parametrize(
    "words, said",
    [
        (["--shard", "3/2"], "expected i/n"),
        (["--shard", "0/2"], "expected i/n"),
        (["--shard", "one"], "expected i/n"),
        (["--shard", "1/2", "--overwrite"], "--shard and --overwrite are given together"),
        (["--ray-address", "auto"], "--ray-address is given without --ray"),
        (["--ray-gpus", "1"], "--ray-gpus is given without --ray"),
        (["--ray", "0"], "--ray is 0"),
        (["--ray", "1", "--ray-gpus=-1"], "--ray-gpus is -1"),
    ],
)
def test_what_cannot_be(command, shown, targets, tmp_path, words, said):
    code, out, err = command("segment", *shown, *targets, "-o", tmp_path / "out", *words)
    assert (code, out) == (2, "") and said in err
    assert not (tmp_path / "out").exists()


def test_shards_do_not_join_what_is_not_theirs(command, shown, targets, tmp_path):
    words = ["segment", *shown, *targets, "-o", tmp_path, "--shard"]
    assert command(*words, "1/2").code == 0
    code, _, err = command(*words, "2/2", "--seed", 1)
    assert code == 2 and "seed was 0 and is 1" in err
    code, _, err = command("segment", *shown, *targets, "-o", tmp_path)
    assert code == 2 and "already holds results" in err
    (tmp_path / "records" / ".softmatch").unlink()
    code, _, err = command(*words, "2/2")
    assert code == 2 and "was not made by softmatch" in err


def test_overwriting_removes_the_results_of_shards(command, shown, targets, tmp_path):
    words = ["segment", *shown, *targets, "-o", tmp_path]
    command(*words, "--shard", "1/2")
    (tmp_path / "results.shard-mine.json").write_text("mine")
    assert command(*words, "--overwrite").code == 0
    assert set(results_files(tmp_path)) == {(1, 1)}
    assert (tmp_path / "results.shard-mine.json").exists()


def test_shards_at_the_same_time(shown, targets, tmp_path):
    words = [str(word) for word in (*shown, *targets, "-o", tmp_path, "--quiet", "--shard")]
    parsed = {number: parse_segment([*words, f"{number}/3"]) for number in (1, 2, 3)}
    codes = {}

    def work(number):
        codes[number] = run_segment(*parsed[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in parsed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {1: 0, 2: 0, 3: 0} and len(done(tmp_path)) == 5
