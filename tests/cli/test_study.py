"""``softmatch study``, with encoders of random weights on a SAM that is smaller than the shipped one."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from softmatch_jax import InputError
from softmatch_jax.cli import study, study_contenders
from softmatch_jax.cli.study_arguments import parse_study
from softmatch_jax.cli.study_config import ON_ENCODERS, STUDIES
from softmatch_jax.cli.study_data import open_data
from softmatch_jax.cli.study_training import SLOTS, commands, missing_slots
from softmatch_jax.cli.train_arguments import parse_export, parse_prosam
from softmatch_jax.imaging import write_image
from softmatch_jax.models.prosam.config import DistributionConfig
from softmatch_jax.models.prosam.predictor import Predictor
from softmatch_jax.models.prosam.weights import read_encoder, save_encoder

_MODELS = str(Path(__file__).parents[1] / "models" / "prosam")
if _MODELS not in sys.path:
    sys.path.append(_MODELS)
import small_encoder  # noqa: E402

COLOURS = {"blue": (40, 40, 210), "red": (210, 40, 40)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two classes of three pictures."""
    root = tmp_path_factory.mktemp("discs")
    rows, columns = np.mgrid[:48, :64] + 0.5
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for n in range(3):
            mask = np.hypot(rows - 20 - 3 * n, columns - 16 - 12 * n) < 9 + n
            image = np.where(mask[..., None], colour, (60, 130, 60)).astype(np.uint8)
            write_image(root / name / f"{name}{n}.png", image)
            PIL.Image.fromarray(255 * mask.astype(np.uint8)).save(root / name / f"{name}{n}_mask.png")
    return root


@pytest.fixture(scope="module")
def models() -> Predictor:
    return small_encoder.small_predictor()


@pytest.fixture(autouse=True)
def small_models(models, monkeypatch):
    monkeypatch.setattr(study_contenders, "load_embedded", lambda *given: (models, "small"))


@pytest.fixture(scope="module")
def encoder(models, tmp_path_factory):
    """Writes an encoder of random weights for the small models."""
    root = tmp_path_factory.mktemp("encoders")

    def write(name: str, seed: int = 0, *, distribution=None, said=None, **changes) -> Path:
        sizes = {"channels": models.features.dim, "dim": models.sam.dim, "prompts": 3, **changes}
        config, path = small_encoder.tiny_config(**sizes), root / f"{name}.safetensors"
        family = DistributionConfig(family="student" if config.variational else "none")
        metadata = {"features": models.features.name, "sam": models.sam.name, "size": 64, **(said or {})}
        save_encoder(
            path,
            small_encoder.random_arrays(config, seed),
            config=config,
            distribution=distribution or family,
            metadata=metadata,
        )
        return path

    return write


@pytest.fixture(scope="module")
def two(encoder) -> list[str]:
    vrp, t = encoder("vrp", variational=False), encoder("t", 1)
    return ["--contender", f"vrp={vrp}", "--contender", f"t={t}"]


def data(folder: Path) -> list[object]:
    return ["--dataset", "folder", "--root", folder, "--folds", "2", "--fold", "1"]


def document(out: Path, name: str) -> dict:
    return json.loads((out / f"{name}.json").read_text())


@pytest.mark.slow
def test_a_study_leaves_a_document_a_figure_and_a_sentence(command, two, folder, tmp_path):
    out = tmp_path / "out"
    words = ["study", "rates", *two, *data(folder), "-o", out, "--rates.intervals.replicates", "50"]
    ended = command(*words)
    assert ended.code == 0, ended.err
    found = document(out, "rates")
    assert ended.out == found["conclusion"] + "\n" and "vrp misses" in ended.out
    # The last of two classes is novel in the second fold.
    assert [entry[1] for entry in found["result"]["about"]["episodes"]] == ["red"] * 3
    assert found["result"]["about"]["settings"]["intervals"]["replicates"] == 50
    assert [each["name"] for each in found["contenders"]] == ["vrp", "t"]
    assert found["contenders"][0]["sha256"] == read_encoder(Path(two[1].partition("=")[2])).digest
    assert found["data"]["parts"][0]["questions"] == 3 and "[3/3]" in ended.err
    if importlib.util.find_spec("matplotlib") is not None:
        assert (out / "rates.png").read_bytes().startswith(b"\x89PNG")
    again = command(*words)
    assert again.code == 2 and "rates.json is there already; expected --overwrite" in again.err
    assert command(*words, "--overwrite").code == 0 and document(out, "rates") == found


