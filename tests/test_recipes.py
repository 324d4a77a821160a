"""The commands and the figures of the recipes in ``bench/recipes`` stand as they are."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import softmatch_jax.cli.compare
import softmatch_jax.cli.data
import softmatch_jax.cli.merge
import softmatch_jax.cli.models
from softmatch_jax.cli.backend import check_models
from softmatch_jax.cli.evaluate_arguments import parse_evaluate, parse_labels, parse_shard
from softmatch_jax.cli.main import main
from softmatch_jax.cli.train_arguments import (
    parse_data,
    parse_export,
    parse_prosam,
    parse_sam,
    parse_stages,
)
from softmatch_jax.data import published_counts
from softmatch_jax.data.catalogue import FOLDED, PUBLISHED

RECIPES = Path(__file__).resolve().parents[1] / "bench" / "recipes"
FILES = sorted(RECIPES.glob("*.md"))
TABLES = ("softmatcher_table1", "prosam_table1", "prosam_table2", "prosam_table3")


def commands(text: str) -> list[list[str]]:
    """The words of every command in the shell blocks of a recipe, without the program's name."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("softmatch ")]


PRINTED_OTHERWISE = (39.85, 63.35, 68.75, 64.08, 60.8)  # means in the papers that are not those of the folds

COMMANDS = [
    pytest.param(words, id=f"{path.stem}-{number}")
    for path in FILES
    for number, words in enumerate(commands(path.read_text(encoding="utf-8")))
]


class ParsedError(Exception):
    """Raised in place of running a command."""


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    """A command that was parsed ends there."""

    def stop(config):
        raise ParsedError(config)

    for module, names in (
        (softmatch_jax.cli.data, ("_prepare_pascal", "_prepare_coco", "_check_pascal", "_check_coco")),
        (softmatch_jax.cli.models, ("_fetch",)),
        (softmatch_jax.cli.merge, ("merge",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, stop)
    monkeypatch.setattr(softmatch_jax.cli.compare, "_load", stop)


@pytest.mark.parametrize("words", COMMANDS)
def test_command_parses(words):
    if words[:2] == ["train", "sam"]:
        config = parse_sam(words[2:])
        assert parse_stages(config.stages) and [parse_data(text, "--data") for text in config.data]
        return
    if words[:2] == ["train", "prosam"]:
        assert parse_prosam(words[2:]).dataset in ("pascal5i", "coco20i")
        return
    if words[:2] == ["train", "export"]:
        assert parse_export(words[2:]).output.suffix == ".safetensors"
        return
    if words[0] != "evaluate":
        with pytest.raises(ParsedError):
            main(words)
        return
    config = parse_evaluate(words[1:])
    check_models(config)
    parse_labels(config.label)
    parse_shard(config.shard)
    assert not config.fold or config.dataset in FOLDED
    assert config.folds == "standard" or config.dataset == "pascal5i"
    assert config.sampling != "published" or config.dataset in PUBLISHED


def test_every_line_of_a_shell_block_is_a_command_of_ours():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        for block in re.findall(r"^```sh\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("python "):
                    assert (RECIPES.parents[1] / line.split()[1]).is_file(), f"{path.name}: {line}"
                    continue
                ours = ("softmatch ", "DATA=", "pip install 'softmatch-jax[")
                assert line.startswith(ours), f"{path.name}: {line}"


def test_commands_write_to_folders_of_their_own():
    for path in FILES:
        written = [
            (parsed.output, parsed.shard)
            for words in commands(path.read_text(encoding="utf-8"))
            if words[0] == "evaluate" and (parsed := parse_evaluate(words[1:]))
        ]
        assert len(written) == len(set(written)), path.name


@pytest.mark.parametrize("name", TABLES)
def test_papers_are_asked_by_their_protocol(name):
    asked = [
        parse_evaluate(words[1:])
        for words in commands((RECIPES / f"{name}.md").read_text(encoding="utf-8"))
        if words[0] == "evaluate" and "--stride" not in words
    ]
    assert asked
    for config in asked:
        assert (config.backend, config.sampling, config.raster) == ("foundation", "published", "published")
        assert config.method == ("prosam",) or config.models.features == "facebook/dinov2-large"
        assert config.models.masks == "facebook/sam-vit-huge"
        assert not config.matching.whiten and config.prompting.sampler == "multinomial"


def rows(name: str) -> list[list[str]]:
    """The cells of all lines of the tables in a recipe."""
    text = (RECIPES / f"{name}.md").read_text(encoding="utf-8")
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", text, re.M)
    ]


@pytest.mark.parametrize(("name", "count"), [("prosam_table1", 21), ("prosam_table2", 22)])
def test_published_means_are_those_of_the_folds(name, count):
    means = [row for row in rows(name) if len(row) == 8 and re.fullmatch(r"[\d.]+", row[2])]
    assert len(means) == count
    for row in means:
        folds, mean = np.array(row[2:6], float), float(row[6])
        rounding = 0.5 * 10.0 ** -len(row[6].partition(".")[2])
        if mean not in PRINTED_OTHERWISE:
            assert abs(folds.mean() - mean) <= rounding + 1e-6, row


def test_counts_are_those_that_check_compares():
    told = {row[0]: row[1:] for row in rows("prosam_table1") if len(row) == 6}

    def cells(*values):
        return ["unknown" if value is None else str(value) for value in values]

    for split in ("val", "train"):
        listed, pictures = published_counts.PASCAL_LISTED[split], published_counts.PASCAL_PICTURES[split]
        assert told[f"PASCAL-5i, {split}"] == cells(*listed, pictures)
    listed = (*published_counts.COCO_VAL_LISTED, published_counts.COCO_VAL_PICTURES)
    assert told["COCO-20i, val, pictures"] == cells(*listed)
    assert told["COCO-20i, val, entries"] == cells(*published_counts.COCO_VAL_ENTRIES, None)
