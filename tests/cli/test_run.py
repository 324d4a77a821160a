"""Whole runs: what is written, that it is the same every time, and that it can be continued."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from conftest import disc, untimed

from softmatch_jax import MatchingConfig, Softmatcher
from softmatch_jax.cli import run
from softmatch_jax.imaging import read_image, read_labels, write_image


@pytest.fixture
def full(made):
    return [made / f"t{index}.png" for index in range(3)]


def overlap(a, b) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_run_finds_the_object_and_writes_everything(command, shown, full, tmp_path):
    code, out, err = command("segment", *shown, *full, "-o", tmp_path / "out")
    assert code == 0
    assert "3 targets: 3 segmented." in out and "contact_sheet.png" in out
    assert [line.split("]")[0] for line in err.splitlines()] == ["[1/3", "[2/3", "[3/3"]
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert files == {"results.json", "contact_sheet.png", "records/.softmatch"} | {
        f"{folder}/t{index}.{suffix}"
        for folder, suffix in (("masks", "png"), ("overlays", "jpg"), ("maps", "png"), ("records", "json"))
        for index in range(3)
    }
    for index, (x, y) in enumerate([(60, 40), (30, 30), (50, 66)]):
        labels = read_labels(tmp_path / "out" / "masks" / f"t{index}.png")
        assert overlap(labels == 1, disc(x, y)) > 0.9


def test_results_say_what_was_done(command, shown, full, tmp_path, made):
    command("segment", *shown, *full, "-o", tmp_path / "out", "--seed", 5)
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(document) == [
        "softmatch", "seed", "settings", "models", "versions", "references", "classes", "targets", "timings",
        "summary",
    ]  # fmt: skip
    assert document["settings"]["backend"] == "embedded"
    assert document["seed"] == 5 and document["settings"]["matching"] == asdict(MatchingConfig())
    assert set(document["versions"]) == {"python", "jax", "numpy", "opencv", "pillow"}
    assert document["classes"] == [{"index": 1, "name": "disc", "colour": [0, 158, 255]}]
    (reference,) = document["references"]
    assert reference["image"] == f"{made}/a.png" and reference["annotation"] == "mask"
    assert reference["area"] == disc(40, 50).sum()
    target = document["targets"][0]
    found = target["classes"][0]
    assert target["size"] == [96, 96] and target["status"] == "ok" and not found["absent"]
    assert 0.5 < found["confidence"] <= 1 and found["kept"] > 0 and "confidence_map" not in found
    assert found["area"] == sum(one["area"] for one in found["instances"])
    x0, y0, x1, y1 = found["instances"][0]["box"]
    assert abs(x0 - 42) < 4 and abs(x1 - 78) < 4 and abs(y0 - 22) < 4 and abs(y1 - 58) < 4
    assert document["summary"] == {"done": 3, "failed": 0, "absent": 0}


def test_json_is_all_that_is_on_stdout(command, shown, full, tmp_path):
    code, out, err = command("segment", *shown, full[0], "-o", tmp_path / "out", "--json", "--quiet")
    assert (code, err) == (0, "")
    assert out == (tmp_path / "out" / "results.json").read_text()
    assert json.loads(out)["summary"]["done"] == 1


def test_a_run_can_be_repeated_and_its_order_does_not_matter(command, shown, full, tmp_path, contents):
    for folder, targets in (("one", full), ("two", full), ("three", full[::-1])):
        assert command("segment", *shown, *targets, "-o", tmp_path / folder).code == 0
    one, two, three = (contents(tmp_path / folder) for folder in ("one", "two", "three"))
    assert one == two
    per_target = [name for name in one if "/" in name]
    assert {name: one[name] for name in per_target} == {name: three[name] for name in per_target}


@pytest.fixture
def calls(monkeypatch):
    """A list that grows with each target; ``calls.interrupt_at`` is the one to be interrupted."""

    class Calls(list):
        interrupt_at = 0

    segment, calls = Softmatcher.segment, Calls()

    def counted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == calls.interrupt_at:
            raise KeyboardInterrupt
        return segment(self, *args, **kwargs)

    monkeypatch.setattr(Softmatcher, "segment", counted)
    return calls


def test_an_interrupted_run_is_continued(command, shown, full, tmp_path, contents, calls):
    words = ["segment", *shown, *full, "-o"]
    command(*words, tmp_path / "whole")
    calls.interrupt_at = 3 + 3
    code, out, err = command(*words, tmp_path / "out")
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == (
        "softmatch: interrupted; finished targets are kept: give the same command with --resume to continue."
    )
    assert len(list((tmp_path / "out" / "records").glob("*.json"))) == 2
    assert not (tmp_path / "out" / "results.json").exists()
    code, out, err = command(*words, tmp_path / "out", "--resume")
    assert code == 0 and len(calls) == 6 + 1
    assert "2 of them by an earlier run" in out and "kept from an earlier run" in err
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.fixture
def finished(command, shown, full, tmp_path):
    """An output folder with the results of all targets."""
    command("segment", *shown, *full, "-o", tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize(
    "words, said",
    [
        (["--seed", "1"], "seed was 0 and is 1"),
        (["--matching.temperature", "0.321"], "and is 0.321"),
        (["--reference", "b"], "the references are not the same"),
    ],
)
def test_results_of_other_settings_are_not_continued(
    command, shown, full, finished, made, contents, words, said
):
    before = contents(finished)
    if words[0] == "--reference":
        words = ["--reference", made / "b.png", "--mask", made / "b-mask.png"]
    code, out, err = command("segment", *shown, *full, "-o", finished, "--resume", *words)
    assert (code, out) == (2, "") and said in err and "--overwrite" in err
    assert contents(finished) == before


def test_a_changed_target_is_done_again(command, shown, full, finished, tmp_path, made):
    moved = tmp_path / "t0.png"
    shutil.copy(full[0], moved)
    words = ["segment", *shown, moved, "-o", finished, "--resume"]
    assert "kept" in command(*words).err  # the same content in another place
    shutil.copy(full[1], moved)
    code, _, err = command(*words)
    assert code == 2 and "t0.png, which" in err and "would replace" in err


def test_a_target_that_breaks_loses_its_old_result(command, shown, tmp_path, full):
    target = tmp_path / "x.png"
    shutil.copy(full[0], target)
    words = ["segment", *shown, target, "-o", tmp_path / "out"]
    command(*words)
    target.write_bytes(b"")
    assert command(*words, "--resume").code == 1
    assert not list((tmp_path / "out" / "masks").iterdir())
    shutil.copy(full[0], target)
    assert command(*words, "--resume").code == 0


def test_a_missing_picture_is_made_again(command, shown, full, finished):
    (finished / "maps" / "t1.png").unlink()
    _, _, err = command("segment", *shown, *full, "-o", finished, "--resume")
    assert [("kept" in line) for line in err.splitlines()] == [True, False, True]
    assert (finished / "maps" / "t1.png").exists()


def test_overwriting_spares_what_is_not_ours(command, shown, full, finished):
    for name in ("masks/mine.png", "notes.txt", "records/mine.json"):
        (finished / name).write_text("{}")
    code, _, _ = command("segment", *shown, full[0], "-o", finished, "--overwrite")
    assert code == 0
    assert {path.name for path in finished.glob("masks/*")} == {"mine.png", "t0.png"}
    assert {path.name for path in finished.glob("records/*.json")} == {"mine.json", "t0.json"}
    assert (finished / "notes.txt").exists()


def test_several_classes(command, shown, full, made, tmp_path, contents):
    other = ["--reference", made / "b.png", "--mask", made / "b-mask.png", "--class-name", "../blue"]
    code, out, _ = command("segment", *shown, *other, made / "b.png", full[0], "-o", tmp_path / "out")
    assert code == 0
    maps = sorted(path.name for path in (tmp_path / "out" / "maps").iterdir())
    assert maps == ["b.___blue.png", "b.disc.png", "t0.___blue.png", "t0.disc.png"]
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    labels = read_labels(tmp_path / "out" / "masks" / "b.png")
    assert overlap(labels == 2, disc(30, 60)) > 0.9
    assert overlap(read_labels(tmp_path / "out" / "masks" / "t0.png") == 1, disc(60, 40)) > 0.9
    assert "absent:" in out


def test_the_reference_itself_is_a_good_target(command, shown, made, tmp_path):
    assert command("segment", *shown, made / "a.png", "-o", tmp_path / "out").code == 0
    assert overlap(read_labels(tmp_path / "out" / "masks" / "a.png") == 1, disc(40, 50)) > 0.95


def test_folders_and_patterns_and_shared_stems(command, shown, full, tmp_path):
    for folder in ("p", "q"):
        (tmp_path / folder).mkdir()
        shutil.copy(full[0], tmp_path / folder / "t.png")
    shutil.copy(full[1], tmp_path / "q" / "u.png")
    code, _, _ = command("segment", *shown, tmp_path / "p", f"{tmp_path}/q/*.png", "-o", tmp_path / "out")
    assert code == 0
    assert {path.stem for path in (tmp_path / "out" / "masks").iterdir()} == {"p-t", "q-t", "u"}


def test_one_pixel_and_a_blank_picture(command, shown, tmp_path):
    write_image(tmp_path / "dot.png", np.full((1, 1, 3), 90, np.uint8))
    write_image(tmp_path / "blank.png", np.full((80, 60, 3), 128, np.uint8))
    code, out, _ = command(
        "segment", *shown, tmp_path / "dot.png", tmp_path / "blank.png", "-o", tmp_path / "o"
    )
    assert code == 0 and "no object found in 2" in out and "absent:" in out
    assert read_labels(tmp_path / "o" / "masks" / "dot.png").shape == (1, 1)


def test_an_overlay_too_long_for_jpeg_is_shrunk(command, shown, tmp_path, full, monkeypatch):
    monkeypatch.setattr("softmatch_jax.cli.pictures._LONGEST_JPEG", 48)
    assert command("segment", *shown, full[0], "-o", tmp_path / "out").code == 0
    assert read_image(tmp_path / "out" / "overlays" / "t0.jpg").shape == (48, 48, 3)
    assert read_labels(tmp_path / "out" / "masks" / "t0.png").shape == (96, 96)


def test_the_sheet_shows_references_and_targets(command, shown, full, tmp_path, monkeypatch):
    command("segment", *shown, full[0], "-o", tmp_path / "one")
    one = read_image(tmp_path / "one" / "contact_sheet.png").shape
    command("segment", *shown, *full[:2], "-o", tmp_path / "two")
    two = read_image(tmp_path / "two" / "contact_sheet.png").shape
    assert one[1] == two[1] and two[0] - one[0] == pytest.approx((one[0] - 52) / 2, abs=30)
    monkeypatch.setattr("softmatch_jax.cli.pictures.MOST_TARGETS", 1)
    command("segment", *shown, *full, "-o", tmp_path / "bounded")
    assert read_image(tmp_path / "bounded" / "contact_sheet.png").shape == one


def test_a_write_that_fails_ends_the_run(command, shown, full, tmp_path, monkeypatch):
    from softmatch_jax._checks import InputError

    def fill(*args):
        raise InputError("out/masks/t0.png cannot be written (No space left on device); check free space.")

    monkeypatch.setattr(run, "write_pictures", fill)
    code, out, err = command("segment", *shown, *full, "-o", tmp_path / "out")
    assert (code, out) == (2, "") and "No space left" in err


def test_a_target_that_changed_leaves_no_map_of_its_old_content(command, shown, tmp_path, full):
    target, out = tmp_path / "x.png", tmp_path / "out"
    shutil.copy(full[0], target)
    command("segment", *shown, target, "-o", out, "--confidence")
    assert (out / "confidence" / "x.png").exists()
    shutil.copy(full[1], target)
    assert command("segment", *shown, target, "-o", out, "--resume").code == 0
    assert not (out / "confidence" / "x.png").exists() and (out / "maps" / "x.png").exists()


def test_timings_are_the_only_difference(command, shown, full, tmp_path):
    documents = []
    for folder in ("a", "b"):
        command("segment", *shown, full[0], "-o", tmp_path / folder)
        documents.append(json.loads((tmp_path / folder / "results.json").read_text()))
    assert "timings" in documents[0] and "timings" in documents[0]["targets"][0]
    assert untimed(documents[0]) == untimed(documents[1])
