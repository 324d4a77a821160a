from __future__ import annotations

import jax
import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.models.preprocessing import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    check_images,
    exact_float32,
    explain_out_of_memory,
    normalise,
    pick_device,
    pick_dtype,
    pixel_batches,
    resize_picture,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height, width):
    y, x = np.mgrid[:height, :width]
    return (127 + 120 * np.stack([np.sin(x / 5 + y / 9), np.cos(x / 7), np.sin(x * y / 300)], -1)).astype(
        np.uint8
    )


# As in preprocessor_config.json of the published models, but for the sizes, which are ours, and the crop.
# The classes are named by what they are on all backends; 3 is bicubic in Pillow's count and 2 bilinear.
DINOV2 = ("BitImageProcessorPil", 3, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CLIP = (
    "CLIPImageProcessorPil",
    3,
    [0.48145466, 0.4578275, 0.40821073],
    [0.26862954, 0.26130258, 0.27577711],
)
CONSTANTS = {
    "BitImageProcessorPil": (IMAGENET_MEAN, IMAGENET_STD),
    "CLIPImageProcessorPil": (CLIP_MEAN, CLIP_STD),
}


@pytest.mark.parametrize("published", [DINOV2, CLIP], ids=["dinov2", "clip"])
@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((60, 90), (28, 42)),
        ((30, 20), (112, 70)),
        ((64, 48), (64, 48)),
        ((1, 200), (14, 70)),
        ((9, 300), (70, 14)),
    ],
)
def test_pixels_are_those_of_the_published_processor(published, size, wanted):
    name, resample, mean, std = published
    processor = getattr(transformers, name)(
        do_center_crop=False,
        do_convert_rgb=True,
        do_normalize=True,
        do_rescale=True,
        do_resize=True,
        image_mean=mean,
        image_std=std,
        resample=resample,
        rescale_factor=0.00392156862745098,
        size={"height": wanted[0], "width": wanted[1]},
    )
    for image in (picture(*size), smooth(*size)):
        expected = processor(image, return_tensors="np", input_data_format="channels_last")["pixel_values"]
        resized = resize_picture(image, wanted, resample="bicubic")
        assert resized.dtype == np.uint8 and resized.shape == (*wanted, 3)
        pixels = normalise(resized[None], *CONSTANTS[name])
        assert pixels.dtype == np.float32 and pixels.flags.c_contiguous
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(("size", "resized"), [((60, 90), (683, 1024)), ((1400, 700), (1024, 512))])
def test_pixels_are_those_of_sam(size, resized):
    processor = transformers.SamImageProcessorPil(
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        resample=2,
        size={"longest_edge": 1024},
    )
    image = smooth(*size)
    expected = processor(image, return_tensors="np")["pixel_values"]
    pixels = normalise(resize_picture(image, resized, resample="bilinear")[None], IMAGENET_MEAN, IMAGENET_STD)
    np.testing.assert_array_equal(pixels, expected[..., : resized[0], : resized[1]])


def test_normalised_pixels_keep_their_place_and_channel():
    images = picture(5, 7)[None].repeat(2, axis=0)
    images[1] = images[1, ::-1]
    for index, image in enumerate(images):
        exact = (image.astype(np.float64) / 255 - IMAGENET_MEAN) / IMAGENET_STD
        found = normalise(images, IMAGENET_MEAN, IMAGENET_STD)[index]
        np.testing.assert_allclose(np.moveaxis(found, 0, -1), exact, rtol=1e-6, atol=1e-6)


