"""The words of the command line: groups, the rest, and help."""

import dataclasses
from pathlib import Path

import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.cli.arguments import REFERENCE_OPTIONS, parse_segment, split_references
from softmatch_jax.cli.config import ReferenceConfig, SegmentConfig
from softmatch_jax.imaging import DEFAULT_MAX_PIXELS
from softmatch_jax.pipelines import ModelsConfig, SoftmatcherConfig


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
        "--matching.temperature 0.2 --matching.no-whiten -o out --reference b "
        "--box 1,2,3,4 -- -t4"
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
        "targets", "models", "matching", "prompting", "decision", "completion",
    } | {field.name.replace("_", "-") for field in dataclasses.fields(ModelsConfig)} - {"norm"}  # fmt: skip
    assert all(f"--{name}" in text for name in names) and "--no-norm" in text
    assert "--matching.temperature" in text and "Softmax temperature tau." in text
    assert "The picture that shows the object." in text
    assert max(map(len, text.splitlines())) <= 100


GIVEN = ["t", "--reference", "a", "--mask", "m", "-o", "out"]


def settings_of(*words):
    config, _ = parse_segment([*GIVEN, *words])
    return SoftmatcherConfig(
        matching=config.matching,
        prompting=config.prompting,
        decision=config.decision,
        completion=config.completion,
    )


def test_defaults_go_with_the_back_end():
    foundation, graph = ["--backend", "foundation"], SoftmatcherConfig.graph()
    assert settings_of() == settings_of("--backend", "embedded") == SoftmatcherConfig()
    small = settings_of("--embedded-masks", "tiny")
    assert small == SoftmatcherConfig.embedded("tiny") != SoftmatcherConfig()
    assert settings_of("--embedded-masks=tiny", "--decision.min-evidence", "0") == SoftmatcherConfig()
    assert settings_of("--embedded-masks", "both") == SoftmatcherConfig()
    assert settings_of(*foundation) == settings_of("--backend=foundation") == SoftmatcherConfig.foundation()
    assert settings_of("--variant", "clusters", *foundation) == SoftmatcherConfig.foundation()
    assert settings_of("--variant", "graph", *foundation) == graph
    assert settings_of("--variant=graph", *foundation, "--prompting.points", "9") == dataclasses.replace(
        graph, prompting=dataclasses.replace(graph.prompting, points=9)
    )


