from __future__ import annotations

import jax
import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.models import DenseDescriptor, DescriptorConfig
from softmatch_jax.models.embedded import describe

# Small, so that it compiles and runs fast; the laws hold for all settings.
CONFIG = DescriptorConfig(longest=64, stride=4, gradient_scale=1.0, orientations=4, pooling=(1.5, 3.0))
SIDE, CELLS = CONFIG.longest, CONFIG.longest // CONFIG.stride
DESCRIPTOR = DenseDescriptor(CONFIG)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height, width):
    """A picture with structure at the scale of a patch rather than noise at that of a pixel."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5 + y / 9), np.cos(x / 7 - y / 4), np.sin(x * y / 300)]
    return (127 + 120 * np.stack(waves, -1)).astype(np.uint8)


@jax.jit
def described(canvas, content):
    return describe(canvas, content, CONFIG)


def features_of(canvas, content=None):
    content = canvas.shape[:2] if content is None else content
    return np.asarray(described(canvas, np.asarray(content, np.float32)))


def channels(features, kind):
    """``[..., scale, channel]`` of one kind: colour, deviation or gradient."""
    by_scale = features.reshape(*features.shape[:-1], len(CONFIG.pooling), -1)
    return by_scale[..., {"colour": slice(3), "deviation": slice(3, 6), "gradient": slice(6, None)}[kind]]


def test_shape_and_dimensions():
    features = features_of(picture(SIDE, SIDE))
    assert features.shape == (CELLS, CELLS, CONFIG.dim) and features.dtype == np.float32
    assert DESCRIPTOR.dim == CONFIG.dim == len(CONFIG.pooling) * (6 + CONFIG.orientations)


def test_blank_picture_has_its_colour_and_nothing_else():
    features = features_of(np.full((SIDE, SIDE, 3), (200, 60, 90), np.uint8))
    assert np.isfinite(features).all()
    assert np.ptp(features, axis=(0, 1)).max() < 1e-3  # square - mean^2 leaves 1e-7 under a root
    other = features_of(np.full((SIDE, SIDE, 3), 128, np.uint8))
    for kind in ("deviation", "gradient"):
        np.testing.assert_allclose(channels(features, kind), channels(other, kind), atol=1e-3)
        assert channels(features, kind).max() < 0.02
    assert not np.allclose(channels(features, "colour"), channels(other, "colour"), atol=0.1)


@pytest.mark.parametrize("content", [(40, 64), (64, 23), (5, 3), (1, 1)])
def test_what_lies_in_the_padding_does_not_matter(content):
    height, width = content
    canvas = picture(SIDE, SIDE, 1)
    other = picture(SIDE, SIDE, 2)
    other[:height, :width] = canvas[:height, :width]
    first, second = features_of(canvas, content), features_of(other, content)
    np.testing.assert_array_equal(first, second)
    assert np.isfinite(first).all()


def test_the_edge_is_exact_whatever_the_canvas():
    """A picture at the corner of a large canvas is described as one that fills a small one."""
    inner = smooth(32, 48)
    large = np.zeros((SIDE, SIDE, 3), np.uint8)
    large[:32, :48] = inner
    small = described(inner, np.asarray(inner.shape[:2], np.float32))
    # The two products sum in another order; the root at the floor of 1e-5 magnifies 1e-7 a hundredfold.
    np.testing.assert_allclose(features_of(large, (32, 48))[:8, :12], small, atol=5e-5)


def test_ramps_show_in_their_own_direction():
    ramp = np.broadcast_to(np.arange(SIDE, dtype=np.uint8)[None, :, None] * 4, (SIDE, SIDE, 3))
    for canvas, along in ((ramp, 0), (ramp.transpose(1, 0, 2), CONFIG.orientations // 2)):
        gradient = channels(features_of(np.ascontiguousarray(canvas)), "gradient")
        assert (gradient.argmax(axis=-1) == along).all()
        across = gradient[..., (along + CONFIG.orientations // 2) % CONFIG.orientations]
        floor = channels(features_of(np.zeros((SIDE, SIDE, 3), np.uint8)), "gradient").max()
        np.testing.assert_allclose(across, floor, atol=1e-3)
        assert (gradient[..., along] > 5 * floor).all()


def test_transposing_swaps_the_directions_and_nothing_else():
    canvas = smooth(SIDE, SIDE)
    plain, turned = features_of(canvas), features_of(np.ascontiguousarray(canvas.transpose(1, 0, 2)))
    turned = turned.transpose(1, 0, 2)
    for kind in ("colour", "deviation"):
        np.testing.assert_allclose(channels(turned, kind), channels(plain, kind), atol=5e-5)
    k = CONFIG.orientations
    swapped = [(k // 2 - i) % k for i in range(k)]  # the angle a becomes 90 degrees - a
    np.testing.assert_allclose(
        channels(turned, "gradient"), channels(plain, "gradient")[..., swapped], atol=5e-4
    )  # cos and sin in float32, under a root


def test_moving_by_strides_moves_the_grid():
    wide = smooth(SIDE, SIDE + 8)
    left, right = features_of(wide[:, :SIDE].copy()), features_of(wide[:, 8:].copy())
    inside = slice(6, CELLS - 6)  # 24 pixels from the edges: six standard deviations and more
    moved = slice(inside.start + 2, inside.stop + 2)
    np.testing.assert_allclose(right[:, inside], left[:, moved], atol=1e-4)


def test_mirroring_mirrors_the_map():
    canvas = smooth(SIDE, SIDE)
    plain, mirrored = features_of(canvas), features_of(np.ascontiguousarray(canvas[:, ::-1]))
    k = CONFIG.orientations
    np.testing.assert_allclose(channels(mirrored, "colour")[:, ::-1], channels(plain, "colour"), atol=5e-5)
    swapped = [-i % k for i in range(k)]
    np.testing.assert_allclose(
        channels(mirrored, "gradient")[:, ::-1], channels(plain, "gradient")[..., swapped], atol=5e-4
    )


def test_deviation_measures_contrast():
    """Alternating columns of two greys: the deviation is half their distance in lightness."""
    canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
    canvas[:, ::2] = 255
    deviation = channels(features_of(canvas), "deviation")[4:-4, 4:-4, -1, 0]
    np.testing.assert_allclose(deviation, 0.5, atol=1e-3)


@pytest.mark.parametrize("size", [(64, 64), (200, 120), (1, 1), (3, 2000), (2000, 3), (7, 5)])
def test_pictures_of_any_size(size):
    result = DESCRIPTOR(picture(*size)[None])
    assert result.values.shape == (1, CELLS, CELLS, CONFIG.dim)
    assert result.valid.shape == (CELLS, CELLS) and result.valid.any()
    assert result.grid.image_size == size
    assert np.isfinite(result.values).all()
    assert result.flat().shape == (CELLS * CELLS, CONFIG.dim)


def test_one_compilation_serves_pictures_of_all_sizes(count_compiles):
    # Settings of its own, so that nothing is compiled yet.
    fresh = DenseDescriptor(DescriptorConfig(longest=32, stride=4, pooling=(1.7,)))
    with count_compiles("_describe_batch") as compiled:
        for size in ((32, 32), (50, 80), (80, 50), (1, 1), (3, 700)):
            fresh(picture(*size)[None])
        DenseDescriptor(DescriptorConfig(longest=32, stride=4, pooling=(1.7,)))(picture(9, 9)[None])
    assert len(compiled) == 1


def test_a_batch_is_a_loop():
    pictures = np.stack([picture(40, 70, seed) for seed in range(3)])
    together = DESCRIPTOR(pictures)
    for index, one in enumerate(pictures):
        np.testing.assert_allclose(together.values[index], DESCRIPTOR(one[None]).values[0], atol=5e-5)
        np.testing.assert_array_equal(together.flat(index), together.values[index].reshape(-1, CONFIG.dim))


def test_the_grid_points_at_what_was_described():
    """The feature under a bright spot is the one whose patch holds it."""
    dark = np.zeros((120, 200, 3), np.uint8)
    for x, y in ((30, 20), (170, 100), (101, 57)):
        spotted = dark.copy()
        spotted[y - 3 : y + 3, x - 3 : x + 3] = 255
        result = DESCRIPTOR(spotted[None])
        lightness = np.where(result.valid, result.values[0, ..., 0], -1)
        row, column = np.unravel_index(lightness.argmax(), lightness.shape)
        np.testing.assert_allclose(result.grid.patch_centres()[row, column], (x, y), atol=7)  # half a patch


def test_name_tells_settings_apart():
    assert DESCRIPTOR.name != DenseDescriptor().name


@pytest.mark.parametrize(
    "wrong",
    [
        picture(4, 4),
        picture(4, 4)[None, ..., :1],
        picture(4, 4)[None] / 255,
        np.zeros((0, 4, 4, 3), np.uint8),
    ],
    ids=["no-batch", "grey", "float", "empty"],
)
def test_what_is_no_batch_of_pictures(wrong):
    with pytest.raises(InputError, match=r"images is .*; expected a non-empty uint8 \[B, H, W, 3\]"):
        DESCRIPTOR(wrong)


def test_settings_out_of_range():
    for wrong in ({"longest": 63, "stride": 4}, {"longest": 0}, {"stride": 0}):
        with pytest.raises(InputError, match="expected positive numbers, the first a multiple of the second"):
            DescriptorConfig(**wrong)