def test_shrinking_averages():
    """Stripes finer than an output pixel become their mean instead of a pattern of their own."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    for resample in ("bicubic", "bilinear"):
        shrunk = resize_picture(stripes, (8, 8), resample=resample)
        np.testing.assert_allclose(shrunk[1:-1, 1:-1], 127.5, atol=2)


def test_resizing_reads_views_and_leaves_them():
    image = picture(20, 30)
    for view in (image[::-1], image[:, ::2], image[..., ::-1]):
        before = view.copy()
        np.testing.assert_array_equal(
            resize_picture(view, (9, 9), resample="bicubic"),
            resize_picture(before, (9, 9), resample="bicubic"),
        )
        same = resize_picture(view, view.shape[:2], resample="bicubic")
        np.testing.assert_array_equal(same, before)
        same[:] = 0
        np.testing.assert_array_equal(view, before)


@pytest.mark.parametrize(
    "wrong",
    [
        picture(4, 4),
        picture(4, 4)[None, ..., :1],
        picture(4, 4)[None] / 255,
        np.zeros((0, 4, 4, 3), np.uint8),
    ],
)
def test_what_is_no_batch_of_pictures(wrong):
    for check in (check_images, lambda images: normalise(images, CLIP_MEAN, CLIP_STD)):
        with pytest.raises(InputError, match=r"images is .*; expected a non-empty uint8 \[B, H, W, 3\]"):
            check(wrong)


def test_what_cannot_be_resized():
    with pytest.raises(InputError, match="image is float64"):
        resize_picture(picture(4, 4) / 255, (2, 2), resample="bicubic")
    for size, name in (((0, 3), "height"), ((3, -1), "width")):
        with pytest.raises(InputError, match=f"{name} is .*greater than 0"):
            resize_picture(picture(4, 4), size, resample="bicubic")


def test_devices(monkeypatch):
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(InputError, match=r"'cuda' is not there .* sees 0 .*choose auto or cpu"):
        pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match=r"'cuda:2' is not there .* sees 2"):
        pick_device("cuda:2")


@pytest.mark.parametrize("wrong", ["", "gpu", "meta", "cuda:x", "CPU"])
def test_unknown_devices(wrong):
    with pytest.raises(InputError, match=r"The device is .*; expected auto, cpu, cuda"):
        pick_device(wrong)


def test_dtypes(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert pick_dtype("auto", cpu) == torch.float32
    for capability, dtype in (((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), torch.float16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert pick_dtype("auto", cuda) == dtype
    for name in ("float32", "float16", "bfloat16"):
        assert pick_dtype(name, cpu) == pick_dtype(name, cuda) == getattr(torch, name)
    for wrong in ("int8", "float64", "half"):
        with pytest.raises(InputError, match=f"The dtype is '{wrong}'; expected auto, float32"):
            pick_dtype(wrong, cpu)


def test_full_memory_is_explained():
    with (
        pytest.raises(
            InputError, match="a/b does not fit into the GPU's memory; lower x, or use device='cpu'"
        ),
        explain_out_of_memory("a/b", "lower x"),
    ):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
    with pytest.raises(RuntimeError, match="other"), explain_out_of_memory("a/b", "lower x"):
        raise RuntimeError("other")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cudaErrorMemoryAllocation"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Failed to allocate 9 bytes."),
    ],
)
def test_full_memory_has_many_names(error):
    with (
        pytest.raises(InputError, match=r"does not fit .* lower x.*XLA_PYTHON_CLIENT_PREALLOCATE=false"),
        explain_out_of_memory("a/b", "lower x"),
    ):
        raise error


def test_float32_is_exact_inside_and_the_setting_is_restored():
    cudnn = torch.backends.cudnn
    before = cudnn.conv.fp32_precision
    for precision in ("tf32", "ieee"):
        cudnn.conv.fp32_precision = precision
        try:
            with exact_float32(torch.bfloat16):
                assert cudnn.conv.fp32_precision == precision
            with pytest.raises(KeyError), exact_float32(torch.float32):
                assert cudnn.conv.fp32_precision == "ieee"
                raise KeyError
            assert cudnn.conv.fp32_precision == precision
        finally:
            cudnn.conv.fp32_precision = before


def test_threads_overlap_in_exact_float32():
    """The first to come is the first to leave; the other goes on exactly, and the setting is restored."""
    convolutions = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    assert before == "tf32"  # torch's own default
    first, second = exact_float32(torch.float32), exact_float32(torch.float32)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert convolutions.fp32_precision == "ieee"
    second.__exit__(None, None, None)
    assert convolutions.fp32_precision == before


def test_batches_are_the_pictures_in_order():
    images = np.stack([picture(20, 30, seed) for seed in range(5)])
    made = list(
        pixel_batches(
            images,
            (8, 6),
            CLIP_MEAN,
            CLIP_STD,
            batch_size=2,
            device=torch.device("cpu"),
            dtype=torch.float16,
        )
    )
    assert [len(batch) for batch in made] == [2, 2, 1] and made[0].dtype == torch.float16
    for found, image in zip(torch.cat(made), images, strict=True):
        wanted = normalise(resize_picture(image, (8, 6), resample="bicubic")[None], CLIP_MEAN, CLIP_STD)[0]
        np.testing.assert_array_equal(found, wanted.astype(np.float16))
