"""The words of the command line: groups, the rest, and help."""

import dataclasses

import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.cli.arguments import REFERENCE_OPTIONS, parse_segment, split_references
from softmatch_jax.cli.config import ReferenceConfig, SegmentConfig
from softmatch_jax.imaging import DEFAULT_MAX_PIXELS


def test_groups_and_rest_are_separated():
    words = (
        "t1 --reference a --mask m --seed 3 --class-name x t2 --reference=b --point -1,2 --point 3,4 -o out"
    )
    groups, rest = split_references(words.split())
    assert groups == (
        ("--reference=a", "--mask=m", "--class-name=x"),
        ("--reference=b", "--point=-1,2", "--point=3,4"),
    )
    assert rest == ("t1", "--seed", "3", "t2", "-o", "out")


def test_underscores_serve_as_dashes():
    assert split_references(["--reference", "a", "--class_name", "x"]).groups == (
        ("--reference=a", "--class-name=x"),
    )


def test_nothing_behind_two_dashes_is_an_option():
    assert split_references(["--reference", "a", "--", "--mask", "m"]).rest == ("--", "--mask", "m")


@pytest.mark.parametrize(
    "words, sentence",
    [
        ("--mask m --reference a", "--mask m comes before any --reference; expected --reference IMAGE first"),
        ("--reference a --mask", "--mask is the last word; expected its value"),
        ("--reference a --mask --box 1,2,3,4", "--mask is followed by --box; expected its value"),
        ("--reference a --mask -o out", "--mask is followed by -o"),
        ("--reference a --mask m --mask n", "--mask is given twice for --reference a; expected it once"),
    ],
)
def test_misplaced_words(words, sentence):
    with pytest.raises(InputError) as caught:
        split_references(words.split())
    assert sentence in str(caught.value)


def test_settings_are_parsed():
    words = (
        "t1 --reference a --class-name x --point 1,2.5 --negative-point=-1,0 t2 --json t3 "
        "--matching.temperature 0.2 --matching.no-whiten -o out --reference b --box 1,2,3,4 -- -t4"
    )
    config, references = parse_segment(words.split())
    assert config.targets == ("t1", "t2", "t3", "-t4")
    assert config.json and not config.quiet and config.output.name == "out"
    assert config.matching.temperature == 0.2 and not config.matching.whiten
    assert references[0].point == ((1, 2.5),) and references[0].negative_point == ((-1, 0),)
    assert references[0].class_name == "x" and references[0].mask is None
    assert references[1].box == (1, 2, 3, 4)


@pytest.mark.parametrize(
    "words, texts",
    [
        ("t --reference a --mask m", ["--output"]),
        ("t --reference a --mask m -o out --sed 3", ["--sed", "--seed"]),
        ("t --reference a --box 1,2,3 -o out", ["expected 4 numbers", "20,30,180,160"]),
        ("t --reference a --point x -o out", ["expected 2 numbers", "120,80"]),
        ("t --reference a --mask m --mask-threshold high -o out", ["--mask-threshold"]),
        (
            "t --reference a --mask m --matching.temperature 0 -o out",
            ["matching.temperature", "greater than 0"],
        ),
    ],
)
def test_what_cannot_be_parsed_is_said_on_stderr(words, texts, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        parse_segment(words.split())
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and all(text in err for text in texts)


@pytest.mark.parametrize(
    "words, sentence",
    [("t -o out", "No reference was given"), ("--reference a --mask m -o out", "No target was given")],
)
def test_both_sides_are_needed(words, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_segment(words.split())


def test_help_shows_every_option_with_its_text(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as caught:
        parse_segment(["--help"])
    assert not caught.value.code
    text = capsys.readouterr().out
    assert all(option in text for option in REFERENCE_OPTIONS)
    names = {field.name.replace("_", "-") for field in dataclasses.fields(SegmentConfig)} - {
        "targets", "matching", "prompting", "decision",
    }  # fmt: skip
    assert all(f"--{name}" in text for name in names)
    assert "--matching.temperature" in text and "Softmax temperature tau." in text
    assert "The picture that shows the object." in text
    assert max(map(len, text.splitlines())) <= 100


def test_defaults():
    fields = {field.name: field.default for field in dataclasses.fields(SegmentConfig)}
    assert fields["max_pixels"] == DEFAULT_MAX_PIXELS
    assert not ReferenceConfig(reference="a").point
