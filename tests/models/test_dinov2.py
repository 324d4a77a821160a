from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jax
import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.models.dinov2 import Dinov2, Dinov2Config
from softmatch_jax.models.protocols import PatchFeatures
from softmatch_jax.models.vit_grid import resize_positions, vit_grid

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PATCH, SIDE = 14, 5  # patches of the trained square
NATIVE = SIDE * PATCH
DIM = 32
KINDS = ("plain", "swiglu", "registers", "registers-swiglu")
CONFIG = Dinov2Config(size=NATIVE, device="cpu", batch_size=3)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small wait for their threads longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint of each kind, small and with weights large enough for everything to matter."""
    found = {}
    for seed, kind in enumerate(KINDS):
        family = "Dinov2WithRegisters" if "registers" in kind else "Dinov2"
        config = getattr(transformers, f"{family}Config")(
            hidden_size=DIM,
            num_hidden_layers=3,
            num_attention_heads=2,
            mlp_ratio=2,
            image_size=NATIVE,
            patch_size=PATCH,
            use_swiglu_ffn="swiglu" in kind,
        )
        torch.manual_seed(seed)
        model = getattr(transformers, f"{family}Model")(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        torch.nn.init.normal_(model.embeddings.position_embeddings, std=5)
        found[kind] = tmp_path_factory.mktemp(kind)
        model.save_pretrained(found[kind])
    return found


@pytest.fixture(scope="module")
def originals(folders):
    """The same models as transformers loads them."""
    classes = {kind: "Dinov2WithRegistersModel" if "registers" in kind else "Dinov2Model" for kind in KINDS}
    return {
        kind: getattr(transformers, classes[kind]).from_pretrained(folders[kind]).eval() for kind in KINDS
    }


def pixels(images, size):
    """What the image processor published with the models makes of pictures."""
    processor = transformers.BitImageProcessorPil(
        do_center_crop=False,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        resample=3,
        size={"height": size[0], "width": size[1]},
    )
    made = [
        processor(i, return_tensors="np", input_data_format="channels_last")["pixel_values"] for i in images
    ]
    return torch.from_numpy(np.concatenate(made))


def patch_tokens(hidden, kind, size):
    """``[b, rows, columns, d]`` of all tokens."""
    skipped = 5 if "registers" in kind else 1
    rows, columns = (length // PATCH for length in size)
    return hidden[:, skipped:].reshape(len(hidden), rows, columns, -1).numpy()


def expected(model, kind, images, size):
    with torch.inference_mode():
        return patch_tokens(model(pixels(images, size)).last_hidden_state, kind, size)


def test_checkpoints_are_named_as_the_published_ones(folders):
    """Otherwise these tests would say nothing about those."""
    safetensors = pytest.importorskip("safetensors")
    for kind in KINDS:
        with safetensors.safe_open(folders[kind] / "model.safetensors", "np") as file:
            keys = set(file.keys())
        first = {k.removeprefix("encoder.layer.0.") for k in keys if k.startswith("encoder.layer.0.")}
        ffn = ("weights_in", "weights_out") if "swiglu" in kind else ("fc1", "fc2")
        linear = [f"attention.attention.{part}" for part in ("query", "key", "value")]
        linear += ["attention.output.dense", "norm1", "norm2", *(f"mlp.{part}" for part in ffn)]
        scales = {"layer_scale1.lambda1", "layer_scale2.lambda1"}
        assert first == scales | {f"{name}.{part}" for name in linear for part in ("weight", "bias")}
        outer = {"cls_token", "mask_token", "position_embeddings"}
        outer |= {"register_tokens"} if "registers" in kind else set()
        outer |= {f"patch_embeddings.projection.{part}" for part in ("weight", "bias")}
        outer = {f"embeddings.{name}" for name in outer} | {"layernorm.weight", "layernorm.bias"}
        assert {k for k in keys if not k.startswith("encoder.")} == outer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("interpolation", ["original", "transformers"])
def test_features_are_those_of_transformers(kind, interpolation, folders, originals):
    extractor = Dinov2.load(folders[kind], config=replace(CONFIG, interpolation=interpolation))
    images = np.stack([picture(50, 83, seed) for seed in range(3)])
    found = extractor(images)
    assert isinstance(found, PatchFeatures)
    assert found.values.shape == (3, SIDE, SIDE, DIM) and extractor.dim == DIM
    assert found.values.dtype == np.float32 and found.valid.all()
    np.testing.assert_array_equal(found.values, expected(originals[kind], kind, images, (NATIVE, NATIVE)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [42, 98])
def test_other_sizes_are_those_of_transformers(kind, size, folders, originals):
    config = replace(CONFIG, size=size, interpolation="transformers")
    images = picture(60, 60)[None]
    found = Dinov2.load(folders[kind], config=config)(images)
    np.testing.assert_array_equal(found.values, expected(originals[kind], kind, images, (size, size)))


def positions_as_published(table, rows, columns, *, registers):
    """The authors' interpolation, written out: an offset without registers, antialiasing with them."""
    square = table[0, 1:].T.reshape(1, DIM, SIDE, SIDE)
    if registers:
        spread = torch.nn.functional.interpolate(square, (rows, columns), mode="bicubic", antialias=True)
    else:
        factors = (float(rows + 0.1) / SIDE, float(columns + 0.1) / SIDE)
        spread = torch.nn.functional.interpolate(square, scale_factor=factors, mode="bicubic")
    assert spread.shape[-2:] == (rows, columns)
    return torch.cat([table[0, :1], spread[0].flatten(1).T])[None]


