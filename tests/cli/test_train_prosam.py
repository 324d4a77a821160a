"""Training a prompt encoder from the command line: what is refused, and from pictures to weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.cli import train_prosam
from softmatch_jax.cli.train_arguments import parse_prosam
from softmatch_jax.cli.train_prosam_export import BEST, best_of
from softmatch_jax.cli.train_run_file import RUN
from softmatch_jax.imaging import read_image, write_image, write_indexed_mask
from softmatch_jax.models.prosam.weights import encoder_arrays, read_encoder, save_encoder
from softmatch_jax.pipelines import ProSAM
from softmatch_jax.training.loop import TrainResult
from softmatch_jax.training.metrics import read_metrics
from softmatch_jax.training.prompt_recipe import EMBEDDED, PUBLISHED

SIDE = 64
COLOURS = {"disc": (210, 40, 40), "square": (40, 60, 220), "stripe": (230, 210, 60)}
PALETTE = np.array([[0, 0, 0], *COLOURS.values()], np.uint8)
LABELS = [word for value, name in enumerate(COLOURS, 1) for word in ("--label", f"{value}={name}")]
QUICK = [
    *("--size", "64", "--batch-size", "2", "--prompts.samples", "2", "--encoder.prompts", "2", "--seed", "3"),
    *(
        "--warmup-steps",
        "1",
        "--steps",
        "4",
        "--validate-every",
        "2",
        "--save-every",
        "2",
        "--log-every",
        "2",
    ),
    *("--validate-pairs", "3"),
]


def shape(name: str, x: float, y: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    if name == "disc":
        return np.hypot(rows - y, columns - x) < 14
    near = np.abs(columns - x) < (13 if name == "square" else 5)
    return near & (np.abs(rows - y) < (13 if name == "square" else 26))


def draw(folder: Path, per_class: int, names=tuple(COLOURS), first: int = 0) -> Path:
    """Pictures of one thing each, with maps of classes."""
    folder.mkdir(parents=True, exist_ok=True)
    for value, name in enumerate(COLOURS, 1):
        for number in range(first, first + per_class if name in names else first):
            rng = np.random.default_rng([value, number])
            mask = shape(name, *rng.uniform(24, 40, 2))
            image = np.where(mask[..., None], COLOURS[name], (60, 130, 60)) + rng.normal(
                0, 9, (SIDE, SIDE, 3)
            )
            write_image(folder / f"{name}{number}.png", np.clip(image, 0, 255).astype(np.uint8))
            write_indexed_mask(folder / f"{name}{number}-mask.png", mask.astype(np.uint8) * value, PALETTE)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return draw(tmp_path_factory.mktemp("data") / "pictures", 4)


@pytest.fixture
def given(pictures) -> list[str]:
    """A good data set, with the words that make its training quick."""
    return ["--dataset", "folder", "--root", str(pictures), "--held-share", "0.5", *LABELS, *QUICK]


@pytest.fixture
def run(tmp_path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def compiled_plainly() -> Iterator[None]:
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def parsed(*words: str):
    return parse_prosam(["-o", "run", *words])


def test_the_embedded_recipe_is_the_default():
    config = parsed()
    assert config.training == EMBEDDED.training and config.batch_size == 8
    assert config.encoder.sized(192, 128) == EMBEDDED.encoder
    assert (config.distribution, config.prompts.plain()) == (EMBEDDED.distribution, EMBEDDED.prompts)
    assert config.training.optimiser == "muon" and config.training.steps == 800
    assert config.annotation_mode == "fixed" and config.epochs is None


def test_the_published_recipe():
    for words in (["--recipe", "published"], ["--backend", "foundation", "--prosam-backbone", "dinov2=x"]):
        config = parsed(*words)
        assert config.training == PUBLISHED.training and config.batch_size == 2 and config.epochs == 100
        assert config.encoder.sized(1536, 256) == PUBLISHED.encoder
        training = config.training
        assert (training.optimiser, training.learning_rate, training.weight_decay) == ("adamw", 1e-4, 1e-6)
        assert (training.seed, training.clip_norm, training.ema_decay) == (321, 0, 0)
        assert (config.prompts.samples, config.distribution.nu, config.encoder.dropout) == (10, 5, 0.5)
        assert config.annotation_mode == "published"
    assert parsed("--backend", "foundation", "--recipe", "embedded").training == EMBEDDED.training


@pytest.mark.parametrize(
    "method, variational, extra, family, samples",
    [
        ("t", True, 0, "student", 10),
        ("gaussian", True, 0, "gaussian", 10),
        ("vrp", False, 0, "none", 1),
        ("vrp+2", False, 2, "none", 1),
    ],
)
def test_methods_set_defaults(method, variational, extra, family, samples):
    config = parsed("--method", method, "--distribution.nu", "7")
    assert (config.encoder.variational, config.encoder.extra_linear) == (variational, extra)
    assert (config.distribution.family, config.prompts.samples) == (family, samples)
    assert config.distribution.nu == 7


def test_epochs_become_steps():
    settle = train_prosam.settle_training
    # 11 pairs an epoch in batches of 2.
    training = settle(parsed("--recipe", "published"), 11)
    assert (training.steps, training.validate_every, training.restart_every) == (550, 6, 0)
    training = settle(parsed("--recipe", "published", "--schedule", "restarts"), 11)
    assert (training.steps, training.restart_every) == (550, 82)
    training = settle(parsed("--recipe", "published", "--steps", "9", "--validate-every", "4"), 11)
    assert (training.steps, training.validate_every) == (9, 4)
    training = settle(parsed("--schedule", "restarts", "--restart-every", "30"), 11)
    assert (training.steps, training.restart_every) == (800, 30)
    with pytest.raises(InputError, match=r"--epochs is 0.* expected"):
        settle(parsed("--epochs", "0"), 11)


@pytest.mark.parametrize(
    "words, sentence",
    [
        ("--prosam-backbone dinov2=x", "--prosam-backbone has no effect on the embedded models"),
        ("--backend foundation --embedded-weights w", "--embedded-weights has no effect on the foundation"),
        ("--fold 1", "--fold has no effect on a training without a data set"),
        ("--dataset folder --held-folder val --held-share 0.2", "--held-share has no effect on a held-out f"),
        ("--select none --validate-pairs 9", "--validate-pairs has no effect on --select none"),
        ("--steps 3 --epochs 2", "Both --steps and --epochs are given"),
        ("--restart-every 3", "expected --schedule restarts"),
    ],
)
def test_words_that_do_not_go_together(words, sentence):
    with pytest.raises(InputError, match=sentence):
        parsed(*words.split())


@pytest.mark.parametrize(
    "words, sentence",
    [
        ("--prompts.samples 0", "prompts.samples (K) is 0; expected at least 1"),
        ("--distribution.nu -1", "distribution.nu is -1"),
    ],
)
def test_settings_out_of_range(words, sentence, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit) as ended:
        parsed(*words.split())
    assert ended.value.code == 2 and sentence in capsys.readouterr().err


def refused(command, run, sentence, *words):
    """Exit status 2, one sentence, no folder."""
    code, out, err = command("train", "prosam", "-o", run, *words)
    assert (code, out) == (2, "") and err.count("\n") == 1, err
    assert sentence in err
    assert not run.exists()


def test_bad_data_are_told_before_there_is_a_folder(command, run, pictures, given, tmp_path):
    lone = draw(draw(tmp_path / "lone", 2, ("square",)), 1, ("disc",))
    elsewhere = draw(tmp_path / "elsewhere", 1)
    folder = ("--dataset", "folder", "--root")
    refused(command, run, "No data was given; expected --dataset NAME with --root")
    refused(command, run, "needs its folder; expected --root", "--dataset", "folder")
    refused(command, run, "--root is given without a data set", "--root", pictures)
    refused(command, run, "nowhere does not exist", *folder, tmp_path / "nowhere")
    refused(command, run, "'disc'", *folder, lone, *LABELS, "--held-share", "0", "--select", "none")
    refused(command, run, "fold is 3; expected 0 to 2", *given, "--fold", "3", "--folds", "3")
    refused(command, run, "pascal5i needs a fold", "--dataset", "pascal5i", "--root", pictures)
    refused(command, run, "no published sampling", *given, "--sampling", "published", "--seed", "321")
    refused(command, run, "published sampling counts its seeds from 321", *given, "--sampling", "published")
    refused(command, run, "--annotation box is given twice", *given, *["--annotation", "box"] * 2)
    refused(command, run, "No pictures are held out", *given, "--held-share", "0")
    refused(command, run, "no held-out views", *given, "--select", "views")
    refused(command, run, "no held-out views", "--views", f"masks:{pictures}")
    refused(command, run, "--select novel chooses by the novel classes, and there are none", *given,
            "--select", "novel")  # fmt: skip
    refused(command, run, "expected a multiple of 3", *given, "--accumulate", "3")
    refused(command, run, "with a weight", *given, "--validate-views", f"masks:{elsewhere}=2")
    refused(command, run, "3 pictures that are trained on (", "--views", f"masks:{elsewhere}",
            "--validate-views", f"masks:{elsewhere}")  # fmt: skip


def test_views_of_novel_classes_would_leak(command, run, pictures, given):
    words = [*given, "--novel", "stripe", "--views", f"masks:{pictures}"]
    refused(
        command,
        run,
        "--views has 4 pictures that are of novel classes (stripe0, stripe1, stripe2, stripe3)",
        *words,
    )


def test_bad_models_are_told_before_there_is_a_folder(command, run, given, tmp_path):
    refused(command, run, "expected a multiple of 16 up to 256", *given, "--size", "72")
    refused(command, run, "none.safetensors cannot be read", *given, "--init", tmp_path / "none.safetensors")
    foundation = (*given[: -len(QUICK)], "--backend", "foundation")
    refused(command, run, "expected --prosam-backbone KIND=NAME", *foundation)
    refused(command, run, "The backbone is 'swin=x'; expected KIND=NAME with a KIND of resnet50", *foundation,
            "--prosam-backbone", "swin=x")  # fmt: skip


def test_an_encoder_of_other_settings_or_models_is_no_start(command, run, given, tmp_path):
    from flax import nnx

    from softmatch_jax.models.prosam.encoder import PromptEncoder

    models = train_prosam.open_models(parsed("--size", "64"))
    other = replace(EMBEDDED.encoder, prompts=3)
    arrays = encoder_arrays(PromptEncoder(other, rngs=nnx.Rngs(0)))
    for name, about in (("sizes", models.about), ("models", {**models.about, "sam": "sam-vit-base(x)"})):
        path = tmp_path / f"{name}.safetensors"
        save_encoder(path, arrays, config=other, distribution=EMBEDDED.distribution, metadata=about)
    sentence = "encoder.prompts is 3 there and 2 here"
    refused(command, run, sentence, *given, "--init", tmp_path / "sizes.safetensors")
    sentence = "was trained with sam-vit-base(x), and this is tiny-sam("
    refused(command, run, sentence, *given, "--init", tmp_path / "models.safetensors")


@pytest.mark.parametrize(
    "stopped, status",
    [(None, 0), ("the 3 minutes are over", 0), ("SIGINT was received", 130), ("SIGTERM was received", 143)],
)
def test_exit_status_and_last_lines(stopped, status, command, run, given, monkeypatch):
    def train(*args, **options):
        lines = ({"step": 2, "val_miou": 0.5}, {"step": 3, "loss": 1.5}, {"step": 4, "val_miou": 0.25})
        return TrainResult(None, None, 4, 0, lines, stopped)

    monkeypatch.setattr(train_prosam, "train", train)
    code, out, err = command("train", "prosam", *given, "-o", run, "--quiet")
    assert code == status
    assert f"Best val_miou: 0.5000 after step 2 ({BEST}); last 0.2500." in out
    assert f"softmatch train export {run} -o" in out
    assert ("with --resume" in out) == bool(stopped) == bool(err)


def test_choosing_by_novel_classes_is_said(command, run, given, monkeypatch):
    monkeypatch.setattr(train_prosam, "train", lambda *a, **o: TrainResult(None, None, 0, 0, (), None))
    words = [*given, "--novel", "stripe", "--select", "novel", "-o", run]
    code, _, err = command("train", "prosam", *words)
    assert code == 0 and "Novel classes, not trained on: stripe." in err
    assert "chosen by the novel classes themselves (--select novel)" in err
    assert json.loads((run / RUN).read_text())["select"]["by"] == "novel"


def test_the_best_is_the_first_of_the_greatest():
    lines = [{"step": 2, "a": 0.1}, {"step": 3, "b": 9.0}, {"step": 4, "a": 0.7}, {"step": 6, "a": 0.7}]
    assert best_of(lines, "a") == (0.7, 4)
    assert best_of([*lines, {"step": 8, "a": None}], "a") == (0.7, 4)
    assert best_of(lines, "c") is None


def test_the_best_encoder_is_kept_by_the_lines_of_metrics(tmp_path, monkeypatch):
    written: list[dict] = []
    monkeypatch.setattr(
        train_prosam, "save_encoder", lambda path, *a, metadata, **o: written.append(metadata)
    )
    monkeypatch.setattr(train_prosam, "metadata_of", lambda document: {})

    class Scores:
        metric = "val_miou"

        def __call__(self, params):
            return {"val_miou": params["score"]}

    class Task:
        encoder = distribution = None

    measure = train_prosam.keeping_best(tmp_path, Scores(), Task(), {})
    file = tmp_path / "metrics.jsonl"
    for step, score in enumerate([0.3, 0.2, 0.4, 0.4], 1):
        found = measure({"score": score, "encoder": {}})
        with file.open("a") as lines:
            lines.write(json.dumps({"step": step, **found}) + "\n")
    assert [each["val_miou"] for each in written] == [0.3, 0.4]
    # What went on past the last checkpoint is cut, and has to be found again.
    file.write_text("".join(line + "\n" for line in file.read_text().splitlines()[:2]))
    measure({"score": 0.4, "encoder": {}})
    assert [each["val_miou"] for each in written] == [0.3, 0.4, 0.4]


@pytest.mark.slow
def test_from_pictures_to_an_encoder(command, run, pictures, given, tmp_path, compiled_plainly):
    words = ["train", "prosam", *given, "--novel", "stripe", "--annotation", "mask", "--annotation", "box"]
    code, out, err = command(*words, "-o", run)
    assert code == 0, err
    assert "Novel classes, not trained on: stripe." in err and "[4/4] val_miou" in err
    assert "Best val_miou: " in out and f"train export {run}" in out
    lines = read_metrics(run / "metrics.jsonl")
    measured = [line for line in lines if "val_miou" in line]
    assert [line["step"] for line in measured] == [2, 4]
    assert all(line.keys() == {"step", "val_miou", "val_iou"} for line in measured)
    assert {"loss", "iou", "sigma"} <= next(line for line in lines if "loss" in line).keys()
    document = json.loads((run / RUN).read_text())
    assert document["kind"] == "prosam" and document["models"]["size"] == 64
    assert document["recipe"]["annotation"] == ["mask", "box"] and document["novel"] == ["stripe"]

    # What goes on must be what was begun.
    code, _, err = command(*words, "-o", run)
    assert code == 2 and "holds an earlier training; give --resume" in err
    for changed, sentence in (
        (["--encoder.heads", "2"], "encoder.heads is 4 there and 2 here"),
        (["--distribution.nu", "6"], "distribution.nu is 5.0 there and 6.0 here"),
        (["--size", "80"], "models.features is"),
        (["--select", "novel"], "select.by is 'base' there and 'novel' here"),
        (["--schedule", "restarts", "--restart-every", "2"], "training.restart_every is None there and 2"),
    ):
        code, _, err = command(*words, "-o", run, "--resume", *changed)
        assert code == 2 and err.count("\n") == 1 and sentence in err, err
    code, _, err = command("train", "sam", "--data", f"masks:{pictures}", "-o", run, "--resume")
    assert code == 2 and "kind is 'prosam' there and 'sam' here" in err

    # A training that is stopped half-way and goes on learns the same, bit for bit.
    half = tmp_path / "half"
    assert command(*words, "-o", half, "--max-minutes", "1e-9").code == 0
    assert len(read_metrics(half / "metrics.jsonl")) < len(lines)
    code, _, err = command(*words, "-o", half, "--resume")
    assert code == 0 and "Resumed after step 1 of 4" in err, err
    files = {}
    for name, folder, options in (
        ("last", run, ()),
        ("again", half, ()),
        ("raw", run, ("--raw",)),
        ("best", run, ("--best",)),
    ):
        path = tmp_path / f"{name}.safetensors"
        code, out, err = command("train", "export", folder, "-o", path, *options)
        assert code == 0 and "prompt encoder after step" in out, err
        files[name] = read_encoder(path)
    assert same(files["last"], files["again"]) and not same(files["last"], files["raw"])
    assert same(files["best"], read_encoder(run / BEST)) and same(files["best"], read_encoder(half / BEST))
    best = best_of(lines, "val_miou")
    assert int(files["best"].metadata["step"]) == best[1]
    assert json.loads(files["best"].metadata["metrics"])["val_miou"] == best[0]
    about = files["last"].metadata
    assert (about["size"], about["step"], about["seed"], about["parameters"]) == ("64", "4", "3", "averaged")
    assert json.loads(about["recipe"])["batch_size"] == 2
    code, _, err = command("train", "export", run, "-o", tmp_path / "no.safetensors", "--best", "--step", "2")
    assert code == 2 and "without --step and --raw" in err and not (tmp_path / "no.safetensors").exists()

    # The file is all that segmenting needs.
    prosam = ProSAM.embedded(tmp_path / "best.safetensors")
    assert prosam.predictor.config.prompts == 2
    image = read_image(pictures / "disc0.png")
    prompts = prosam.predictor.see(image)
    assert prompts.values.shape[-1] == 192
    # And it can be started from, with the same settings.
    task = train_prosam.open_task(
        parsed(*given, "--init", str(tmp_path / "best.safetensors")), train_prosam.open_models(parsed(*given))
    )
    begun = task.init(jax.random.key(0))["encoder"]
    assert all((np.asarray(begun[name]) == array).all() for name, array in files["best"].arrays.items())


def same(one, other) -> bool:
    return all((one.arrays[name] == other.arrays[name]).all() for name in one.arrays)


@pytest.mark.slow
def test_views_alone(command, run, pictures, tmp_path, compiled_plainly):
    held = draw(tmp_path / "held", 1, first=20)
    words = ["--views", f"masks:{pictures}", "--validate-views", f"masks:{held}", "--view.side", "64", *QUICK]
    code, out, err = command("train", "prosam", *words, "--steps", "2", "--method", "vrp",
                             "--prompts.samples", "1", "-o", run)  # fmt: skip
    assert code == 0, err
    assert "Best val_views_iou" in out and json.loads((run / RUN).read_text())["select"]["by"] == "views"
    weights = tmp_path / "w.safetensors"
    assert command("train", "export", run, "-o", weights, "--best").code == 0
    assert not read_encoder(weights).config.variational
