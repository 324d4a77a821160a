"""DINOv2 cut into four layers, against the hidden states of transformers."""

from __future__ import annotations

import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.models.dinov2 import Dinov2Config
from softmatch_jax.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, pixel_batches
from softmatch_jax.models.prosam.backbones import Dinov2Split, load_backbone
from softmatch_jax.models.prosam.backbones.dinov2_split import default_split
from softmatch_jax.models.prosam.predictor import Deepens, mask_to_grid, see

pytestmark = pytest.mark.slow  # compiles SAM's decoder anew, mostly with its gradients

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PATCH, SIDE, DIM, BLOCKS = 14, 5, 32, 8
SIZE = PATCH * SIDE
OTHERS = {"plain": 1, "registers": 5}
KINDS = tuple(OTHERS)


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
    found = {}
    for seed, kind in enumerate(KINDS):
        family = "Dinov2WithRegisters" if kind == "registers" else "Dinov2"
        config = getattr(transformers, f"{family}Config")(
            hidden_size=DIM,
            num_hidden_layers=BLOCKS,
            num_attention_heads=2,
            mlp_ratio=2,
            image_size=SIZE,
            patch_size=PATCH,
        )
        torch.manual_seed(seed)
        model = getattr(transformers, f"{family}Model")(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        found[kind] = tmp_path_factory.mktemp(kind)
        model.save_pretrained(found[kind])
    return found


@pytest.fixture(scope="module")
def originals(folders):
    """The same models as transformers loads them."""
    classes = {"plain": transformers.Dinov2Model, "registers": transformers.Dinov2WithRegistersModel}
    return {kind: classes[kind].from_pretrained(folders[kind]).eval() for kind in KINDS}


def load(folder, split=(1, 3, 6, 8), norm=True):
    config = Dinov2Config(size=SIZE, device="cpu", norm=norm)
    return Dinov2Split.load(folder, config=config, split=split)


def hidden_states(model, image):
    """The output of every block, and of the norm behind the last."""
    (pixels,) = pixel_batches(
        image[None],
        (SIZE, SIZE),
        IMAGENET_MEAN,
        IMAGENET_STD,
        batch_size=1,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    with torch.inference_mode():
        made = model(pixels, output_hidden_states=True)
        return made.hidden_states, made.last_hidden_state


def patches(tokens, kind):
    return tokens[0, OTHERS[kind] :].reshape(SIDE, SIDE, -1).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_the_hidden_states_of_two_layers(kind, folders, originals):
    extractor, image = load(folders[kind]), picture(50, 83)
    found = see(extractor, image)
    hidden, _ = hidden_states(originals[kind], image)
    assert extractor.dim == 2 * DIM and found.values.shape == (SIDE + 1, SIDE, 2 * DIM)
    wanted = np.concatenate([patches(hidden[3], kind), patches(hidden[6], kind)], axis=-1)
    np.testing.assert_array_equal(found.values[:SIDE], wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_the_deepest_is_the_output_of_the_network(kind, folders, originals):
    image = picture(50, 83)
    for norm in (True, False):
        extractor = load(folders[kind], norm=norm)
        hidden, last = hidden_states(originals[kind], image)
        deep = np.asarray(extractor.deepen(see(extractor, image).values, None))
        assert deep.shape == (SIDE + 1, SIDE, DIM) and deep.dtype == np.float32
        np.testing.assert_array_equal(deep[:SIDE], patches(last if norm else hidden[BLOCKS], kind))
        assert not deep[SIDE:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_falls_on_the_patches_alone(kind, folders, originals):
    extractor, image = load(folders[kind]), picture(60, 60)
    model, (hidden, _) = originals[kind], hidden_states(originals[kind], image)
    values = see(extractor, image).values
    mask = mask_to_grid(
        np.random.default_rng(0).uniform(size=(60, 60)) > 0.5, extractor.grid((60, 60)), "area"
    )
    assert mask.shape == (SIDE + 1, SIDE) and not mask[SIDE:].any()
    tokens = hidden[6].clone()
    tokens[0, OTHERS[kind] :] *= torch.from_numpy(mask[:SIDE].reshape(-1, 1))
    with torch.inference_mode():
        for block in model.encoder.layer[6:]:
            tokens = block(tokens)
        wanted = patches(model.layernorm(tokens), kind)
    np.testing.assert_array_equal(extractor.deepen(values, mask)[:SIDE], wanted)
    assert np.abs(wanted - extractor.deepen(values, None)[:SIDE]).max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_the_other_tokens_lie_in_the_padding(kind, folders, originals):
    extractor, image = load(folders[kind]), picture(40, 70)
    found = see(extractor, image)
    assert found.valid[:SIDE].all() and not found.valid[SIDE:].any()
    assert found.grid == extractor.grid((40, 70)) and found.grid.input_size == (SIZE, SIZE)
    hidden, _ = hidden_states(originals[kind], image)
    row = np.asarray(found.values[SIDE])
    np.testing.assert_array_equal(row[: OTHERS[kind], DIM:], hidden[6][0, : OTHERS[kind]])
    assert not row[OTHERS[kind] :].any()


def test_a_batch_is_a_loop(folders):
    images = np.stack([picture(30, 40, seed) for seed in range(3)])
    extractor = load(folders["plain"])
    for image, values in zip(images, extractor(images).values, strict=True):
        # Products of larger matrices sum in another order.
        np.testing.assert_allclose(values, extractor(image[None]).values[0], rtol=1e-4, atol=1e-4)


def test_half_precision(folders):
    exact, image = load(folders["plain"]), picture(40, 40)
    config = Dinov2Config(size=SIZE, device="cpu", dtype="bfloat16")
    rounded = Dinov2Split.load(folders["plain"], config=config, split=exact.split)
    deep = [np.asarray(each.deepen(see(each, image).values, None)) for each in (exact, rounded)]
    assert deep[1].dtype == np.float32
    assert 0 < np.abs(deep[0] - deep[1]).mean() < 0.1 * np.abs(deep[0]).mean()  # 2^-8 a step


def test_splits():
    assert default_split(24) == (8, 12, 21, 24)
    assert default_split(12) == (4, 6, 10, 12)
    assert default_split(40) == (13, 20, 35, 40)


def test_the_door(folders):
    extractor = load_backbone("dinov2", folders["plain"], size=2 * PATCH)
    assert isinstance(extractor, Dinov2Split) and isinstance(extractor, Deepens)
    assert extractor.split == default_split(BLOCKS) == (2, 4, 7, 8)
    assert extractor.config.size == 28
    assert load_backbone("dinov2", folders["plain"]).grid((9, 9)).shape == (38, 37)


def test_name_tells_results_apart(folders):
    names = {load(folders[kind], split, norm).name for kind in KINDS for split in ((1, 3, 6, 8), (1, 3, 5, 8))
             for norm in (True, False)}  # fmt: skip
    assert len(names) == 8
    name = load(folders["plain"]).name
    assert name.startswith("split-dinov2(") and name.endswith("preprocessing=1, split=1-3-6-8)")
    assert str(folders["plain"]) in name and name.isprintable()


@pytest.mark.parametrize("split", [(1, 3, 6), (1, 3, 3, 8), (0, 3, 6, 8), (1, 3, 6, 9), (6, 3, 2, 1)])
def test_splits_that_do_not_suit_the_model(split, folders):
    with pytest.raises(InputError, match=r"split is .*; expected four rising numbers from 1 to 8"):
        load(folders["plain"], split)


@pytest.mark.parametrize("changes", [{"fit": "aspect"}, {"layer": 3}])
def test_settings_that_do_not_suit_a_split(changes, folders):
    with pytest.raises(InputError, match=r"expected fit='stretch' and layer=-1 for a split model"):
        Dinov2Split.load(folders["plain"], config=Dinov2Config(size=SIZE, **changes))


def test_arrays(folders):
    extractor = load(folders["plain"])
    values = see(extractor, picture(9, 9)).values
    with pytest.raises(InputError, match=r"values has shape \[5, 5, 64\]; expected \[6, 5, 64\]"):
        extractor.deepen(values[:SIDE], None)
    with pytest.raises(InputError, match=r"mask has shape \[5, 5\]; expected \[6, 5\]"):
        extractor.deepen(values, np.ones((5, 5), np.float32))
    with pytest.raises(InputError, match=r"images is uint8 \[4, 4, 3\]"):
        extractor(picture(4, 4))
