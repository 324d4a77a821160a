"""What stands before a torch network: pixels as its training saw them, and where and how it runs.

Pictures are resized by Pillow on ``uint8`` with antialiasing, scaled to ``[0, 1]`` and standardised
per channel: what the image processors published beside DINOv2, CLIP and SAM do, in the same order
and precision, so that features agree with theirs to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image as Pillow

from softmatch_jax._checks import InputError, check_image, check_positive
from softmatch_jax._types import Image, Size
from softmatch_jax.models.optional import require

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

PREPROCESSING = 1
"""Part of the names of models: raised when the pixels that a network sees change, so that caches do too."""

DTYPES = ("float32", "float16", "bfloat16")

_FULL = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "cudaErrorMemoryAllocation",
    "RESOURCE_EXHAUSTED",
)
"""What CUDA's libraries, torch and JAX say when there is no memory left."""

_PRECISIONS: list[str] = []
"""Of cuDNN's convolutions, as each thread inside :func:`exact_float32` found it."""
_PRECISIONS_LOCK = Lock()

_FILTERS = {"bicubic": Pillow.Resampling.BICUBIC, "bilinear": Pillow.Resampling.BILINEAR}


def check_images(images: Any) -> UInt8[np.ndarray, "B H W 3"]:
    """Returns ``images`` as an array.

    Raises:
        InputError: ``images`` is not a non-empty ``uint8 [B, H, W, 3]``.
    """
    array = np.asarray(images)
    if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise InputError(
            f"images is {array.dtype} {list(array.shape)}; expected a non-empty uint8 [B, H, W, 3] "
            "array (image[None] makes a batch of one)."
        )
    return array


def resize_picture(image: Image, size: Size, *, resample: Literal["bicubic", "bilinear"]) -> Image:
    """Resizes a picture with Pillow, antialiased, to ``size`` ``(h, w)``, which need not keep its aspect.

    Raises:
        InputError: ``image`` is not ``uint8 [H, W, 3]``, or a length is not positive.
    """
    check_image("image", image)
    height, width = size
    check_positive("height", height)
    check_positive("width", width)
    picture = Pillow.fromarray(np.ascontiguousarray(image))
    return np.array(picture.resize((width, height), _FILTERS[resample]))


def normalise(
    images: UInt8[np.ndarray, "B h w 3"], mean: Sequence[float], std: Sequence[float]
) -> Float32[np.ndarray, "B 3 h w"]:
    """Standardises pixels, ``(value / 255 - mean) / std`` in each channel, and puts channels first.

    Raises:
        InputError: ``images`` is not a non-empty ``uint8 [B, h, w, 3]``.
    """
    array = check_images(images)
    # A byte has 256 values, so three short tables hold every result.
    shades = (np.arange(256) * (1 / 255)).astype(np.float32)
    tables = [(shades - np.float32(m)) / np.float32(s) for m, s in zip(mean, std, strict=True)]
    return np.stack([table[array[..., channel]] for channel, table in enumerate(tables)], axis=1)


def pixel_batches(
    images: UInt8[np.ndarray, "B H W 3"],
    size: Size,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    batch_size: int,
    device: Any,
    dtype: Any,
) -> Iterator[Any]:
    """Pictures as a network takes them: resized (bicubic), standardised, on its device.

    Args:
        images: One or more pictures that share one size.
        size: ``(h, w)`` that the network sees.
        mean: Of each channel.
        std: Of each channel.
        batch_size: Pictures at a time.
        device: The ``torch.device``.
        dtype: The ``torch.dtype``.

    Yields:
        torch ``[b, 3, h, w]``, ``b`` at most ``batch_size``.
    """
    torch = require("torch")
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        resized = np.stack([resize_picture(image, size, resample="bicubic") for image in batch])
        yield torch.from_numpy(normalise(resized, mean, std)).to(device, dtype)


def pick_device(device: str) -> Any:
    """The ``torch.device`` named by ``device``: ``"auto"`` is a CUDA GPU where there is one, else the CPU.

    Raises:
        InputError: No such device, or torch is not installed.
    """
    torch = require("torch")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except (RuntimeError, TypeError):
        picked = None
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    if picked is None or picked.type not in counts:
        raise InputError(f"The device is {device!r}; expected auto, cpu, cuda, cuda:N or mps.")
    if (picked.index or 0) >= counts[picked.type]:
        raise InputError(
            f"The device {device!r} is not there (torch {torch.__version__} sees {counts[picked.type]} of "
            "its kind); choose auto or cpu, or install a torch built for this machine's GPU."
        )
    return picked


def pick_dtype(dtype: str, device: Any) -> Any:
    """The ``torch.dtype`` named by ``dtype``.

    Args:
        dtype: ``"float32"``, ``"float16"``, ``"bfloat16"``, or ``"auto"``: ``bfloat16`` on a CUDA GPU that
            computes in it (``float16`` on older ones), ``float32`` elsewhere.
        device: Where the network will run, from :func:`pick_device`.

    Raises:
        InputError: Another name, or torch is not installed.
    """
    torch = require("torch")
    if dtype == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    if dtype not in DTYPES:
        raise InputError(f"The dtype is {dtype!r}; expected auto, {', '.join(DTYPES)}.")
    return getattr(torch, dtype)


@contextmanager
def exact_float32(dtype: Any) -> Iterator[None]:
    """Keeps convolutions inside the block from rounding their factors where ``dtype`` is ``float32``.

    By default cuDNN computes them in TF32, with 10 bits of mantissa. Threads may overlap, as the setting is
    one for all: the last to leave restores what the first found.

    Args:
        dtype: The ``torch.dtype`` of the network that runs.
    """
    torch = require("torch")
    if dtype != torch.float32:
        yield
        return
    convolutions = torch.backends.cudnn.conv
    with _PRECISIONS_LOCK:
        _PRECISIONS.append(convolutions.fp32_precision)
        convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        with _PRECISIONS_LOCK:
            convolutions.fp32_precision = _PRECISIONS.pop()


@contextmanager
def explain_out_of_memory(model: str, knobs: str) -> Iterator[None]:
    """Turns torch or JAX running out of GPU memory inside the block into a sentence that names ``knobs``.

    Raises:
        InputError: The GPU's memory is full.
    """
    try:
        yield
    except RuntimeError as error:  # as both libraries' own errors are
        if not any(mark in str(error) for mark in _FULL):
            raise
        raise InputError(
            f"{model} does not fit into the GPU's memory; {knobs}, or use device='cpu', or set "
            "XLA_PYTHON_CLIENT_PREALLOCATE=false (JAX takes three quarters of a GPU at first use)."
        ) from error


@contextmanager
def inference(model: str, dtype: Any, knobs: str) -> Iterator[None]:
    """Runs what is inside as a frozen network is run: no gradients, :func:`exact_float32`, full memory told.

    Raises:
        InputError: The GPU's memory is full; see :func:`explain_out_of_memory`.
    """
    with require("torch").inference_mode(), exact_float32(dtype), explain_out_of_memory(model, knobs):
        yield