def test_help_shows_the_defaults_of_the_back_end(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    shown = []
    for words in ([], ["--backend", "foundation"], ["--backend=foundation", "--variant=graph"]):
        with pytest.raises(SystemExit):
            parse_segment([*words, "--help"])
        (line,) = (line for line in capsys.readouterr().out.splitlines() if "Most points taken. " in line)
        shown.append(line.split("default: ")[1].split(")")[0])
    assert shown == ["128", "40", "64"]


def test_models_are_parsed():
    words = "--backend foundation --masks sam --features dino --no-norm --cache c --text_model clip --text a"
    config, (reference,) = parse_segment([*GIVEN, *words.split(), "--text", "b=c d", "--size=28"])
    assert reference.mask.name == "m" and config.models.masks == "sam"
    models = {"masks": "sam", "features": "dino", "norm": False, "text_model": "clip", "size": 28}
    changed = dataclasses.replace(ModelsConfig(), **models)
    assert dataclasses.asdict(config.models) | {"cache": None} == dataclasses.asdict(changed)
    assert config.models.cache.name == "c" and config.text == ("a", "b=c d")


def models_of(*words):
    config, _ = parse_segment([*GIVEN, "--backend", "foundation", *words])
    return config.models


def test_the_bounds_are_parsed():
    models = models_of("--cache", "c", "--cache-limit-mb", "500", "--chunk=4")
    assert (models.cache_limit_mb, models.chunk) == (500, 4)
    assert (models_of().cache_limit_mb, models_of().chunk) == (None, None)


def test_the_runtime_is_parsed(capsys, monkeypatch):
    assert (models_of().runtime, models_of("--runtime", "torch").runtime) == ("jax", "torch")
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        models_of("--runtime", "onnx")
    assert caught.value.code == 2 and "--runtime" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, text",
    [
        ("--chunk 0", "models.chunk is 0"),
        ("--cache c --cache-limit-mb 0", "models.cache_limit_mb is 0"),
        ("--cache-limit-mb 5", "no cache to bound"),
    ],
)
def test_bounds_out_of_range(words, text, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        models_of(*words.split())
    assert caught.value.code == 2 and text in capsys.readouterr().err


def test_the_usual_cache_folder_has_a_word(tmp_path, monkeypatch):
    monkeypatch.setenv("SOFTMATCH_CACHE", str(tmp_path))
    assert models_of("--cache", "default").cache == models_of("--cache=default").cache == tmp_path
    assert models_of("--cache", "./default").cache == Path("default")
    assert models_of().cache is None


@pytest.mark.parametrize("back_end", ["embedded", "foundation"])
def test_what_is_on_in_one_back_end_has_both_switches(back_end):
    base = ["--backend", back_end]
    for whiten in (True, False):
        word = "--matching.whiten" if whiten else "--matching.no-whiten"
        assert settings_of(*base, word).matching.whiten is whiten
    for contrast in (True, False):
        word = "--matching.contrast" if contrast else "--matching.no-contrast"
        assert settings_of(*base, "--matching.no-whiten", word).matching.contrast is contrast
    assert models_of("--norm").norm and not models_of("--no-norm").norm


def helped(capsys, monkeypatch, *words):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        parse_segment([*words, "--help"])
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize("back_end", ["embedded", "foundation"])
def test_help_is_right_for_the_switch_it_stands_by(back_end, capsys, monkeypatch):
    text = helped(capsys, monkeypatch, "--backend", back_end)
    assert "--norm, --no-norm Apply DINOv2's last LayerNorm. (default: True)" in text
    assert "--matching.whiten, --matching.no-whiten Whiten features" in text
    assert "--matching.contrast, --matching.no-contrast Contrast the object" in text
    # A switch that is off needs no opposite.
    assert [word for word in text.split() if "--no-" in word] == ["--no-norm"]


def test_help_says_whose_the_settings_are(capsys, monkeypatch):
    text = helped(capsys, monkeypatch)
    assert "settings after the paper's Fig. 1" in text and "none of them tuned on public weights yet" in text
    assert "the paper's settings" not in text
    assert "The word default stands for $SOFTMATCH_CACHE" in text


def test_masks_and_mask_are_not_confused():
    with pytest.raises(InputError, match="--masks has no effect on the embedded models"):
        parse_segment(["t", "--reference", "a", "--masks", "m", "-o", "out"])
    with pytest.raises(InputError, match="--mask sam comes before any --reference"):
        parse_segment(["t", "--backend", "foundation", "--mask", "sam", "-o", "out"])


@pytest.mark.parametrize(
    "words",
    [
        "--features x", "--masks=x", "--text a", "--text_model x", "--variant graph", "--size 518",
        "--offline", "--no-norm", "--norm", "--chunk 2", "--cache c", "--completion.points 3",
        "--device cpu --backend embedded",
    ],
)  # fmt: skip
def test_options_of_the_foundation_need_it(words):
    option = words.replace("=", " ").split()[0].replace("_", "-")
    with pytest.raises(InputError, match=f"^{option} has no effect.*--backend foundation"):
        parse_segment([*GIVEN, *words.split()])
    if "embedded" not in words:
        parse_segment([*GIVEN, "--backend", "foundation", *words.split()])


def test_a_back_end_that_is_none(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        parse_segment([*GIVEN, "--backend", "sam"])
    assert "embedded" in capsys.readouterr().err


def test_defaults():
    fields = {field.name: field.default for field in dataclasses.fields(SegmentConfig)}
    assert fields["max_pixels"] == DEFAULT_MAX_PIXELS
    assert not ReferenceConfig(reference="a").point
