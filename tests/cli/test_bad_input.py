"""Bad input ends in one sentence with the file and the cure, and leaves nothing behind."""

import json
import struct
import zlib

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import GREY

from softmatch_jax.imaging import write_indexed_mask
from softmatch_jax.models import DenseDescriptor, PatchFeatures

STROKE = {"points": [[30, 50], [45, 50]]}


def huge_png(path, side=20000):
    """A PNG whose header promises 400 million pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )


@pytest.fixture
def bad(made, tmp_path):
    """A folder of unusable files."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("this is no picture")
    (tmp_path / "zero.png").write_bytes(b"")
    whole = made / "a.png"
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:3000])
    huge_png(tmp_path / "huge.png")
    for name, values in {
        "small-mask": np.ones((50, 50)), "none-mask": np.zeros((96, 96)), "all-mask": np.ones((96, 96)),
        "steps-mask": np.indices((96, 96))[0],
    }.items():  # fmt: skip
        palette = GREY if values.max() < 2 else np.repeat(np.arange(96, dtype=np.uint8)[:, None], 3, axis=1)
        write_indexed_mask(tmp_path / f"{name}.png", values.astype(np.uint8), palette)
    entries = {
        "outside": [{"class": "x", "strokes": [{"points": [[500, 500]]}]}],
        "nothing": [],
        "strokeless": [{"class": "x", "strokes": []}],
        "twice": [{"class": "x", "strokes": [STROKE]}, {"class": "x", "strokes": [STROKE]}],
        "case": [{"class": "x", "strokes": [STROKE]}, {"class": "X", "strokes": [STROKE]}],
    }
    for name, annotations in entries.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"softmatch": 1, "annotations": annotations}))
    (tmp_path / "malformed.json").write_text('{"softmatch": 1,\n "annotations": [}')
    return tmp_path


def refused(ended, out, *texts):
    """Checks that a command ended before it wrote anything, with one sentence that holds the texts."""
    assert ended.code == 2 and ended.out == ""
    assert ended.err.startswith("softmatch: error: ") and ended.err.count("\n") == 1
    for text in texts:
        assert text in ended.err, ended.err
    assert not out.exists()


@pytest.mark.parametrize(
    "target, texts",
    [
        ("missing.png", ["missing.png does not exist; check the spelling"]),
        ("empty", ["empty holds no picture; expected files in", "--recursive"]),
        ("*.webp", ["*.webp matches no picture; expected"]),
    ],
)
def test_targets_that_are_not_there(command, shown, bad, target, texts):
    ended = command("segment", *shown, bad / target, "-o", bad / "out")
    refused(ended, bad / "out", *texts)


@pytest.mark.parametrize(
    "options, texts",
    [
        (["--mask", "missing.png"], ["missing.png does not exist; check the spelling"]),
        (["--mask", "text.jpg"], ["text.jpg is not an image file", "expected JPEG, PNG"]),
        (["--mask", "small-mask.png"], ["small-mask.png", "50x50", "96x96", "expected the same size"]),
        (["--mask", "none-mask.png"], ["none-mask.png", "is empty; expected at least one pixel"]),
        (["--mask", "all-mask.png"], ["all-mask.png", "covers the whole picture", "inverted"]),
        (["--mask", "steps-mask.png"], ["steps-mask.png holds 96 distinct values", "--mask-threshold"]),
        (["--scribbles", "missing.json"], ["missing.json cannot be read"]),
        (["--scribbles", "malformed.json"], ["malformed.json is not valid JSON at line 2", "mend it"]),
        (
            ["--scribbles", "outside.json"],
            ["outside.json", "lies entirely outside the picture", "(x, y) order"],
        ),
        (["--scribbles", "nothing.json"], ["nothing.json", "annotations is empty; expected"]),
        (["--scribbles", "strokeless.json"], ["strokeless.json", "marks nothing; expected strokes"]),
        (["--scribbles", "twice.json"], ["twice.json", "an earlier entry has too; expected one entry"]),
        (["--scribbles", "case.json"], ["case.json", "'x'", "'X'", "differ only in case"]),
        (["--painting", "text.jpg"], ["text.jpg is not an image file"]),
        (["--painting", "small-mask.png"], ["small-mask.png", "expected the same size"]),
        ([], ["a.png is not annotated; expected one of --mask"]),
    ],
)
def test_annotations_that_cannot_be_used(command, bad, made, options, texts):
    words = [bad / word if "." in word else word for word in options]
    ended = command("segment", "--reference", made / "a.png", *words, made / "t0.png", "-o", bad / "out")
    refused(ended, bad / "out", *texts)


@pytest.mark.parametrize(
    "name, text",
    [
        ("missing.png", "does not exist"),
        ("text.jpg", "is not an image file that can be read"),
        ("zero.png", "is empty (0 bytes); copy or export it again"),
        ("cut.png", "is damaged or cut short"),
        ("huge.png", "400,000,000 pixels, more than the limit of 100,000,000"),
        ("empty", "is a folder; expected an image file"),
    ],
)
def test_references_that_cannot_be_read(command, bad, made, name, text):
    words = ["--reference", bad / name, "--mask", made / "a-mask.png", made / "t0.png", "-o", bad / "out"]
    refused(command("segment", *words), bad / "out", name, text)


