"""``softmatch compare``, on runs whose masks are made by hand."""

import json
from dataclasses import replace

import pytest

from softmatch_jax.cli.compare import run_compare
from softmatch_jax.evaluation.counting import Counts
from softmatch_jax.evaluation.records import EpisodeRecord, RecordWriter
from softmatch_jax.evaluation.run_file import start_run

MADE = {
    "softmatch": "1",
    "data": "folder discs",
    "sampling": "corrected",
    "shots": 1,
    "lists": "0" * 64,
    "raster": None,
    "annotation": "mask (fixed)",
    "method": "geometric",
    "settings": {"matching": {"temperature": 0.1}},
}


def record(index, tp, *, seed=0, **fields):
    """An object of 100 pixels in a picture of 1000, ``tp`` of them found; even episodes are of class a."""
    return EpisodeRecord(
        seed=seed,
        index=index,
        class_name="ab"[index % 2],
        target=f"t{index}",
        references=("r",),
        counts=Counts(tp, 0, 100 - tp, 900),
        boundary=(0, 0, 0, 0, 0, 0),
        **fields,
    )


@pytest.fixture
def run(tmp_path):
    """Writes a run: its name, the pixels found in each episode, and what it was made with."""

    def write(name, found, *, records=(), **made):
        root = tmp_path / name
        start_run(root, MADE | made, resume=False, overwrite=False, join=False)
        with RecordWriter(root) as writer:
            for one in (*(record(index, tp) for index, tp in enumerate(found)), *records):
                writer.write(one)
        return root

    return write


def compared(command, a, b, *words):
    ended = command("compare", a, b, "--json", *words)
    assert ended.code == 0 and ended.err == "", ended
    return json.loads(ended.out)


def refused(ended, *words):
    assert ended.code == 2 and ended.out == "" and ended.err.count("\n") == 1, ended
    for word in words:
        assert str(word) in ended.err, ended.err


def test_the_difference_is_that_of_b_minus_a(command, run):
    a, b = run("a", [50, 60, 70, 80]), run("b", [60, 60, 90, 70], method="nystroem")
    found = compared(command, a, b)
    # Class a: from 120 to 150 of 200; class b: from 140 to 130 of 200.
    assert found["differences"]["miou"]["value"] == pytest.approx((0.15 - 0.05) / 2)
    assert found["differences"]["mean_iou"]["value"] == pytest.approx((0.1 + 0 + 0.2 - 0.1) / 4)
    assert found["by_class"] == {"a": pytest.approx(0.15), "b": pytest.approx(-0.05)}
    assert (found["wins"], found["ties"], found["losses"], found["left_out"]) == (2, 1, 1, 0)
    most, *others = (change["index"] for change in found["changes"])
    assert most == 2 and set(others) == {0, 3}
    assert (found["a"], found["b"]) == (str(a), str(b))
    assert found["differ_in"] == ["method: geometric | nystroem"]
    back = compared(command, b, a)
    for name, one in found["differences"].items():
        assert one["low"] <= one["value"] <= one["high"]
        assert back["differences"][name]["value"] == pytest.approx(-one["value"])
    assert back["p_value"] == found["p_value"] and (back["wins"], back["losses"]) == (1, 2)


def test_what_a_person_reads(command, run):
    a = run("a", [50, 60, 70, 80])
    b = run("b", [60, 60, 90, 70], settings={"matching": {"temperature": 0.2}, "more": 1})
    ended = command("compare", a, b)
    assert ended.code == 0 and ended.err == "" and f"A: {a}\nB: {b}\n" in ended.out
    assert "  settings.matching.temperature: 0.1 | 0.2\n  settings.more: None | 1\n" in ended.out
    assert "| mIoU | +5.00 | [" in ended.out and "folder discs, 4 episodes" in ended.out
    assert "B better on 2, alike on 1, A better on 1" in ended.out
    assert "  a: +15.0\n  b: -5.0\n" in ended.out
    assert "  0.700 0.900  a: t2 (seed 0, index 2)\n" in ended.out


def test_a_run_and_itself(command, run):
    root = run("a", [50, 60])
    found = compared(command, root, root)
    assert {one["value"] for one in found["differences"].values()} == {0.0}
    assert found["p_value"] == 1 and found["changes"] == [] and found["ties"] == 2
    assert "  none\n" in command("compare", root, root).out


@pytest.mark.parametrize(
    "made, sentence",
    [
        ({"data": "perseg"}, "data is folder discs and perseg"),
        ({"lists": "1" * 64}, "the classes, the pictures or how masks are read differ"),
        ({"sampling": "published"}, "sampling is corrected and published"),
        ({"raster": [64, 64]}, "raster is None and [64, 64]"),
    ],
)
def test_different_questions(command, run, made, sentence):
    a, b = run("a", [50]), run("b", [50], **made)
    refused(command("compare", a, b), "asked different questions", sentence, a, b)


def test_shots_and_annotations_may_be_compared(command, run):
    a, b = run("a", [50]), run("b", [50], shots=5, annotation="box (fixed)")
    assert compared(command, a, b)["differ_in"] == [
        "shots: 1 | 5",
        "annotation: mask (fixed) | box (fixed)",
    ]


def test_targets_that_differ_all_the_same(command, run):
    a = run("a", [50])
    b = run("b", [], records=[replace(record(0, 50), target="another")])
    refused(command("compare", a, b), "ask different questions", "'another'")


def test_missing_episodes(command, run):
    failed = replace(record(2, 0), counts=(), boundary=(), error="no such file")
    a = run("a", [50, 60, 70, 80])
    b = run("b", [55, 65], records=[failed, record(0, 40, seed=1)])
    refused(
        command("compare", a, b), f"2 of the episodes done in {a} are not in {b}", "and 1 the", "--common"
    )
    found = compared(command, a, b, "--common")
    assert found["differences"]["mean_iou"]["value"] == pytest.approx(0.05) and found["left_out"] == 3
    ended = command("compare", a, b, "--common")
    assert "3 episodes that only one of them has are left out." in ended.out and "2 episodes." in ended.out
    c = run("c", [], records=[record(0, 40, seed=7)])
    refused(command("compare", a, c, "--common"), "no episode in common")


def test_folders_of_runs(command, run, tmp_path):
    a, b = run("one/geometric", [50]), run("two/persam", [60])
    assert compared(command, tmp_path / "one", tmp_path / "two") == compared(command, a, b)
    run("two/matcher", [60])
    refused(command("compare", a, tmp_path / "two"), "holds 2 runs (matcher, persam)")


def test_folders_without_anything_to_compare(command, run, tmp_path):
    a, empty = run("a", [50]), run("empty", [])
    refused(command("compare", a, empty), empty, "no finished episode")
    refused(command("compare", a, tmp_path / "none"), tmp_path / "none", "run.json cannot be read")
    (tmp_path / "file").write_text("{}")
    refused(command("compare", tmp_path / "file", a), "cannot be read")
    (a / "run.json").write_text("[]")
    refused(command("compare", a, a), "run.json is damaged")


def test_names_that_are_no_text(command, run):
    odd = replace(record(0, 10), target="caf\udce9")
    a, b = run("a", [], records=[odd]), run("b", [], records=[replace(odd, counts=record(0, 90).counts)])
    assert "a: caf\ufffd (seed 0" in command("compare", a, b).out
    assert compared(command, a, b)["changes"][0]["target"] == "caf\ufffd"


def test_help(capsys):
    with pytest.raises(SystemExit) as end:
        run_compare(["--help"])
    assert end.value.code == 0 and "--common" in capsys.readouterr().out