@pytest.mark.parametrize("kind", ["plain", "registers"])
@pytest.mark.parametrize(("size", "fit"), [(42, "stretch"), (98, "stretch"), (70, "aspect"), (112, "aspect")])
def test_other_sizes_are_those_of_the_authors(kind, size, fit, folders):
    images = picture(60, 100)[None]
    extractor = Dinov2.load(folders[kind], config=replace(CONFIG, size=size, fit=fit))
    found = extractor(images)
    height, width = found.grid.input_size
    rows, columns = height // PATCH, width // PATCH

    model = type(extractor.model).from_pretrained(folders[kind]).eval()
    plain = expected(model, kind, images, (height, width))
    table = model.embeddings.position_embeddings.detach()
    spread = positions_as_published(table, rows, columns, registers=kind == "registers")
    model.embeddings.interpolate_pos_encoding = lambda *_: spread
    wanted = expected(model, kind, images, (height, width))
    values = np.asarray(found.values)[:, :rows, :columns]
    np.testing.assert_array_equal(values, wanted)
    if kind == "plain":
        assert np.abs(values - plain).max() > 1e-2
    else:
        np.testing.assert_array_equal(values, plain)  # transformers follows the authors


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_positions(antialias, offset):
    table = torch.arange(1.0, 1 + (1 + 37 * 37) * 2).reshape(1, -1, 2)
    assert resize_positions(table, 37, 37, offset=offset, antialias=antialias) is table
    # Every count that a side of the trained square and more can have, for the offset must not change it.
    for count in (*range(1, 37), 45, 64, 73, 100):
        resized = resize_positions(table, count, 50 - count // 3, offset=offset, antialias=antialias)
        assert resized.shape == (1, 1 + count * (50 - count // 3), 2)
        np.testing.assert_array_equal(resized[:, 0], table[:, 0])
    half = resize_positions(table.bfloat16(), 20, 30, offset=offset, antialias=antialias)
    exact = resize_positions(table.bfloat16().float(), 20, 30, offset=offset, antialias=antialias)
    np.testing.assert_array_equal(half.float(), exact.bfloat16().float())  # rounded once, at the end


@pytest.mark.parametrize("kind", ["plain", "registers-swiglu"])
@pytest.mark.parametrize("layer", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("norm", [True, False])
def test_layers(kind, layer, norm, folders, originals):
    extractor = Dinov2.load(folders[kind], config=replace(CONFIG, layer=layer, norm=norm))
    assert len(extractor.model.encoder.layer) == layer % 3 + 1  # nothing above is computed
    images, size = picture(40, 40)[None], (NATIVE, NATIVE)
    model = originals[kind]
    with torch.inference_mode():
        hidden = model(pixels(images, size), output_hidden_states=True).hidden_states[layer % 3 + 1]
        wanted = patch_tokens(model.layernorm(hidden) if norm else hidden, kind, size)
    np.testing.assert_array_equal(extractor(images).values, wanted)


def test_a_batch_is_a_loop(folders):
    images = np.stack([picture(40, 70, seed) for seed in range(5)])
    config = replace(CONFIG, size=56)
    together = [
        Dinov2.load(folders["plain"], config=replace(config, batch_size=n))(images) for n in (1, 2, 8)
    ]
    alone = np.concatenate(
        [Dinov2.load(folders["plain"], config=config)(image[None]).values for image in images]
    )
    np.testing.assert_array_equal(together[0].values, alone)
    for found in together[1:]:
        # Products of larger matrices sum in another order.
        np.testing.assert_allclose(found.values, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("image_size", "patches"),
    [
        ((60, 60), (8, 8)),
        ((60, 120), (4, 8)),
        ((120, 60), (8, 4)),
        ((100, 1000), (1, 8)),
        ((1, 500), (1, 8)),
        ((700, 1), (8, 1)),
        ((1, 1), (8, 8)),
        ((55, 80), (6, 8)),  # 5.5 is rounded up
    ],
)
def test_aspect_keeps_the_proportions(image_size, patches, folders):
    extractor = Dinov2.load(folders["plain"], config=replace(CONFIG, size=8 * PATCH, fit="aspect"))
    found = extractor(picture(*image_size)[None])
    rows, columns = patches
    assert found.values.shape == (1, 8, 8, DIM) and found.grid.shape == (8, 8)
    assert found.grid == extractor.grid(image_size)
    assert found.grid.input_size == (rows * PATCH, columns * PATCH)
    assert found.valid[:rows, :columns].all() and found.valid.sum() == rows * columns
    values = np.asarray(found.values)[0]
    assert np.isfinite(values).all()
    assert (values[~found.valid] == 0).all() and (np.abs(values[found.valid]).max(axis=-1) > 0).all()
    centres = found.grid.patch_centres()[:rows, :columns]
    height, width = image_size
    np.testing.assert_allclose(centres[0, 0], (width / columns / 2, height / rows / 2), rtol=1e-6)
    np.testing.assert_allclose(
        centres[-1, -1], (width - width / columns / 2, height - height / rows / 2), rtol=1e-6
    )


@pytest.mark.parametrize("fit", ["stretch", "aspect"])
@pytest.mark.parametrize("size", [(120, 200), (200, 120), (30, 300)])
def test_the_grid_points_at_what_was_seen(fit, size, folders):
    """The feature that a spot changes most is the one whose patch holds it."""
    extractor = Dinov2.load(
        folders["plain"], config=replace(CONFIG, size=8 * PATCH, fit=fit, layer=0, norm=False)
    )
    dark = np.zeros((*size, 3), np.uint8)
    before = np.asarray(extractor(dark[None]).values)[0]
    grid = extractor.grid(size)
    rows, columns = (length // PATCH for length in grid.input_size)
    for row, column in ((0, 0), (rows - 1, columns - 1), (rows // 2, columns // 3)):
        x, y = grid.patch_centres()[row, column].astype(int)
        spotted = dark.copy()
        spotted[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = 255
        change = np.linalg.norm(np.asarray(extractor(spotted[None]).values)[0] - before, axis=-1)
        assert np.unravel_index(change.argmax(), change.shape) == (row, column)


def test_one_shape_whatever_the_size(folders):
    for fit in ("stretch", "aspect"):
        extractor = Dinov2.load(folders["plain"], config=replace(CONFIG, size=42, fit=fit))
        shapes = {extractor(picture(*size)[None]).values.shape for size in ((9, 50), (50, 9), (33, 33))}
        assert shapes == {(1, 3, 3, DIM)}


def test_positions_are_interpolated_once_for_each_shape(folders, monkeypatch):
    extractor = Dinov2.load(folders["plain"], config=replace(CONFIG, size=98, fit="aspect"))
    interpolate, calls = torch.nn.functional.interpolate, []
    monkeypatch.setattr(
        torch.nn.functional, "interpolate", lambda *a, **k: (calls.append(k), interpolate(*a, **k))[1]
    )
    first = extractor(picture(30, 60)[None]).values
    for size in ((60, 60), (30, 60)):
        last = extractor(picture(*size)[None]).values
    assert len(calls) == 2
    np.testing.assert_array_equal(first, last)


@pytest.mark.parametrize("kind", ["plain", "registers-swiglu"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 0.02), ("bfloat16", 0.15)])
def test_half_precision(kind, dtype, tolerance, folders):
    images = picture(60, 60)[None]
    exact = np.asarray(Dinov2.load(folders[kind], config=replace(CONFIG, size=56))(images).values)
    extractor = Dinov2.load(folders[kind], config=replace(CONFIG, size=56, dtype=dtype))
    assert extractor.model.dtype == getattr(torch, dtype)
    found = np.asarray(extractor(images).values)
    assert found.dtype == np.float32
    error = np.abs(found - exact).max() / np.abs(exact).max()
    assert 0 < error < tolerance  # a few roundings of 2^-11 or 2^-8 in sequence


def test_the_network_is_frozen_and_nothing_else_is_touched(folders):
    extractor = Dinov2.load(folders["plain"], config=CONFIG)
    assert not extractor.model.training
    assert not any(parameter.requires_grad for parameter in extractor.model.parameters())
    extractor(picture(20, 20)[None])
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_threads_may_share_one(folders):
    extractor = Dinov2.load(folders["plain"], config=replace(CONFIG, size=56, fit="aspect"))
    images = [picture(20 + 7 * (i % 3), 40, i)[None] for i in range(12)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: np.asarray(extractor(image).values), images))
    for image, found in zip(images, together, strict=True):
        np.testing.assert_array_equal(extractor(image).values, found)


def test_name_tells_results_apart(folders):
    def name(kind="plain", **changes):
        return Dinov2.load(folders[kind], config=replace(CONFIG, **changes)).name

    plain = name()
    assert plain == name() and plain.isprintable()
    assert str(folders["plain"]) in plain and "@" in plain and "preprocessing=1" in plain
    changes = [
        {"kind": "registers"},
        {"size": 42},
        {"fit": "aspect"},
        {"layer": 1},
        {"norm": False},
        {"interpolation": "transformers"},
        {"dtype": "bfloat16"},
    ]
    assert len({plain, *(name(**change) for change in changes)}) == 1 + len(changes)
    for same in ({"batch_size": 1}, {"device": "auto", "dtype": "float32"}, {"layer": 2}):
        assert name(**same) == plain


def test_defaults_are_those_of_matcher_and_gf_sam():
    grid = vit_grid((300, 400), size=Dinov2Config().size, patch=PATCH, fit=Dinov2Config().fit)
    assert grid.shape == (37, 37) and grid.valid().all()


def test_no_batch_of_pictures(folders):
    with pytest.raises(InputError, match=r"images is uint8 \[4, 4, 3\]; expected a non-empty uint8"):
        Dinov2.load(folders["plain"], config=CONFIG)(picture(4, 4))


def test_full_memory_names_the_knobs(folders, monkeypatch):
    extractor = Dinov2.load(folders["plain"], config=CONFIG)

    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr(extractor.model.layernorm, "forward", full)
    with pytest.raises(
        InputError, match=r"does not fit into the GPU's memory; lower Dinov2Config.batch_size or size"
    ):
        extractor(picture(20, 20)[None])


def test_memory_that_jax_has_not_is_explained(folders, monkeypatch):
    def full(*_, **__):
        raise jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes."
        )

    extractor = Dinov2.load(folders["plain"], config=CONFIG)
    monkeypatch.setattr("softmatch_jax.models.dinov2.to_jax", full)
    with pytest.raises(
        InputError, match=r"lower Dinov2Config.batch_size.*XLA_PYTHON_CLIENT_PREALLOCATE=false"
    ):
        extractor(picture(20, 20)[None])


def test_convolutions_are_exact_in_float32(folders, monkeypatch):
    """cuDNN is told while the network runs, and only where float32 was asked for."""
    seen = []
    for dtype in ("float32", "bfloat16"):
        extractor = Dinov2.load(folders["plain"], config=replace(CONFIG, dtype=dtype))
        forward = extractor.model.embeddings.patch_embeddings.forward
        monkeypatch.setattr(
            extractor.model.embeddings.patch_embeddings,
            "forward",
            lambda *a, f=forward: (seen.append(torch.backends.cudnn.conv.fp32_precision), f(*a))[1],
        )
        extractor(picture(20, 20)[None])
    assert seen == ["ieee", "tf32"]
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 0}, "expected at least 1"),
        ({"batch_size": 0}, "expected at least 1"),
        ({"fit": "crop"}, "Dinov2Config.fit is 'crop'; expected stretch or aspect"),
        ({"interpolation": "bilinear"}, "expected original or transformers"),
    ],
)
def test_settings_out_of_range(wrong, message):
    with pytest.raises(InputError, match=message):
        Dinov2Config(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 520}, r"size is 520; expected a multiple .* 14 pixels \(the nearest: 518 or 532\)"),
        ({"size": 5}, r"the nearest: 14\)"),
        ({"layer": 3}, "layer is 3; expected between -3 and 2 for the 3 layers"),
        ({"layer": -4}, "layer is -4"),
        ({"device": "gpu"}, "expected auto, cpu, cuda"),
        ({"dtype": "int8"}, "The dtype is 'int8'"),
    ],
)
def test_settings_that_do_not_suit_the_model(wrong, message, folders):
    with pytest.raises(InputError, match=message):
        Dinov2.load(folders["plain"], config=replace(CONFIG, **wrong))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "vit"}, "holds a model of type 'vit'; expected dinov2 or dinov2_with_registers"),
        ({"hidden_size": "wide"}, "config.json of .* does not describe a dinov2 model"),
        ({"patch_size": [14, 7]}, "expected square ones"),
    ],
)
def test_checkpoints_of_something_else(changes, message, folders, tmp_path):
    described = json.loads((folders["plain"] / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(described))
    (tmp_path / "model.safetensors").write_bytes((folders["plain"] / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match=message):
        Dinov2.load(tmp_path, config=CONFIG)