def test_trainings_are_compared_on_the_same_views(command, encoder, folder, tmp_path):
    files = [encoder("a", 2), encoder("b", 3), encoder("c", 4, variational=False, to_grid="any")]
    named = [f"{name}={file}" for name, file in zip(("prosam", "prosam", "vrp"), files, strict=True)]
    words = [word for each in named for word in ("--contender", each)]
    ended = command(
        "study", "parameters", *words, "--views", f"folder:{folder}", "--view.side", 64, "--view.max-area",
        0.9, "--episodes", 4, "-o", tmp_path, "--trainings.intervals.replicates", 50,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    (part,) = document(tmp_path, "parameters")["result"]["parts"]
    assert len(part["episodes"]) == 4 and {entry[1] for entry in part["episodes"]} == {"region"}
    first, second = part["rows"]
    assert len(first["trainings"]) == 2 and len(second["trainings"]) == 1
    assert first["miou"]["value"] == pytest.approx(np.mean(first["trainings"]))
    assert first["more_miou"] == {"value": 0, "low": 0, "high": 0}
    more = second["miou"]["value"] - first["miou"]["value"]
    assert second["more_miou"]["value"] == pytest.approx(more)
    assert second["by_class"]["region"] == second["miou"]  # of one class they are the same
    assert "prosam (mean of 2 trainings) has a mean IoU of" in ended.out
    # All pictures of the folder are asked about, so no command for the third training can be told.
    assert ended.out.endswith("Not among the contenders: vrp2.\n")


@pytest.mark.parametrize("name", ON_ENCODERS)
def test_each_study_gets_its_settings(name, command, two, folder, tmp_path, monkeypatch):
    given = {}

    def stub(contenders, questions, settings, *, key):
        given.update(count=len(list(questions)), settings=settings)
        return SimpleNamespace(
            conclusion=f"{name} is done.", to_json=lambda: {"rows": []}, figure=lambda path: None
        )

    monkeypatch.setitem(study._STUDIES, name, stub)
    ended = command("study", name, *two, *data(folder), "--episodes", 2, "-o", tmp_path, "--quiet")
    assert (ended.code, ended.out) == (0, f"{name} is done.\n")
    assert ended.err == "" or "matplotlib is not installed" in ended.err
    assert given["count"] == 2 and type(given["settings"]).__name__ == f"{name.title()}Settings"
    assert document(tmp_path, name)["result"] == {"rows": []}


def test_printed_commands_are_those_of_the_training(folder):
    for name in SLOTS:
        words = ["study", name, "-o", "out", "--plan", "--seed", "5", "--contender", "a=b"]
        words += map(str, data(folder)) if name != "domain" else PASCAL
        config = parse_study(words[1:])
        slots = missing_slots(name, [])
        for slot, line in zip(slots, commands(config, slots), strict=True):
            train, export = (shlex.split(part) for part in line.split(" && "))
            parsed = parse_prosam(train[3:])
            assert train[:3] == ["softmatch", "train", "prosam"] and parsed.training.seed == 5
            assert parsed.method == slot.method
            assert slot.samples in (None, parsed.prompts.samples)
            assert slot.nu in (None, parsed.distribution.nu)
            assert (parsed.fold, parsed.dataset) == ((1, "folder") if name != "domain" else (2, "coco20i"))
            assert parse_export(export[3:]).run == parsed.output


def test_printed_commands_train_on_what_is_not_asked(folder):
    words = ["parameters", "-o", "out", "--plan", "--contender", "a=b"]
    for part, other in (("val", "train"), ("train", "val")):
        config = parse_study([*words, "--views", f"folder:{folder}:{part}"])
        for line in commands(config, missing_slots("parameters", [])):
            assert f" --views folder:{folder}:{other} --select none " in line
    published = parse_study([*words, *PASCAL, "--sampling", "published", "--seed", "2"])
    (line, *_) = commands(published, missing_slots("parameters", []))
    assert " --sampling published " in line and " --seed 323 " in line
    for asked, match in (
        (["--views", f"folder:{folder}"], "leaves none to train on; expected a part of them"),
        (["--dataset", "folder", "--root", str(folder)], "expected --fold or --novel"),
    ):
        with pytest.raises(InputError, match=match):
            commands(parse_study([*words, *asked]), missing_slots("parameters", []))


PASCAL = ["--dataset", "pascal5i", "--root", "voc", "--fold", "2"]


def test_what_is_there_is_not_missing(encoder):
    recipe = json.dumps({"prompts": {"samples": 15}})
    files = [
        encoder("k15", distribution=DistributionConfig(nu=3.0), said={"recipe": recipe}),
        encoder("gauss", distribution=DistributionConfig(family="gaussian")),
    ]
    stored = [read_encoder(file) for file in files]
    names = [slot.name for slot in missing_slots("distributions", stored)]
    # The second does not say its K.
    assert names == ["t-k10-nu5", "t-k10-nu3", "t-k15-nu5", "gaussian-k10", "gaussian-k15"]
    assert [slot.name for slot in missing_slots("parameters", stored)] == ["vrp", "vrp2"]


def test_a_plan_needs_no_contender(command, folder, tmp_path):
    ended = command("study", "distributions", *data(folder), "-o", tmp_path / "out", "--plan")
    assert ended.code == 0 and len(ended.out.splitlines()) == 6 and not (tmp_path / "out").exists()


def test_both_groupings_for_the_domain(monkeypatch):
    asked = []

    class Episodes(list):
        name, digest = "pascal", "d"

    monkeypatch.setattr(
        "softmatch_jax.cli.study_data.open_pascal5i", lambda root, **o: asked.append(o) or Episodes()
    )
    config = parse_study(["domain", "-o", "out", "--contender", "a=b", *PASCAL])
    assert len(open_data(config)) == 2
    assert [each["grouping"] for each in asked] == ["standard", "coco"] and asked[0]["fold"] == 2


def test_all_classes_of_a_folder_without_a_fold(folder):
    config = parse_study(
        ["rates", "-o", "out", "--contender", "a=b", "--dataset", "folder", "--root", str(folder)]
    )
    (part,) = open_data(config)
    assert part.count == 6


def refused(words: list[object], match: str) -> None:
    with pytest.raises(InputError, match=match) as error:
        study.run_study(parse_study([str(word) for word in words]))
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_bad_words(folder, tmp_path):
    out, there = ["-o", tmp_path / "out"], data(folder)
    refused(["robustness", *out, *there], f"'robustness' is not a study.*{', '.join(STUDIES)}")
    refused(["noise", *out, *there], "There is no contender")
    refused(["encoders", *out, *there], "There is no contender.*--plan prints how")
    refused(["parameters", *out, *there, "--contender", "a=x"], "names one of them, a; expected at least 2")
    refused(["noise", *out, *there, "--contender", "x.safetensors"], "expected NAME=WEIGHTS")
    refused(["noise", *out, *there, "--contender", "a=x", "--contender", "a=y"], "names a twice")
    refused(["noise", *out, *there, "--contender", f"a={tmp_path}/gone"], "--contender a: .*gone")
    refused(["noise", *out, "--contender", "a=x"], "No data was given")
    refused(["noise", *out, "--dataset", "folder"], "needs its folder")
    refused(["noise", *out, *there, "--views", "folder:x"], "Both --views and --dataset")
    refused(["noise", *out, "--views", "folder:x", "--fold", "1"], "--fold is given without a data set")
    refused(["noise", *out, *there, "--view.side", "64"], "--view.side is given without --views")
    refused(["noise", *out, *there, "--centre.centre", "centroid"], "given for the study noise")
    refused(["noise", *out, *there, "--plan"], "compares no trainings")
    refused(["domain", *out, *there], "--dataset pascal5i with --fold")
    refused(["noise", *out, "--dataset", "folder", "--root", ""], "--root is empty")
    for option in ("--features", "--chunk", "--cache"):
        refused(["noise", *out, *there, option, "4"], f"{option} has no effect on a study")
    assert not (tmp_path / "out").exists()


def test_encoders_and_data_that_do_not_go_together(two, encoder, folder, tmp_path):
    other = encoder("other", said={"features": "resnet50(x)"})
    foreign = encoder("foreign", said={"sam": "tiny-sam(other)"})
    words, out = [*two[:2], "--contender"], ["-o", tmp_path / "out", *data(folder)]
    refused(["noise", *words, f"b={other}", *out], "different features.*study encoders compares")
    refused(["parameters", *words, f"b={foreign}", *out], "different SAMs")
    refused(["rates", *two, *out, "--classes", "green"], "no class 'green'|class 'green'")
    refused(["rates", *two, *out, "--episodes", "0"], "--episodes is 0")
    refused(["rates", *two, *out, "--seed", "-1"], "--seed is -1")
    refused(["rates", *two, *out, "--masks", "x"], "--masks has no effect: all .* with the small SAM")
    refused(["rates", *two, *out, "--prosam-backbone", "vgg16=x"], "--prosam-backbone has no effect")
    refused(["rates", *two, "-o", tmp_path, "--dataset", "pascal5i", "--root", folder], "needs a fold")
    words = ["-o", tmp_path, "--dataset", "coco20i", "--root", folder, "--fold", "0", "--folds", "2"]
    refused(["rates", *two, *words], "--folds is given for coco20i")
    assert not (tmp_path / "out").exists()


def test_a_class_without_pictures(two, folder, tmp_path):
    root = tmp_path / "discs"
    for name in COLOURS:
        (root / name).mkdir(parents=True)
    for n in range(3):
        for file in (f"blue{n}.png", f"blue{n}_mask.png"):
            (root / "blue" / file).write_bytes((folder / "blue" / file).read_bytes())
    refused(
        ["rates", *two, *data(root), "-o", tmp_path / "out", "--classes", "blue", "--classes", "red"],
        "red|classes",
    )
