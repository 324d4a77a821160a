"""DINOv2, SAM and CLIP put together, from tiny checkpoints: random weights find nothing, but all must fit."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from scenes import RED, scene
from small_models import write_models

from softmatch_jax import InputError, Softmatcher, SoftmatcherConfig
from softmatch_jax.models import optional
from softmatch_jax.models.sam.embedding import explain_out_of_memory
from softmatch_jax.pipelines import ModelsConfig
from softmatch_jax.pipelines.foundation import load_models
from softmatch_jax.prompting import Box, Points, Polyline, Scribbles

SIZE, KEY, SIDE = (90, 120), jax.random.key(0), 112


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def lenient():
    """Random weights see nothing in anything, so that nothing must be expected of proposals."""
    config = SoftmatcherConfig.foundation()
    decision = replace(
        config.decision, min_score=0.0, min_stability=0.0, min_purity=0.0, min_resemblance=-9.0
    )
    return replace(config, decision=decision)


@pytest.fixture(scope="module")
def matcher(folders, lenient):
    return Softmatcher.foundation(ModelsConfig(size=SIDE, device="cpu"), lenient, **folders)


@pytest.fixture(scope="module")
def picture():
    return scene(SIZE, [((60, 45), 25, RED)], 0)


def test_pictures_go_all_the_way(matcher, picture):
    image, (mask,) = picture
    reference = matcher.reference(image, mask, class_name="disc")
    for size in (SIZE, (70, 50)):
        target, _ = scene(size, [((30, 30), 18, RED)], 3)
        found = matcher.segment(target, reference, key=KEY)["disc"]
        assert found.mask.shape == found.confidence.shape == size and len(found.points)
        assert len(found.kept) and found.match_map.max() > 0.5
        assert 0 <= found.confidence.min() <= found.confidence.max() <= 1
    assert matcher.features.grid(SIZE).shape == (8, 8) and matcher.masks.promptable


def test_texts_go_all_the_way(matcher, picture):
    image, (mask,) = picture
    reference = matcher.reference(image, mask, class_name="disc")
    plain, spoken = (
        matcher.segment(image, reference, key=KEY, texts=texts)["disc"] for texts in (None, {"disc": "red"})
    )
    assert np.abs(plain.match_map - spoken.match_map).max() > 1e-3
    with pytest.raises(InputError, match="expected a phrase"):
        matcher.segment(image, reference, key=KEY, texts={"disc": " "})


@pytest.mark.parametrize(
    "annotation",
    [
        Points(((60, 45),), (True,)),
        Box(30, 20, 90, 75),
        Scribbles((Polyline(((50, 40), (70, 50)), 4), Polyline(((5, 5), (110, 8)), 4, False))),
    ],
    ids=["point", "box", "scribbles"],
)
def test_annotations_become_masks(matcher, picture, annotation):
    mask = matcher.reference(picture[0], annotation).mask
    assert mask.shape == SIZE and mask.any() and not mask.all()
    if isinstance(annotation, Scribbles):
        assert mask[40, 50] and not mask[5, 5]


def test_the_next_picture_compiles_nothing(matcher, picture, count_compiles):
    """With as many prompts of as many points; other numbers compile once each."""
    image, (mask,) = picture
    reference = matcher.reference(image, mask)
    points = replace(matcher.config.prompting, sampler="top_k", points=4, radius=0.0, prompts="points")
    decision = replace(matcher.config.decision, size_factor=1e6)
    fixed = replace(matcher, config=replace(matcher.config, prompting=points, decision=decision))
    counts = []
    for size in ((90, 120), (120, 90), (64, 200)):
        target, _ = scene(size, [((30, 30), 18, RED)], 3)
        with count_compiles() as compiled:
            counts.append(len(fixed.segment(target, reference, key=KEY).classes[0].points))
    assert counts == [4, 4, 4] and compiled == []


def test_no_model_runs_twice_on_a_picture(matcher, picture, lenient, folders, tmp_path):
    image, (mask,) = picture
    settings = ModelsConfig(size=SIDE, device="cpu", cache=tmp_path)
    one, two = (Softmatcher.foundation(settings, lenient, **folders) for _ in range(2))
    wanted = one.segment(image, one.reference(image, mask), key=KEY)
    assert one.cache.stats.misses == 3  # features, embedding, text features
    found = two.segment(image, two.reference(image, mask), key=KEY)
    assert two.cache.stats.misses == 0 and two.cache.stats.hits_disk == 3
    assert found.labels.tobytes() == wanted.labels.tobytes()


def test_settings_reach_the_models(folders):
    settings = ModelsConfig(size=56, fit="aspect", layer=0, norm=False, device="cpu", dtype="bfloat16")
    loaded = load_models(replace(settings, features=folders["features"], masks=folders["masks"]))
    config = loaded.features.config
    assert (config.size, config.fit, config.layer, config.norm) == (56, "aspect", 0, False)
    assert loaded.text is None and loaded.features.grid((40, 80)).shape == (4, 4)
    assert "bfloat16" in loaded.masks.name and "bfloat16" in loaded.features.name
    assert (loaded.masks.config.chunk, loaded.masks.config.runtime) == (None, "jax")


def test_the_runtime_reaches_sam(folders, picture):
    models = {"features": folders["features"], "masks": folders["masks"]}
    one, two = (
        load_models(ModelsConfig(size=56, device="cpu", runtime=runtime, **models)).masks
        for runtime in ("jax", "torch")
    )
    assert two.config.runtime == "torch" and one.name == two.name
    rows = [np.asarray(each.encode(picture[0]).rows) for each in (one, two)]
    assert np.abs(rows[0] - rows[1]).max() <= 1e-5 * np.ptp(rows[1])


def test_bounds_reach_the_decoder_and_the_cache(folders, matcher, picture, lenient, tmp_path):
    bounds = {"chunk": 3, "cache": tmp_path, "cache_limit_mb": 1}
    bounded = Softmatcher.foundation(size=SIDE, device="cpu", config=lenient, **bounds, **folders)
    assert bounded.masks.config.chunk == 3 and bounded.masks.name == matcher.masks.name
    for index in range(6):
        bounded.cache.put(f"{index:064x}", {"x": np.zeros(75_000, np.float32)})
    sizes = [file.stat().st_size for file in tmp_path.rglob("*.safetensors")]
    assert 300_000 <= sum(sizes) <= 1_000_000 < 6 * 300_000
    image, (mask,) = picture
    one, three = (each.segment(image, each.reference(image, mask), key=KEY) for each in (matcher, bounded))
    assert np.mean(one.labels == three.labels) > 0.999


def test_a_full_accelerator_says_which_knob_to_turn():
    with (
        pytest.raises(
            InputError, match=r"decoding 32 prompts .* SamGeneratorConfig\.chunk \(--chunk\) lower"
        ),
        explain_out_of_memory(32),
    ):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")


def test_the_defaults_go_with_the_models(folders):
    made = Softmatcher.foundation(size=SIDE, **folders)
    assert made.config == SoftmatcherConfig.foundation() and made.cache is not None


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_missing_package_is_named_with_its_extra(package, folders, monkeypatch):
    real = optional.importlib.import_module

    def without(name, *rest):
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=package)
        return real(name, *rest)

    monkeypatch.setattr(optional.importlib, "import_module", without)
    with pytest.raises(InputError, match=rf"{package} is not installed.*softmatch-jax\[foundation\]"):
        Softmatcher.foundation(**folders)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_model": "./nowhere"}, "nowhere was not found"),
        ({"masks_revision": "main"}, "where there are no revisions"),
        ({"device": "gpu"}, "The device is 'gpu'"),
        ({"device": "gpu", "runtime": "torch"}, "The device is 'gpu'"),
        ({"dtype": "half"}, "The dtype is 'half'"),
        ({"cache": __file__}, "is not a folder"),
    ],
    ids=str,
)
def test_all_is_looked_at_before_a_model_is_read(folders, monkeypatch, changes, message):
    def read(*args, **kwargs):
        raise AssertionError("a model is read")

    monkeypatch.setattr("softmatch_jax.models.dinov2.Dinov2.load", read)
    with pytest.raises(InputError, match=message):
        Softmatcher.foundation(**{**folders, **changes})


def test_the_device_of_jax_is_looked_at_too(folders, monkeypatch):
    """One that torch alone knows."""
    import torch

    def read(*args, **kwargs):
        raise AssertionError("a model is read")

    monkeypatch.setattr("softmatch_jax.models.dinov2.Dinov2.load", read)
    monkeypatch.setattr("softmatch_jax.models.preprocessing.pick_device", lambda device: torch.device("cpu"))
    with pytest.raises(InputError, match=r"'mps', which JAX does not have; .*runtime torch"):
        Softmatcher.foundation(**folders, device="mps")
    with pytest.raises(AssertionError, match="a model is read"):
        Softmatcher.foundation(**folders, device="mps", runtime="torch")


def test_a_model_that_is_not_there_is_one_sentence(folders, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        Softmatcher.foundation(**{**folders, "masks": tmp_path / "nowhere"})
    with pytest.raises(InputError):
        Softmatcher.foundation(**{**folders, "features": folders["masks"]})