def test_bad_targets_do_not_stop_good_ones(command, shown, bad, made, contents):
    names = ["text.jpg", "zero.png", "cut.png", "huge.png"]
    targets = [made / "t0.png", *(bad / name for name in names), made / "t1.png"]
    code, out, err = command("segment", *shown, *targets, "-o", bad / "out")
    assert code == 1 and "6 targets: 2 segmented, 4 failed." in out
    document = json.loads((bad / "out" / "results.json").read_text())
    assert [entry["status"] for entry in document["targets"]] == ["ok", *["failed"] * 4, "ok"]
    for name, entry in zip(names, document["targets"][1:5], strict=True):
        assert name in entry["error"] and ";" in entry["error"]
        assert f"failed: {entry['error']}" in out and entry["error"] in err
    assert {path.stem for path in (bad / "out" / "masks").iterdir()} == {"t0", "t1"}
    command("segment", *shown, made / "t0.png", made / "t1.png", "-o", bad / "good")
    good = contents(bad / "good")
    assert good.items() >= {k: v for k, v in contents(bad / "out").items() if "/" in k}.items()


def test_only_bad_targets(command, shown, bad):
    code, out, _ = command("segment", *shown, bad / "zero.png", "-o", bad / "out")
    assert code == 1 and "1 target: 0 segmented, 1 failed." in out
    assert {path.name for path in (bad / "out").rglob("[!.]*.*")} == {"results.json", "contact_sheet.png"}


def test_the_pixel_limit_can_be_set(command, shown, made, tmp_path):
    ended = command("segment", *shown, made / "t0.png", "-o", tmp_path / "o", "--max-pixels", 9215)
    refused(ended, tmp_path / "o", "a.png has 96x96 = 9,216 pixels, more than the limit")
    for limit, text in ((0, "--max-pixels is 0; expected"), (-4, "--max-pixels is -4")):
        ended = command("segment", *shown, made / "t0.png", "-o", tmp_path / "o", "--max-pixels", limit)
        refused(ended, tmp_path / "o", text)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range(command, shown, made, tmp_path, seed):
    ended = command("segment", *shown, made / "t0.png", "-o", tmp_path / "o", "--seed", seed)
    refused(ended, tmp_path / "o", f"--seed is {seed}; expected a whole number from 0 to")


def test_an_output_folder_that_cannot_be_written(command, shown, made, tmp_path):
    (tmp_path / "file").write_text("mine")
    ended = command("segment", *shown, made / "t0.png", "-o", tmp_path / "file" / "out")
    refused(ended, tmp_path / "file" / "out", "is not a folder; expected another -o")
    assert (tmp_path / "file").read_text() == "mine"


def test_output_that_is_already_there(command, shown, made, tmp_path, contents):
    words = ["segment", *shown, made / "t0.png", "-o", tmp_path / "out"]
    assert command(*words).code == 0
    before = contents(tmp_path / "out")
    code, out, err = command(*words)
    assert (code, out) == (2, "") and "--resume" in err and "--overwrite" in err
    code, out, err = command(*words, "--resume", "--overwrite")
    assert (code, out) == (2, "") and "expected one of them" in err
    assert contents(tmp_path / "out") == before


def test_class_names_that_look_alike(command, shown, made, tmp_path):
    other = ["--reference", made / "b.png", "--mask", made / "b-mask.png", "--class-name", "Disc "]
    ended = command("segment", *shown, *other, made / "t0.png", "-o", tmp_path / "out")
    refused(ended, tmp_path / "out", "'disc'", "'Disc '", "expected one spelling")
    ended = command(
        "segment", "--reference", made / "b.png", "--painting", made / "a.png", "--colours",
        "x=#ff0000,x=#00ff00", made / "t0.png", "-o", tmp_path / "out",
    )  # fmt: skip
    refused(ended, tmp_path / "out", "names the class 'x' twice")


def test_features_that_are_not_finite(command, shown, made, tmp_path, monkeypatch):
    describe = DenseDescriptor.__call__

    def poisoned(self, images):
        features = describe(self, images)
        if images[0, 0, 0, 0] == poisoned.mark:
            return PatchFeatures(features.values.at[0, 0, 0, 0].set(jnp.nan), features.valid, features.grid)
        return features

    from softmatch_jax.imaging import read_image

    monkeypatch.setattr(DenseDescriptor, "__call__", poisoned)
    marks = {name: read_image(made / name)[0, 0, 0] for name in ("a.png", "t0.png", "t1.png")}
    assert len(set(map(int, marks.values()))) == 3
    poisoned.mark = marks["a.png"]
    ended = command("segment", *shown, made / "t0.png", "-o", tmp_path / "out")
    refused(ended, tmp_path / "out", "a.png", "NaN or infinite", "expected finite features")
    poisoned.mark = marks["t0.png"]
    code, out, _ = command("segment", *shown, made / "t0.png", made / "t1.png", "-o", tmp_path / "out")
    assert code == 1 and "t0.png" in out and "NaN or infinite" in out
    assert {path.stem for path in (tmp_path / "out" / "masks").iterdir()} == {"t1"}
