from __future__ import annotations

import math
from functools import partial

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from small_sam import drawn_weights, small_config
from torch.nn import functional

from softmatch_jax._checks import InputError
from softmatch_jax.models.sam.config import SamConfig, StemConfig
from softmatch_jax.models.sam.flat_weights import expected_shapes, merge
from softmatch_jax.models.sam.mask_decoder import Fine
from softmatch_jax.models.sam.prompt_rasters import INSIDE, MASK, NEGATIVE_SPOT, SPOT
from softmatch_jax.models.sam.tiny import TinySamModel
from softmatch_jax.models.sam.tiny_encoder import MATCHED, TinyFeatures

SIZE = 64
CONFIG = small_config(SIZE)


@partial(jax.jit, static_argnames="config")
def encode(config, weights, pixels):
    return merge(config, weights).encode(pixels)


@partial(jax.jit, static_argnames="config")
def decode(config, weights, features, xy, labels, logits, dense, pooled):
    return merge(config, weights).decode(features, xy, labels, logits, dense=dense, pooled=pooled)


@pytest.fixture(scope="module")
def weights():
    return drawn_weights()


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(5).normal(size=(SIZE, SIZE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def features(weights, pixels):
    return encode(CONFIG, weights, pixels)


@pytest.fixture(scope="module")
def answer(weights, features):
    """Masks of a prompt of four marks, and of a mask's logits."""

    def call(*marks, logits=0.0, dense=True, pooled=True, weights=weights, features=features):
        xy = np.array([mark[:2] for mark in marks], np.float32)
        labels = np.array([mark[2] for mark in marks], np.int32)
        logits = np.broadcast_to(np.float32(logits), (SIZE // 4, SIZE // 4))
        found = decode(CONFIG, weights, features, xy, labels, logits, np.bool_(dense), np.bool_(pooled))
        return [np.asarray(array) for array in found]

    return call


NOTHING = (0.0, 0.0, -1)
POINTS = ((20.0, 9.5, 1), (50.0, 33.0, 0))
BOX = ((8.0, 12.0, 2), (40.0, 50.0, 3))


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def differ(first, second):
    return np.abs(first[0] - second[0]).max() > 1e-3


def test_shapes_at_other_sizes_with_the_same_weights():
    for size in (32, 64, 48):
        config, side = small_config(size), size // 4
        shapes = {n: jax.ShapeDtypeStruct(s, np.float32) for n, s in expected_shapes(config).items()}
        seen = jax.eval_shape(
            partial(encode, config), shapes, jax.ShapeDtypeStruct((size, size, 3), np.float32)
        )
        assert seen.rows.shape == ((size // 16) ** 2, 16)
        assert seen.fine.double.shape == (side // 2, side // 2, 4)
        assert seen.fine.fourfold.shape == (side, side, 2)
        arrays = [jax.ShapeDtypeStruct(s, np.float32) for s in ((5, 2), (side, side))]
        labels, flag = jax.ShapeDtypeStruct((5,), np.int32), jax.ShapeDtypeStruct((), bool)
        masks, iou = jax.eval_shape(
            partial(decode, config), shapes, seen, arrays[0], labels, arrays[1], flag, flag
        )
        assert masks.shape == (4, side, side) and iou.shape == (4,)


@pytest.mark.slow
def test_slots_without_a_point_and_their_order_do_not_matter(answer):
    expected = answer(*POINTS, NOTHING, NOTHING)
    assert_same(answer((math.nan, math.inf, -1), POINTS[1], (3.0, 3.0, -1), POINTS[0]), expected)
    assert_same(answer(*POINTS), expected)  # a slot fewer is another program
    assert all(np.isfinite(array).all() for array in answer(*[NOTHING] * 4))


def test_every_mark_and_every_path_matters(answer):
    prompts = [
        (*POINTS, NOTHING, NOTHING),
        ((*POINTS[0][:2], 0), POINTS[1], NOTHING, NOTHING),
        ((21.0, 9.5, 1), POINTS[1], NOTHING, NOTHING),
        (*BOX, NOTHING, NOTHING),
        (*BOX, *POINTS),
        (NOTHING,) * 4,
    ]
    for dense, pooled in ((True, True), (False, True), (False, False)):
        found = [answer(*prompt, dense=dense, pooled=pooled) for prompt in prompts]
        assert all(differ(found[a], found[b]) for a in range(6) for b in range(a)), (dense, pooled)
    assert differ(answer(*prompts[4]), answer(*prompts[4], dense=False))
    assert differ(answer(*prompts[4]), answer(*prompts[4], pooled=False))


def test_an_earlier_mask_comes_in_by_the_maps_alone(answer):
    logits = np.random.default_rng(3).normal(0, 5, (16, 16))
    prompt = (*POINTS, NOTHING, NOTHING)
    for dense, pooled in ((True, True), (True, False), (False, True)):
        flags = {"dense": dense, "pooled": pooled}
        assert differ(answer(*prompt, logits=logits, **flags), answer(*prompt, **flags)), flags
    bare = {"dense": False, "pooled": False}
    assert_same(answer(*prompt, logits=logits, **bare), answer(*prompt, **bare))


def test_without_its_maps_it_is_sams_decoder(answer, weights, features):
    """Put together from SAM's parts; positions there are indices of pixels."""
    prompt = (*BOX, *POINTS)
    xy, labels = np.float32([mark[:2] for mark in prompt]), np.int32([mark[2] for mark in prompt])

    @jax.jit
    def plain(weights, features):
        model = merge(CONFIG, weights)
        encoder = model.prompt_encoder
        tokens = encoder.encode_points(xy - 0.5, labels)
        image = features.rows + encoder.no_mask_dense()
        return model.mask_decoder(image, encoder.dense_positions(), tokens, fine=features.fine)

    assert_same(answer(*prompt, dense=False, pooled=False), plain(weights, features))


def test_fine_features_join_in_on_the_way_up(answer, features):
    prompt = (*BOX, *POINTS)
    before = answer(*prompt)
    for name in ("double", "fourfold"):
        part = np.array(getattr(features.fine, name))
        part[0, 0, 0] += 3
        fine = features.fine._replace(**{name: part})
        change = np.abs(answer(*prompt, features=features._replace(fine=fine))[0] - before[0]).max(0)
        cells = {"double": 2, "fourfold": 1}[name]
        assert change[:cells, :cells].min() > 0
        change[:cells, :cells] = 0
        assert not change.any()


def test_what_lies_under_the_marks_by_numpy(weights, features):
    raster = np.random.default_rng(8).normal(size=(16, 16, 7)).astype(np.float32)
    raster[..., NEGATIVE_SPOT] = -1  # nothing of this kind: only what is positive counts
    look = jax.jit(lambda w, f, r: merge(CONFIG, w).look_under(f, r))
    tokens, there, likeness = look(weights, features, raster)
    assert there.tolist() == [True, False, True, True]
    rows, matched = (np.asarray(array, np.float64) for array in (features.rows, features.matched))
    np.testing.assert_allclose(np.linalg.norm(matched, axis=-1), 1, atol=1e-4)
    for index, channel in enumerate((SPOT, NEGATIVE_SPOT, INSIDE, MASK)):
        total, mean, meant = 0.0, np.zeros(16), np.zeros(matched.shape[-1])
        for y, x in np.ndindex(16, 16):
            weight = max(raster[y, x, channel], 0)
            total = total + weight
            mean, meant = mean + weight * rows[y // 4 * 4 + x // 4], meant + weight * matched[y // 2, x // 2]
        if channel == NEGATIVE_SPOT:
            assert total == 0 and not np.any(likeness[..., index])
            continue
        meant /= np.linalg.norm(meant)
        np.testing.assert_allclose(likeness[..., index], matched @ meant, atol=1e-4)
        expected = weights["pooled_kinds"][index] + sum(
            value @ weights[f"{name}.kernel"] + weights[f"{name}.bias"]
            for name, value in (("pooled_proj", mean / total), ("matched_proj", meant))
        )
        np.testing.assert_allclose(tokens[index], expected, rtol=1e-3, atol=1e-3)


def stage(weights, name, x):
    """A stage of one block in torch, channels first."""

    def taken(part):
        array = torch.from_numpy(weights[f"image_encoder.{name}.{part}"])
        return array.permute(3, 2, 0, 1) if array.ndim == 4 else array

    def norm(x, part):
        last = functional.layer_norm(
            x.movedim(0, -1), x.shape[:1], taken(f"{part}.scale"), taken(f"{part}.bias"), 1e-6
        )
        return last.movedim(-1, 0)

    y = functional.conv2d(
        norm(x, "blocks.0.norm"),
        taken("blocks.0.conv.conv.kernel"),
        taken("blocks.0.conv.conv.bias"),
        padding=1,
    )
    kernel, bias = taken("blocks.0.out.kernel"), taken("blocks.0.out.bias")
    y = torch.einsum("chw,co->ohw", functional.gelu(y), kernel) + bias[:, None, None]
    return norm(x + y, "norm")


def test_the_convolutions_by_torch(weights, pixels, features):
    own = {name: torch.from_numpy(array) for name, array in weights.items()}

    def conv(name, x, **settings):
        kernel = own[f"image_encoder.{name}.kernel"].permute(3, 2, 0, 1)
        return functional.conv2d(x, kernel, own[f"image_encoder.{name}.bias"], **settings)

    def linear(name, x):
        return x.movedim(0, -1) @ own[f"image_encoder.{name}.kernel"] + own[f"image_encoder.{name}.bias"]

    # Four by four pixels are the channels of a cell: row, column, then colour.
    cells = functional.pixel_unshuffle(torch.from_numpy(pixels).movedim(-1, 0), 4)
    cells = cells.reshape(3, 16, 16, 16).transpose(0, 1).reshape(48, 16, 16)
    fourfold = stage(weights, "stage1", conv("stem.conv", cells, padding=1))
    double = stage(weights, "stage2", conv("down1", fourfold, stride=2))
    np.testing.assert_allclose(features.fine.fourfold, linear("fourfold", fourfold), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features.fine.double, linear("double", double), rtol=1e-4, atol=1e-5)


def test_every_cell_sees_the_whole_picture(weights, pixels, features):
    changed = pixels.copy()
    changed[-1, -1] += 5
    found = encode(CONFIG, weights, changed)
    assert (np.abs(found.rows - features.rows).max(-1) > 1e-6).all()
    # What is finer stays local: two convolutions reach two cells.
    assert not np.abs(found.fine.fourfold - features.fine.fourfold)[:8, :8].any()


def test_what_does_not_fit(weights):
    model = merge(CONFIG, weights)
    fine = Fine(np.zeros((8, 8, 4)), np.zeros((16, 16, 2)))
    features = TinyFeatures(np.zeros((16, 16)), fine, np.zeros((8, 8, MATCHED)))
    with pytest.raises(InputError, match=r"pixels has shape \[32, 32, 3\]; expected \[64, 64, 3\]"):
        model.encode(np.zeros((32, 32, 3)))
    with pytest.raises(InputError, match=r"xy has shape \[3\]"):
        model.decode(features, np.zeros(3), np.zeros(3, int))
    with pytest.raises(InputError, match=r"labels has shape \[2\]"):
        model.decode(features, np.zeros((3, 2)), np.zeros(2, int))
    with pytest.raises(InputError, match=r"logits has shape \[8, 8\]; expected \[16, 16\]"):
        model.decode(features, np.zeros((3, 2)), np.zeros(3, int), np.zeros((8, 8)))
    arrays = [np.zeros(shape) for shape in ((16, 16), (16, 16), (1, 16))]
    for wrong, message in (
        (
            fine._replace(double=np.zeros((4, 4, 4))),
            r"fine.double has shape \[4, 4, 4\]; expected \[8, 8, 4\]",
        ),
        (fine._replace(fourfold=np.zeros((16, 16, 4))), r"fine.fourfold .* expected \[16, 16, 2\]"),
    ):
        with pytest.raises(InputError, match=message):
            model.mask_decoder(*arrays, fine=wrong)


@pytest.mark.parametrize("size", [0, 24, 272])
def test_sizes_that_it_cannot_see(size):
    with pytest.raises(InputError, match=f"image_size is {size}; expected a multiple of 16 up to 256"):
        SamConfig.tiny(size)


def test_configurations_without_a_fitting_stem():
    with pytest.raises(InputError, match="has no stem"):
        TinySamModel(SamConfig.base(), rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match="image_size 1024 and embedding_size 32; expected 16 times"):
        SamConfig(embedding_size=32, stem=StemConfig())
    with pytest.raises(InputError, match=r"StemConfig.dims is \(48,\); expected two"):
        StemConfig(dims=(48,))
