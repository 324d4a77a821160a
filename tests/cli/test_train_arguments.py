"""From the words after ``softmatch train`` to settings."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.cli.train_arguments import DataWords, parse_data, parse_export, parse_sam, parse_stages
from softmatch_jax.models.sam.tiny_weights import read_weights
from softmatch_jax.training.sam_recipe import TINY


@pytest.mark.parametrize(
    "text, kind, root, part, weight",
    [
        ("bsds500:/data/BSR", "bsds500", "/data/BSR", None, None),
        ("bsds500:/data/BSR:train", "bsds500", "/data/BSR", "train", None),
        ("bsds500:/data/BSR:train=0.85", "bsds500", "/data/BSR", "train", 0.85),
        ("folder:pictures=2", "folder", "pictures", None, 2.0),
        ("folder:pictures:my-part_1=1e-1", "folder", "pictures", "my-part_1", 0.1),
        # Colons and signs that belong to the folder.
        (r"folder:C:\data", "folder", r"C:\data", None, None),
        (r"folder:C:\data:train=3", "folder", r"C:\data", "train", 3.0),
        ("folder:C:/data:train", "folder", "C:/data", "train", None),
        ("folder:C:data", "folder", "C:data", None, None),
        ("folder:/a:b/c", "folder", "/a:b/c", None, None),
        ("folder:/a:b/c:train", "folder", "/a:b/c", "train", None),
        ("folder:/data/10:30:", "folder", "/data/10:30", None, None),
        ("folder:/data/10:30:=2", "folder", "/data/10:30", None, 2.0),
        ("folder:/lr=3/data", "folder", "/lr=3/data", None, None),
        ("folder:/data/lr=3=1", "folder", "/data/lr=3", None, 1.0),
        (r"folder:C:\lr=3\data", "folder", r"C:\lr=3\data", None, None),
        ("folder:/a folder: part", "folder", "/a folder: part", None, None),
    ],
)
def test_data(text, kind, root, part, weight):
    assert parse_data(text) == DataWords(kind=kind, root=Path(root), part=part, weight=weight)


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", "expected KIND:FOLDER"),
        ("bsds500", "expected KIND:FOLDER"),
        (":/data", "expected KIND:FOLDER"),
        ("bsds500:", "without a folder"),
        ("bsds500:=2", "without a folder"),
        ("bsds500::train", "without a folder"),
        ("bsds500:/data=", "with the weight ''; expected a number above 0"),
        ("bsds500:/data/lr=high", r"with the weight 'high'.* write =1 behind it"),
        ("bsds500:/data=0", "with the weight '0'"),
        ("bsds500:/data=-1", "with the weight '-1'"),
        ("bsds500:/data=inf", "with the weight 'inf'"),
        ("bsds500:/data=nan", "with the weight 'nan'"),
    ],
)
def test_data_that_are_refused(text, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        parse_data(text, "--validate")
    assert str(error.value).startswith("--validate is ")


def test_names_do_not_tell_the_place(monkeypatch, tmp_path):
    assert parse_data("bsds500:/data/BSR:train").name == "bsds500 train"
    assert parse_data("camvid:/data/x").name == "camvid"
    assert parse_data("folder:/data/flowers:val=2").name == "folder flowers val"
    monkeypatch.chdir(tmp_path)
    assert parse_data("folder:.").name == f"folder {tmp_path.name}"


def test_stages():
    assert parse_stages("0:128:4") == ((0, 128, 4),)
    assert parse_stages("0:128:4, 13000:192:4") == ((0, 128, 4), (13000, 192, 4))
    for text in ("", "0:128", "0:128:4:1", "0:a:4", "0:128:-4", "0:128:4,"):
        with pytest.raises(InputError, match=r"expected STEP:SIDE:COUNT with commas between"):
            parse_stages(text)


def test_without_options_the_recipe_is_that_of_the_shipped_weights():
    config = parse_sam(["--data", "bsds500:x", "-o", "run"])
    # The texts too: checkpoints know the recipe by a checksum of them.
    assert repr(config.recipe(parse_stages(config.stages))) == repr(TINY)
    shipped = json.loads(read_weights().metadata["recipe"])
    training = {"training": TINY.training.learned_with(), "sam": asdict(TINY.sam)}
    assert shipped == json.loads(json.dumps({**training, **asdict(TINY.batches)}))
    assert (config.output, config.data) == (Path("run"), ("bsds500:x",))
    assert (config.resume, config.init) == (False, None)


def test_every_setting_can_be_set():
    words = "--data a:b --data c:d=2 -o run --resume --steps 5 --validate-every 7 --sam.pixel-loss focal"
    words += " --sam.pixel-weight 20 --framing.whole 0.1 --colours.hue 0.2 --drawing.no-again"
    words += " --pasting.most 1 --stages 0:64:2 --prompts 3 --correct-every 0 --max-minutes 1.5"
    config = parse_sam(words.split())
    recipe = config.recipe(parse_stages(config.stages))
    assert config.data == ("a:b", "c:d=2") and config.resume
    assert (recipe.training.steps, recipe.training.validate_every, recipe.training.max_minutes) == (5, 7, 1.5)
    assert (recipe.sam.pixel_loss, recipe.sam.pixel_weight) == ("focal", 20)
    batches = recipe.batches
    assert (batches.stages, batches.prompts, batches.correct_every) == (((0, 64, 2),), 3, 0)
    assert (batches.framing.whole, batches.colours.hue) == (0.1, 0.2)
    assert (batches.drawing.again, batches.pasting.most) == (False, 1)


@pytest.mark.parametrize(
    "words", [["-o", ""], ["--output="], ["--init", ""], ["--data="], ["--validate", ""], ["--data", ""]]
)
def test_empty_words_are_refused(words):
    with pytest.raises(InputError, match=r"is empty; expected a value"):
        parse_sam(["--data", "a:b", "-o", "run", *words])
    if words[0] in ("-o", "--output="):
        with pytest.raises(InputError, match="--output is empty"):
            parse_export(["run", *words])


@pytest.mark.parametrize(
    "words, part",
    [
        (["--data", "a:b"], "--output"),
        (["-o", "x", "--steps", "many"], "--steps"),
        (["-o", "x", "--steps", "0"], "training.steps is 0"),
        (["-o", "x", "--sam.pixel-loss", "l2"], "--sam.pixel-loss"),
        (["-o", "x", "--step", "3"], "--steps"),
    ],
)
def test_words_that_cannot_be_parsed(words, part, capsys):
    with pytest.raises(SystemExit) as end:
        parse_sam(words)
    assert end.value.code == 2
    assert part in capsys.readouterr().err


def test_export():
    config = parse_export(["run", "-o", "w.safetensors", "--step", "30", "--raw"])
    assert (config.run, config.output) == (Path("run"), Path("w.safetensors"))
    assert (config.step, config.raw) == (30, True)
    config = parse_export(["run", "-o", "w.safetensors"])
    assert (config.step, config.raw) == (None, False)


def test_help_names_all_groups(capsys):
    with pytest.raises(SystemExit) as end:
        parse_sam(["--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0
    for word in ("--data KIND:FOLDER[:PART][=WEIGHT]", "--steps", "--sam.pixel-loss", "--framing.whole",
                 "--colours.hue", "--drawing.merge", "--pasting.share", "--validate-every"):  # fmt: skip
        assert word in out, word
