"""Whole runs with DINOv2, SAM and CLIP of random weights."""

import contextlib
import io
import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from conftest import Ended
from tiny_models import SIDE, write_checkpoints

from softmatch_jax import InputError, SoftmatcherConfig
from softmatch_jax.cli.main import main
from softmatch_jax.imaging import read_image, read_labels
from softmatch_jax.pipelines.cache_files import CacheFiles

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

# What random weights decode resembles nothing.
LOOSE = ["--decision.min-stability", 0, "--decision.min-purity", 0, "--decision.min-resemblance=-99"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small wait for their threads longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return write_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def base(checkpoints):
    """The words that every run has."""
    models = ["--features", checkpoints.features, "--masks", checkpoints.masks, "--size", SIDE]
    return ["segment", "--backend", "foundation", *models]


@pytest.fixture(scope="module")
def two(base, made, checkpoints):
    """Two classes, one by its mask and one by points, and a phrase for one of them."""
    first = ["--reference", made / "a.png", "--mask", made / "a-mask.png", "--class-name", "disc"]
    second = ["--reference", made / "b.png", "--point", "30,60", "--negative-point", "80,10"]
    text = ["--text-model", checkpoints.text, "--text", "disc=the red disc"]
    return [*base, *LOOSE, *first, *second, "--class-name", "blue", *text, made / "t0.png", made / "t1.png"]


def call(*words):
    """As the fixture ``command``, for fixtures that are shared."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main([str(word) for word in words])
    return Ended(code, out.getvalue(), err.getvalue())


def read(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def ran(two, tmp_path_factory):
    """The folder of a run with everything: ``out`` has the results and ``cache`` what was encoded."""
    folder = tmp_path_factory.mktemp("ran")
    ended = call(*two, "--confidence", "--cache", folder / "cache", "-o", folder / "out")
    assert ended.code == 0 and "2 targets: 2 segmented." in ended.out, ended
    return folder


def test_results_say_what_was_done(ran, checkpoints):
    document = read(ran / "out")
    settings = document["settings"]
    assert settings["backend"] == "foundation" and settings["texts"] == {"disc": "the red disc"}
    assert settings["completion"] == asdict(SoftmatcherConfig.foundation().completion)
    assert settings["prompting"] == asdict(SoftmatcherConfig.foundation().prompting)
    for role, kind in (("features", "dinov2"), ("masks", "sam"), ("text", "clip")):
        folder = getattr(checkpoints, role)
        assert document["models"][role].startswith(f"{kind}({folder}@sha256:"), document["models"]
    assert document["versions"]["torch"] == torch.__version__
    assert {"flax", "transformers", "jax"} < set(document["versions"])
    # Two references and two targets, each by three models.
    assert document["timings"]["cache"] == {"hits": 0, "misses": 12}
    # One class may win all pixels of the other, so not everything need be found.
    found = [one for target in document["targets"] for one in target["classes"]]
    assert all(one["kept"] > 0 for one in found) and any(one["area"] for one in found)
    assert all(0 < one["confidence"] <= 1 if one["area"] else one["confidence"] == 0 for one in found)


def test_maps_of_confidence_are_written(ran):
    for target in read(ran / "out")["targets"]:
        labels = read_labels(ran / "out" / target["mask"])
        for index, found in enumerate(target["classes"], start=1):
            assert found["confidence_map"] == found["map"].replace("maps/", "confidence/")
            shown = read_image(ran / "out" / found["confidence_map"])[..., 0] / 255
            assert shown.shape == labels.shape
            if found["area"]:
                assert found["confidence"] == pytest.approx(shown[labels == index].mean(), abs=1 / 255)
    assert len(list((ran / "out" / "confidence").iterdir())) == 4


def test_the_second_run_encodes_nothing_and_is_the_same(ran, two, tmp_path, contents, monkeypatch):
    for model in (transformers.Dinov2Model, transformers.SamVisionModel):
        monkeypatch.delattr(model, "forward")
    ended = call(*two, "--confidence", "--cache", ran / "cache", "-o", tmp_path / "out")
    assert ended.code == 0, ended
    assert read(tmp_path / "out")["timings"]["cache"] == {"hits": 12, "misses": 0}
    assert contents(tmp_path / "out") == contents(ran / "out")


@pytest.mark.slow
def test_the_usual_cache_folder_has_a_word(ran, two, tmp_path, monkeypatch):
    monkeypatch.setenv("SOFTMATCH_CACHE", str(ran / "cache"))
    limit = ["--cache-limit-mb", 100, "--chunk", 2]
    assert call(*two, "--cache", "default", *limit, "-o", tmp_path / "out").code == 0
    assert read(tmp_path / "out")["timings"]["cache"] == {"hits": 12, "misses": 0}


def test_a_text_changes_the_map_of_its_class(ran, two, tmp_path, contents):
    text = two.index("--text-model")
    words = [*two[:text], *two[text + 4 :], "--cache", ran / "cache", "-o", tmp_path / "out"]
    assert call(*words).code == 0
    with_text, without = contents(ran / "out"), contents(tmp_path / "out")
    assert with_text["maps/t0.disc.png"] != without["maps/t0.disc.png"]
    assert with_text["maps/t0.blue.png"] == without["maps/t0.blue.png"]


def test_a_run_without_a_cache_is_the_same(ran, two, tmp_path, contents):
    assert call(*two, "--confidence", "-o", tmp_path / "out").code == 0
    assert contents(tmp_path / "out") == contents(ran / "out")


@pytest.fixture
def copied(ran, tmp_path):
    """The results of :func:`ran`, to be continued."""
    shutil.copytree(ran / "out", tmp_path / "out")
    return tmp_path / "out"


def test_another_text_or_model_is_not_continued(ran, two, copied, checkpoints, contents, tmp_path):
    before = contents(copied)
    words = [*two, "--confidence", "--cache", ran / "cache", "-o", copied, "--resume"]
    other = shutil.copytree(checkpoints.masks, tmp_path / "other")
    for change, said in (
        (["--masks", other], f"models.masks was sam({checkpoints.masks}@"),
        (["--text", "blue=a blue disc"], "settings.texts.blue was None and is a blue disc"),
        (["--cache-half"], "settings.cache_half was False and is True"),
    ):
        ended = call(*words, *change)
        assert (ended.code, ended.out) == (2, "") and said in ended.err, ended
        assert ended.err.count("\n") == 1 and contents(copied) == before
    ended = call(*words)
    assert ended.code == 0 and ended.err.count("kept from an earlier run") == 2
    assert contents(copied) == before


@pytest.mark.slow
def test_maps_of_confidence_can_be_added(ran, two, copied, contents, tmp_path):
    whole = contents(copied)
    shutil.rmtree(copied)
    words = [*two, "--cache", ran / "cache", "-o", copied]
    assert call(*words).code == 0
    assert (
        not (copied / "confidence").exists() and "confidence_map" not in (copied / "results.json").read_text()
    )
    assert call(*words, "--resume", "--confidence").code == 0
    assert contents(copied) == whole
    assert call(*words, "--overwrite").code == 0
    assert not list((copied / "confidence").iterdir())


@pytest.mark.slow
def test_scribbles_and_the_graph(base, made, tmp_path):
    strokes = [{"points": [[30, 50], [48, 52]]}, {"points": [[80, 10], [80, 80]], "positive": False}]
    scribbles = tmp_path / "a.json"
    scribbles.write_text(json.dumps({"softmatch": 1, "annotations": [{"class": "disc", "strokes": strokes}]}))
    ended = call(
        *base, *LOOSE, "--variant", "graph", "--prompting.points", 9, "--completion.rounds", 1,
        "--reference", made / "a.png", "--scribbles", scribbles, made / "t0.png", "-o", tmp_path / "out",
    )  # fmt: skip
    assert ended.code == 0, ended
    document, graph = read(tmp_path / "out"), SoftmatcherConfig.graph()
    assert document["settings"]["prompting"] == asdict(graph.prompting) | {"points": 9}
    assert document["settings"]["decision"]["grouping"] == "graph"
    assert document["settings"]["completion"] == {"points": graph.completion.points, "rounds": 1}
    assert "text" not in document["models"] and document["settings"]["texts"] == {}
    assert document["references"][0]["area"] > 0


def test_full_memory_fails_one_target(base, shown, made, tmp_path, monkeypatch):
    forward, pictures = transformers.SamVisionModel.forward, []

    def full(self, *args, **kwargs):
        pictures.append(1)
        if len(pictures) == 2:  # the reference comes first
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(transformers.SamVisionModel, "forward", full)
    run = (*base, "--runtime", "torch", *LOOSE)
    ended = call(*run, *shown, made / "t0.png", made / "t1.png", "-o", tmp_path / "out")
    assert ended.code == 1 and "2 targets: 1 segmented, 1 failed." in ended.out, ended
    failed, done = read(tmp_path / "out")["targets"]
    assert "does not fit into the GPU's memory; " in failed["error"] and done["status"] == "ok"


def test_a_cache_that_cannot_be_written_is_said_once(base, shown, made, tmp_path, monkeypatch):
    def refuse(self, key, arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CacheFiles, "write", refuse)
    ended = call(*base, *LOOSE, *shown, made / "t0.png", "-o", tmp_path / "out", "--cache", tmp_path / "c")
    assert ended.code == 0
    warned = [line for line in ended.err.splitlines() if not line.startswith("[")]
    assert len(warned) == 1, ended.err
    assert warned[0].startswith(
        f"softmatch: warning: Features cannot be stored in {tmp_path / 'c'} (No space"
    )


def refused(ended, out, *texts):
    """Checks that a command ended before it wrote anything, with one sentence that holds the texts."""
    assert (ended.code, ended.out) == (2, ""), ended
    assert ended.err.startswith("softmatch: error: ") and ended.err.count("\n") == 1, ended.err
    assert all(text in ended.err for text in texts), ended.err
    assert not out.exists()


@pytest.mark.parametrize(
    "words, texts",
    [
        (["--size", "100"], ["--size is 100; expected a multiple of 14", "98 or 112"]),
        (["--size", "0"], ["--size is 0", "nearest: 14)"]),
        (["--text", "a disc"], ["--text 'a disc'", "--text-model openai/clip-vit-base-patch32"]),
        (["--text", "cat=a", "--text-model", "x/y"], ["'cat=a' names no class", "NAME of 'disc'"]),
        (["--text-model", "x/y"], ["without a text", "--text NAME=PHRASE"]),
        (["--text-model-revision", "main"], ["without --text-model"]),
        (["--device", "gpu"], ["The device is 'gpu'; expected auto, cpu"]),
        (["--dtype", "half"], ["The dtype is 'half'; expected auto, float32"]),
        (
            ["--masks", "facebook/sam-vit-base", "--offline"],
            ["facebook/sam-vit-base", "softmatch models fetch"],
        ),
        (["--masks", "./missing"], ["./missing was not found", "check the spelling"]),
        (["--features-revision", "main"], ["where there are no revisions"]),
        (["--cache", __file__], ["is not a folder; expected one for the cache"]),
        (["--cache", ""], ["--cache is empty"]),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_loaded(
    base, shown, made, tmp_path, monkeypatch, words, texts
):
    def loaded(*args, **kwargs):
        raise AssertionError("models are loaded")

    # DINOv2 is the first of them.
    monkeypatch.setattr("softmatch_jax.models.dinov2.Dinov2.load", loaded)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    ended = call(*base, *words, *shown, made / "t0.png", "-o", tmp_path / "out")
    refused(ended, tmp_path / "out", *texts)


def test_checkpoints_that_cannot_be_used(base, shown, made, tmp_path, checkpoints):
    weights = shutil.copytree(checkpoints.masks, tmp_path / "cut") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    long = "the " * 60
    for words, texts in (
        (["--masks", tmp_path / "cut"], [str(tmp_path / "cut")]),
        (["--masks", checkpoints.features], ["'dinov2'"]),
        (["--features", checkpoints.masks], ["'sam'", "expected dinov2"]),
        (["--text", long, "--text-model", checkpoints.masks], ["'sam'", "expected", "clip"]),
        (["--text", long, "--text-model", checkpoints.text], ["tokens; expected at most"]),
        (["--layer", 2], ["layer is 2"]),
    ):
        ended = call(*base, *words, *shown, made / "t0.png", "-o", tmp_path / "out")
        refused(ended, tmp_path / "out", *texts)


def test_the_web_app_takes_phrases_from_its_page(checkpoints, made):
    pytest.importorskip("fastapi")
    from softmatch_jax.cli.serve import make_models, parse_serve
    from softmatch_jax.serve.engine.requests import Example, Examples, Matching, Picture

    folders = [
        "--features",
        checkpoints.features,
        "--masks",
        checkpoints.masks,
        "--text-model",
        checkpoints.text,
    ]
    words = ["--backend", "foundation", *folders, "--size", SIDE, *LOOSE]
    models = make_models(parse_serve([str(word) for word in words]))
    assert models.info.texts and models.info.backend == "foundation"
    labels = (read_labels(made / "a-mask.png") > 0).astype(np.uint16)
    example = Example(picture=Picture("a", made / "a.png"), class_id="c1", labels=labels)
    heats = []
    for digest, phrases in (("plain", {}), ("told", {"c1": "the red disc"})):
        examples = Examples(digest=digest, references=(example,), phrases=phrases)
        (answer,) = models.match([Matching(picture=Picture("t", made / "t0.png"), examples=examples, seed=0)])
        heats.append(answer.classes["c1"].heat)
    assert heats[0].shape == heats[1].shape and (heats[0] != heats[1]).any()
    long = Examples(digest="long", references=(example,), phrases={"c1": "a disc " * 100})
    (answer,) = models.match([Matching(picture=Picture("t", made / "t0.png"), examples=long, seed=0)])
    assert isinstance(answer, InputError) and "tokens; expected at most" in str(answer)
