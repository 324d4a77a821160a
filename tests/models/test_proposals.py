from __future__ import annotations

import cv2
import numpy as np
import pytest

from softmatch_jax.imaging import fit_longest, resize_mask
from softmatch_jax.models import GrabCut, GrabCutConfig, Proposals
from softmatch_jax.prompting import Prompt

SIZES = [(640, 480), (300, 400), (100, 60), (60, 100), (1024, 1024), (1500, 2000), (333, 500), (417, 1023)]
SIDE, SCALE = 1024, 4


def proposals(image_size, logits, *, side=SIDE, scale=SCALE):
    """As SAM makes them: the picture's longer side is ``side`` enlarged cells long."""
    count = len(logits)
    return Proposals(
        logits=logits.astype(np.float32),
        scores=np.linspace(0.9, 0.5, count, dtype=np.float32),
        stability=np.ones(count, np.float32),
        prompts=np.arange(count, dtype=np.int32),
        image_size=image_size,
        content=fit_longest(image_size, side),
        scale=scale,
    )


def waves(count=2, side=SIDE // SCALE, seed=0):
    """Smooth logits, as a decoder makes them."""
    noise = np.random.default_rng(seed).normal(size=(count, side // 16, side // 16)).astype(np.float32)
    return np.stack([cv2.resize(one, (side, side), interpolation=cv2.INTER_CUBIC) for one in noise]) * 8


def original_size(logits, image_size, side=SIDE):
    """Logits at the size of the picture by torch, the way that SAM's own post-processing takes."""
    functional = pytest.importorskip("torch").nn.functional
    tensor = pytest.importorskip("torch").from_numpy(logits[:, None].astype(np.float32))
    large = functional.interpolate(tensor, (side, side), mode="bilinear", align_corners=False)
    ratio = side / max(image_size)
    height, width = (int(length * ratio + 0.5) for length in image_size)
    cropped = large[..., :height, :width]
    return functional.interpolate(cropped, image_size, mode="bilinear", align_corners=False)[:, 0].numpy()


@pytest.mark.parametrize("size", SIZES)
def test_masks_are_those_of_sams_own_post_processing(size):
    logits = waves()
    wanted = original_size(logits, size)
    made = proposals(size, logits)
    np.testing.assert_allclose(np.stack([made.enlarge(one) for one in logits]), wanted, atol=1e-3)
    # Where float32 rounds across the threshold there is nothing to be right about.
    clear = np.abs(wanted) > 1e-3
    assert clear.mean() > 0.999
    np.testing.assert_array_equal(made.masks[clear], (wanted > 0)[clear])
    assert made.masks.shape == (2, *size) and made.masks.dtype == np.bool_


def test_masks_are_those_of_transformers():
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    size, logits = (450, 337), waves()
    processor = transformers.SamProcessor(transformers.SamImageProcessorPil())
    (wanted,) = processor.image_processor.post_process_masks(
        [torch.from_numpy(logits[None])], [size], [fit_longest(size, SIDE)]
    )
    assert (proposals(size, logits).masks == wanted[0].numpy()).mean() > 0.9999


def box_mask(size, x0, y0, x1, y1):
    mask = np.zeros(size, np.float32)
    mask[y0:y1, x0:x1] = 1
    return mask


def centre_of(weights):
    rows, columns = (np.arange(n) + 0.5 for n in weights.shape)
    return np.array([(weights * columns).sum(), (weights * rows[:, None]).sum()]) / weights.sum()


@pytest.mark.parametrize("size", [*SIZES, (97, 411)])
def test_a_box_keeps_its_place_on_the_raster_and_back(size):
    made = proposals(size, waves())
    height, width = size
    box = box_mask(size, width // 5, height // 4, width // 2, 2 * height // 3)
    small = made.reduce(box)
    ratio = np.divide(made.content, size)[::-1] / SCALE
    np.testing.assert_allclose(centre_of(small), centre_of(box) * ratio, atol=0.05)
    np.testing.assert_allclose(small.sum(), box.sum() * np.prod(ratio), rtol=0.02)
    # Half a cell of the raster is what each of the four sides may be off.
    back = made.enlarge(small) > 0.5
    assert (back != (box > 0.5)).sum() <= 2 * sum(size) * max(0.5 / ratio.min(), 1)
    np.testing.assert_allclose(
        centre_of(back.astype(float)), centre_of(box), atol=max(0.25 / ratio.min(), 0.1)
    )


@pytest.mark.parametrize("size", [*SIZES, (97, 411), (1, 400), (400, 1), (3, 1000)])
def test_constants_stay_and_padding_is_zero(size):
    made = proposals(size, waves())
    small = made.reduce(np.full(size, 0.7, np.float32))
    assert small.shape == made.logits.shape[1:]
    np.testing.assert_allclose(small[made.inside], 0.7, atol=1e-5)
    beyond = np.ones_like(small, bool)
    beyond[: -(-made.content[0] // SCALE), : -(-made.content[1] // SCALE)] = False
    assert not small[beyond].any() and not (made.inside & beyond).any()
    np.testing.assert_allclose(made.enlarge(np.full_like(small, 0.7)), 0.7, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (1, 1), (2, 900)])
def test_a_sliver_has_cells(size):
    made = proposals(size, np.full((1, 256, 256), 5.0))
    assert made.inside.any() and made.masks.all() and made.small_masks.any()


def test_content_that_is_no_whole_number_of_cells():
    """A picture 10 cells and 1 pixel high reaches into an eleventh cell whose centre it does not hold."""
    made = Proposals(
        logits=np.ones((1, 16, 16), np.float32),
        scores=np.ones(1, np.float32),
        stability=np.ones(1, np.float32),
        prompts=np.zeros(1, np.int32),
        image_size=(41, 64),
        content=(41, 64),
        scale=4,
    )
    assert made.inside.sum(axis=0).tolist() == [10] * 16
    assert np.array_equal(made.small_masks[0], made.inside)
    last_row = box_mask((41, 64), 0, 40, 64, 41)
    # Within its last cell the picture is held constant, so that the stroke is not thinned by padding.
    np.testing.assert_allclose(made.reduce(last_row)[10], 1)
    assert not made.reduce(last_row)[11:].any()


def test_some_of_the_masks():
    made = proposals((64, 48), waves(4))
    for chosen, places in (([2, 0], [2, 0]), (slice(1, 3), [1, 2]), (made.scores > 0.7, [0, 1])):
        part = made[chosen]
        assert len(part) == len(places) and part.prompts.tolist() == places
        np.testing.assert_array_equal(part.logits, made.logits[places])
        np.testing.assert_array_equal(part.scores, made.scores[places])
        np.testing.assert_array_equal(part.masks, made.masks[places])
        assert (part.content, part.scale, part.image_size) == (made.content, made.scale, (64, 48))
    assert len(made[[]]) == 0 and made[:0].masks.shape == (0, 64, 48)


def test_none_at_all():
    none = Proposals.empty((5, 7))
    assert len(none) == 0 and none.masks.shape == none.small_masks.shape == (0, 5, 7)
    assert none.inside.all()


def test_enlarging_hands_out_what_may_be_written_to():
    made = Proposals.empty((5, 7))
    raster = np.zeros((5, 7), np.float32)
    made.enlarge(raster)[:] = 1
    assert not raster.any()


@pytest.mark.parametrize("size", [(90, 300), (400, 131), (77, 99), (40, 30)])
def test_masks_of_grabcut_are_its_cut_resized(size):
    rows, columns = np.mgrid[: size[0], : size[1]]
    on = np.hypot(columns - size[1] * 0.6, rows - size[0] * 0.4) < min(size) / 3
    noise = np.random.default_rng(0).integers(-12, 13, (*size, 3))
    image = (np.where(on[..., None], (220, 130, 40), (30, 120, 130)) + noise).astype(np.uint8)
    generator = GrabCut(GrabCutConfig(longest=80))
    prompt = Prompt(np.array([[size[1] * 0.6, size[0] * 0.4]]), np.ones(1, bool))
    prior = np.where(on, 0.85, 0.15).astype(np.float32)
    made = generator.decode(generator.encode(image), [prompt], prior=prior)
    assert len(made) == 1
    np.testing.assert_array_equal(made.masks[0], resize_mask(made.small_masks[0], size))
    np.testing.assert_array_equal(made.small_masks[0], made.logits[0] > 0)
