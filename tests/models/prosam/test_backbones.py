"""The convolutional image encoders against torch, and the names under which their weights are published."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import torch_backbones
from flax import nnx
from PIL import Image as Pillow

from softmatch_jax._checks import InputError
from softmatch_jax.models.prosam.backbones import ConvFeatures, load_backbone
from softmatch_jax.models.prosam.backbones.conversion import convert_backbone
from softmatch_jax.models.prosam.backbones.frozen_layers import corner_weights
from softmatch_jax.models.prosam.backbones.naming import vgg_names
from softmatch_jax.models.prosam.predictor import Deepens, deepen, mask_to_grid, see

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

KINDS = ("resnet50", "vgg16")
MID = {"resnet50": 512, "vgg16": 256}
STRIDE = {"resnet50": 8, "vgg16": 16}
SIZE = 64


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Pictures this small wait for their threads longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def networks():
    return {kind: torch_backbones.random_network(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def modules(networks):
    return {kind: convert_backbone(kind, networks[kind].state_dict()) for kind in KINDS}


@pytest.fixture(scope="module")
def files(networks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for kind, network in networks.items():
        torch.save(network.state_dict(), folder / f"{kind}.pth")
    return {kind: folder / f"{kind}.pth" for kind in KINDS}


@pytest.fixture(scope="module")
def extractors(files):
    return {kind: ConvFeatures.load(files[kind], kind=kind, size=SIZE) for kind in KINDS}


def rows_last(tensor):
    return tensor[0].permute(1, 2, 0).numpy()


def as_torch(array):
    return torch.from_numpy(np.array(array)).permute(2, 0, 1)[None]


def assert_alike(found, wanted):
    """Within 1e-5 of the range: sums of up to 4608 products in another order."""
    assert found.shape == wanted.shape
    scale = np.abs(wanted).max()
    assert np.isfinite(wanted).all() and scale > 0.1
    np.testing.assert_allclose(np.asarray(found) / scale, wanted / scale, atol=1e-5, rtol=0)


def expected_values(network, pixels):
    """Layers 2 and 3 side by side on the grid of layer 3."""
    with torch.inference_mode():
        middle, last = network(as_torch(pixels))
        wanted = torch.nn.functional.interpolate(middle, last.shape[-2:], mode="bilinear", align_corners=True)
    return np.concatenate([rows_last(wanted), rows_last(last)], axis=-1)


def leaves(module):
    return {path: np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(nnx.state(module))}


def assert_equal(first, second):
    ours, theirs = leaves(first), leaves(second)
    assert ours.keys() == theirs.keys()
    for path, array in ours.items():
        np.testing.assert_array_equal(array, theirs[path], err_msg=str(path))


def test_the_state_of_the_resnet_is_of_the_published_size(networks, modules):
    state = networks["resnet50"].state_dict()
    assert sum(value.numel() for value in state.values()) == 23_685_367
    counters = sum(name.endswith("num_batches_tracked") for name in state)
    assert sum(array.size for array in leaves(modules["resnet50"]).values()) + counters == 23_685_367


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_trained(kind, modules):
    assert not jax.tree.leaves(nnx.state(modules[kind], nnx.Param))


@pytest.mark.parametrize(
    ("kind", "size"), [pytest.param("resnet50", (70, 61), marks=pytest.mark.slow), ("vgg16", (70, 53))]
)
def test_odd_sizes_are_those_of_torch(kind, size, networks, modules):
    """Pools of the VGG count an odd row at the end: 5 x 4 cells, where it would else be 4 x 3."""
    pixels = np.random.default_rng(1).normal(size=(*size, 3)).astype(np.float32)
    wanted = expected_values(networks[kind], pixels)
    found = nnx.jit(lambda network, x: network(x))(modules[kind], pixels)
    assert_alike(found[..., : MID[kind]], wanted[..., : MID[kind]])
    assert_alike(found[..., MID[kind] :], wanted[..., MID[kind] :])


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_torch(kind, networks, extractors):
    """From the picture on: Pillow's stretch, the statistics of ImageNet, layers 2, 3 and 4."""
    image, extractor = picture(50, 83), extractors[kind]
    found = see(extractor, image)
    stretched = Pillow.fromarray(image).resize((SIZE, SIZE), Pillow.Resampling.BILINEAR)
    pixels = (np.asarray(stretched) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    wanted = expected_values(networks[kind], pixels.astype(np.float32))
    side = SIZE // STRIDE[kind]
    assert found.values.shape == (side, side, extractor.dim) and found.values.dtype == np.float32
    assert extractor.dim == {"resnet50": 1536, "vgg16": 768}[kind]
    assert_alike(found.values[..., : MID[kind]], wanted[..., : MID[kind]])
    assert_alike(found.values[..., MID[kind] :], wanted[..., MID[kind] :])

    last = as_torch(wanted[..., MID[kind] :])
    mask = (np.random.default_rng(2).uniform(size=(side, side)) > 0.4).astype(np.float32)
    with torch.inference_mode():
        whole = rows_last(networks[kind].layer4(last))
        under = rows_last(networks[kind].layer4(last * torch.from_numpy(mask)))
    assert whole.shape[-1] == {"resnet50": 2048, "vgg16": 512}[kind]
    assert_alike(extractor.deepen(found.values, None), whole)
    assert_alike(extractor.deepen(found.values, mask), under)
    assert np.abs(whole - under).max() > 0.01 * np.abs(whole).max()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_the_predictor_takes(kind, extractors):
    extractor = extractors[kind]
    assert isinstance(extractor, Deepens)
    found = see(extractor, picture(40, 80))
    np.testing.assert_array_equal(deepen(extractor, found.values, None), extractor.deepen(found.values, None))


def test_a_batch_is_a_loop(extractors, count_compiles):
    images = np.stack([picture(30, 40, seed) for seed in range(3)])
    extractor = extractors["resnet50"]
    extractor(images[:1])
    with count_compiles("_features") as compiled:
        together = extractor(images)
        other = extractor(picture(9, 70)[None])
    assert not compiled  # whatever the size of the picture
    assert together.values.shape == (3, *other.values.shape[1:])
    for image, values in zip(images, together.values, strict=True):
        np.testing.assert_array_equal(values, extractor(image[None]).values[0])


@pytest.mark.parametrize("kind", KINDS)
def test_cells_begin_at_multiples_of_the_stride(kind, files):
    extractor = ConvFeatures.load(files[kind], kind=kind)
    assert extractor.size == 512
    grid = extractor.grid((512, 512))
    stride = STRIDE[kind]
    assert grid.shape == (512 // stride,) * 2 and grid.valid().all()
    # VRP-SAM's nearest: pixel 8 i, 8 j of the stretched mask (16 i, 16 j of the VGG).
    mask = np.random.default_rng(0).uniform(size=(512, 512)) > 0.5
    np.testing.assert_array_equal(mask_to_grid(mask, grid, "nearest"), mask[::stride, ::stride])


def test_corner_weights():
    np.testing.assert_allclose(corner_weights(4, 2), [[1, 0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(corner_weights(3, 1), [[1, 0, 0]])
    line = torch.arange(9.0).square()
    wanted = torch.nn.functional.interpolate(line[None, None], 5, mode="linear", align_corners=True)
    np.testing.assert_allclose(corner_weights(9, 5) @ line.numpy(), wanted[0, 0], rtol=1e-6)


class TestNames:
    @pytest.mark.parametrize("kind", KINDS)
    def test_checkpoints_of_vrp_sam(self, kind, networks, modules):
        assert_equal(convert_backbone(kind, torch_backbones.as_vrp_sam(networks[kind])), modules[kind])

    def test_timm(self, networks, modules):
        found = convert_backbone("resnet50", torch_backbones.as_timm(networks["resnet50"]))
        assert_equal(found, modules["resnet50"])

    def test_classifiers_of_the_vgg(self, networks):
        state = networks["vgg16"].state_dict()
        for head in ("classifier.0", "pre_logits.fc1", "head.fc"):
            assert vgg_names(state | {f"{head}.weight": torch.zeros(4, 4)}).keys() == vgg_names(state).keys()

    def test_files(self, networks, modules, files, tmp_path):
        """Of either format, with or without config, without counters: one network."""
        state = networks["resnet50"].state_dict()
        bare = {name: value for name, value in state.items() if value.ndim}
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "config.json").write_text('{"architecture": "resnet50s"}')
        safetensors.save_file(bare, tmp_path / "folder" / "model.safetensors")
        safetensors.save_file(bare, tmp_path / "some.safetensors")
        torch.save({"state_dict": torch_backbones.as_vrp_sam(networks["resnet50"])}, tmp_path / "vrp.pth")
        names = set()
        for path in (
            files["resnet50"],
            tmp_path / "folder",
            tmp_path / "some.safetensors",
            tmp_path / "vrp.pth",
        ):
            found = load_backbone("resnet50", path, size=SIZE)
            assert_equal(found.graph.merge(found.state), modules["resnet50"])
            assert str(path) in found.name
            names.add(found.name.partition("@")[2])
        assert len(names) == 4  # files of other bytes

    def test_half_precision(self, networks):
        half = {name: value.half() for name, value in networks["vgg16"].state_dict().items()}
        exact = {name: value.float() for name, value in half.items()}
        assert_equal(convert_backbone("vgg16", half), convert_backbone("vgg16", exact))


class TestRefused:
    def test_all_misfits_are_told_at_once(self, networks):
        state = dict(networks["resnet50"].state_dict())
        del state["layer1.0.bn1.running_var"], state["layer4.2.conv3.weight"]
        state["layer5.weight"] = torch.zeros(3)
        state["conv2.weight"] = torch.zeros(64, 64, 1, 1)
        with pytest.raises(InputError) as caught:
            convert_backbone("resnet50", state, where="here.pth")
        said = str(caught.value)
        assert said.startswith("here.pth does not fit the ResNet-50 of VRP-SAM: tensors 2 missing (")
        assert "layer1.0.bn1.running_var" in said and "layer4.2.conv3.weight" in said
        # A counter without its norm is told, too.
        assert "2 unexpected (layer1.0.bn1.num_batches_tracked, layer5.weight)" in said
        assert "conv2.weight is [64, 64, 1, 1], expected [64, 64, 3, 3]" in said

    def test_the_resnet_of_torchvision(self, networks):
        state = dict(networks["resnet50"].state_dict())
        for name in [name for name in state if name.startswith(("conv2", "conv3", "bn2", "bn3"))]:
            del state[name]
        state["conv1.weight"] = torch.zeros(64, 3, 7, 7)
        state["layer1.0.conv1.weight"] = torch.zeros(64, 64, 1, 1)
        with pytest.raises(InputError, match=r"torchvision's begins with one of 7 x 7"):
            convert_backbone("resnet50", state)

    def test_the_other_network(self, files):
        with pytest.raises(InputError, match=r"does not fit VGG-16 with BatchNorm"):
            load_backbone("vgg16", files["resnet50"])

    def test_what_is_no_checkpoint(self, tmp_path):
        with pytest.raises(InputError, match=r"missing.pth was not found"):
            load_backbone("resnet50", tmp_path / "missing.pth")
        (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 20)
        with pytest.raises(InputError, match=r"cut.safetensors is damaged"):
            load_backbone("resnet50", tmp_path / "cut.safetensors")
        with pytest.raises(InputError, match=r"leave out the revision"):
            (tmp_path / "some.safetensors").write_bytes(b"\xff" * 20)
            load_backbone("resnet50", tmp_path / "some.safetensors", revision="main")

    def test_settings(self, files):
        with pytest.raises(InputError, match=r"kind is 'resnet18'; expected 'resnet50', 'vgg16' or 'dinov2'"):
            load_backbone("resnet18", files["resnet50"])
        with pytest.raises(
            InputError, match=r"size is 500; expected a multiple of 8, the stride of resnet50"
        ):
            load_backbone("resnet50", files["resnet50"], size=500)
        with pytest.raises(InputError, match=r"split is .* for vgg16, which has none"):
            load_backbone("vgg16", files["vgg16"], split=(1, 2, 3, 4))

    def test_arrays(self, extractors):
        extractor = extractors["vgg16"]
        with pytest.raises(InputError, match=r"images is uint8 \[4, 4, 3\]"):
            extractor(picture(4, 4))
        values = see(extractor, picture(4, 4)).values
        with pytest.raises(InputError, match=r"values has shape \[4, 4, 512\]"):
            extractor.deepen(values[..., 256:], None)
        with pytest.raises(InputError, match=r"mask has shape \[64, 64\]; expected \[4, 4\]"):
            extractor.deepen(values, np.ones((64, 64), np.float32))
