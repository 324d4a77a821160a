"""Every kind of picture that users bring, and every way in which one can be unusable."""

import os
import struct
import time
import warnings
import zlib

import numpy as np
import PIL.Image
import pytest
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngInfo

from softmatch_jax._checks import InputError
from softmatch_jax.imaging import (
    IMAGE_FORMATS,
    IMAGE_SUFFIXES,
    image_size,
    read_image,
    read_labels,
    read_mask,
    read_painting,
)

rng = np.random.default_rng(0)
RGB = rng.integers(0, 256, (5, 7, 3), np.uint8)
GREY = rng.integers(0, 256, (5, 7), np.uint8)
SMOOTH = np.stack(np.broadcast_arrays(*np.mgrid[0:240:30, 0:240:20], 128), axis=-1).astype(np.uint8)

# What an EXIF orientation asks of the stored pixels, as index algebra.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def save(path, array, mode=None, **options):
    image = PIL.Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def orientation(value):
    exif = PIL.Image.Exif()
    exif[0x0112] = value
    return exif


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.tiff", "lossless.webp", "a.PNG"])
def test_lossless_formats_give_the_pixels_that_were_written(tmp_path, name):
    path = save(tmp_path / name, RGB, **({"lossless": True} if name.endswith("webp") else {}))
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.flags.writeable and image.flags.c_contiguous
    np.testing.assert_array_equal(image, RGB)
    assert image_size(path) == (5, 7)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff(tmp_path, compression):
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.tif", RGB, compression=compression)), RGB)


def test_jpeg_and_a_misleading_suffix(tmp_path):
    path = save(tmp_path / "really_a_jpeg.png", SMOOTH, format="JPEG", quality=95, subsampling=0)
    assert np.abs(read_image(path).astype(int) - SMOOTH).max() <= 12


def test_mpo_of_phones_gives_its_first_picture(tmp_path):
    first = PIL.Image.fromarray(SMOOTH)
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[first.resize((3, 3))], quality=95)
    with PIL.Image.open(tmp_path / "a.mpo") as check:
        assert check.format == "MPO"
    assert np.abs(read_image(tmp_path / "a.mpo").astype(int) - SMOOTH).max() <= 20
    assert image_size(tmp_path / "a.mpo") == SMOOTH.shape[:2]


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "lzw.tif"])
def test_exif_orientation_is_applied(tmp_path, name, value):
    options = {"lossless": True} if name == "a.webp" else {}
    options |= {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
    path = save(tmp_path / name, RGB, exif=orientation(value), **options)
    expected = UPRIGHT[value](RGB)
    np.testing.assert_array_equal(read_image(path), expected)
    assert image_size(path) == expected.shape[:2]


@pytest.mark.parametrize("value", range(1, 9))
def test_exif_orientation_of_jpeg(tmp_path, value):
    path = save(tmp_path / "a.jpg", SMOOTH, exif=orientation(value), quality=95, subsampling=0)
    expected = UPRIGHT[value](SMOOTH)
    assert np.abs(read_image(path).astype(int) - expected).max() <= 12
    assert image_size(path) == expected.shape[:2]


def test_exif_behind_the_pixels_of_a_png_counts_for_both(tmp_path):
    plain = save(tmp_path / "a.png", RGB).read_bytes()
    late = png_chunk(b"eXIf", orientation(6).tobytes()[6:])
    (tmp_path / "a.png").write_bytes(plain[:-12] + late + plain[-12:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), UPRIGHT[6](RGB))
    assert image_size(tmp_path / "a.png") == (7, 5)


def test_broken_exif_leaves_the_picture_as_stored(tmp_path):
    path = save(tmp_path / "a.jpg", SMOOTH, exif=b"Exif\x00\x00nonsense")
    assert read_image(path).shape == SMOOTH.shape
    assert image_size(path) == SMOOTH.shape[:2]
    not_hexadecimal = PngInfo()
    not_hexadecimal.add_text("Raw profile type exif", "\nexif\n 8\nzz")
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", RGB, pnginfo=not_hexadecimal)), RGB)
    assert image_size(tmp_path / "a.png") == (5, 7)


def test_grey_and_one_bit(tmp_path):
    np.testing.assert_array_equal(read_image(save(tmp_path / "g.png", GREY)), GREY[:, :, None].repeat(3, 2))
    bits = GREY > 127
    expected = (255 * bits.astype(np.uint8))[:, :, None].repeat(3, 2)
    for name in ("b.png", "b.tif", "b.bmp"):
        np.testing.assert_array_equal(read_image(save(tmp_path / name, bits)), expected)


def test_palette_colours(tmp_path):
    image = PIL.Image.fromarray(GREY % 3)
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 99])
    image.save(tmp_path / "p.png")
    colours = np.array([[10, 20, 30], [200, 0, 0], [0, 0, 99]], np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), colours[GREY % 3])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_over_white(tmp_path, mode):
    alpha = rng.integers(0, 256, (5, 7), np.uint8)
    alpha[0], alpha[1] = 0, 255
    colour = RGB if mode == "RGBA" else GREY[:, :, None]
    path = save(tmp_path / "a.png", np.dstack([colour, alpha]))
    share = alpha[:, :, None] / 255
    expected = np.broadcast_to(share * colour + (1 - share) * 255, RGB.shape)
    image = read_image(path)
    assert np.abs(image - expected).max() <= 1  # Pillow rounds in fixed point.
    assert (image[0] == 255).all()
    np.testing.assert_array_equal(image[1], np.broadcast_to(colour[1], (7, 3)))


def test_transparent_palette_entry_and_colour_key_become_white(tmp_path):
    image = PIL.Image.fromarray(GREY % 2)
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.save(tmp_path / "p.png", transparency=0)
    assert (read_image(tmp_path / "p.png")[GREY % 2 == 0] == 255).all()
    image.save(tmp_path / "bytes.png", transparency=bytes([0, 255]))
    assert (read_image(tmp_path / "bytes.png")[GREY % 2 == 0] == 255).all()
    assert (read_image(tmp_path / "bytes.png")[GREY % 2 == 1] == (200, 0, 0)).all()
    save(tmp_path / "key.png", RGB, transparency=tuple(int(v) for v in RGB[2, 3]))
    assert (read_image(tmp_path / "key.png")[2, 3] == 255).all()


def test_sixteen_bit_grey_is_scaled_by_its_type(tmp_path):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    expected = [0, 0, 1, 1, 128, 255]  # round(value / 257)
    for name in ("w.png", "w.tif"):
        assert read_image(save(tmp_path / name, values))[0, :, 1].tolist() == expected
    PIL.Image.fromarray(values.astype(">u2")).save(tmp_path / "big_endian.tif")
    assert read_image(tmp_path / "big_endian.tif")[0, :, 0].tolist() == expected


def test_twelve_bit_tiff_is_scaled_by_4095(tmp_path):
    values = [0, 4095, 2048, 1]
    packed = bytes([0, 0x0F, 0xFF, 0x80, 0x00, 0x01])
    tags = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 6)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    body = struct.pack("<2sHI", b"II", 42, 16) + packed + b"\0\0"
    (tmp_path / "a.tif").write_bytes(body + struct.pack("<H", len(tags)) + entries + b"\0" * 4)
    expected = [round(v * 255 / 4095) for v in values]
    assert read_image(tmp_path / "a.tif")[0, :, 0].tolist() == expected


def test_integer_and_float_tiff(tmp_path):
    integers = np.array([[0, 257, 65535]], np.int32)
    assert read_image(save(tmp_path / "i.tif", integers))[0, :, 0].tolist() == [0, 1, 255]
    floats = np.array([[0, 0.5, 1]], np.float32)
    assert read_image(save(tmp_path / "f.tif", floats))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    "values",
    [
        np.array([[-1, 5]], np.int32),
        np.array([[0, 65536]], np.int32),
        *np.float32([[[0, 1.5]], [[0, np.nan]]]),
    ],
)
def test_values_without_a_known_white_are_refused(tmp_path, values):
    with pytest.raises(InputError, match=r"a\.tif holds (integers|floats) from .* expected"):
        read_image(save(tmp_path / "a.tif", values))


def test_sixteen_bit_colour_png(tmp_path):
    samples = b"".join(b"\0" + struct.pack(">6H", 0, 65535, 256, 32768, 512, 1) for _ in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    chunks = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(samples)), png_chunk(b"IEND", b""))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert read_image(tmp_path / "a.png")[0].tolist() == [[0, 255, 1], [128, 2, 0]]


def test_cmyk_jpeg_is_not_inverted(tmp_path):
    red = np.zeros((16, 16, 3), np.uint8) + np.array([230, 10, 20], np.uint8)
    path = save(tmp_path / "a.jpg", red, mode="CMYK", quality=95)
    assert np.abs(read_image(path).astype(int) - red).max() <= 6


def test_only_the_first_page_or_frame_is_read(tmp_path):
    pages = [PIL.Image.fromarray(RGB), PIL.Image.fromarray(255 - RGB[:3])]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), RGB)
    frames = [PIL.Image.fromarray(RGB), PIL.Image.fromarray(255 - RGB)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / "a.webp"), RGB)


# ---- files that cannot be used ----


def refusal(path, **options):
    """The one sentence with which every reader refuses ``path``."""
    with pytest.raises(InputError) as caught:
        read_image(path, **options)
    for reader in (read_mask, read_labels, read_painting):
        with pytest.raises(InputError):
            reader(path, **options)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message and message.endswith(".")
    return message


def test_missing_folder_empty_and_text(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.png")
    assert "is a folder" in refusal(tmp_path)
    (tmp_path / "empty.png").touch()
    assert "0 bytes" in refusal(tmp_path / "empty.png")
    (tmp_path / "text.jpg").write_text("not a picture, whatever the name says")
    assert "not an image" in refusal(tmp_path / "text.jpg")
    assert "does not exist" in refusal(tmp_path / "text.jpg" / "below_a_file.png")


def test_unsupported_formats_are_named(tmp_path):
    save(tmp_path / "a.gif", GREY)
    assert "GIF" in refusal(tmp_path / "a.gif")
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 40)
    assert "HEIC" in refusal(tmp_path / "a.heic")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a POSIX thing")
def test_a_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert "regular file" in refusal(tmp_path / "pipe.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(tmp_path):
    path = save(tmp_path / "a.png", RGB)
    path.chmod(0)
    assert "permission" in refusal(path).lower()


def test_permission_denied_by_the_system(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", RGB)

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(InputError, match=r"a\.png cannot be read \(Permission denied\)"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {}),
        ("a.png", {}),
        ("a.bmp", {}),
        ("a.webp", {}),
        ("a.tif", {}),
        ("lzw.tif", {"compression": "tiff_lzw"}),
    ],
)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
def test_truncated_files_are_refused(tmp_path, name, options, part):
    noise = np.random.default_rng(1).integers(0, 256, (64, 48, 3), np.uint8)
    path = save(tmp_path / name, noise, **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with warnings.catch_warnings():
        # Where the page directory of a TIFF is cut, Pillow warns before it fails.
        warnings.simplefilter("ignore" if name.endswith("tif") else "error")
        assert "damaged or cut short" in refusal(path)


def test_a_damaged_checksum_is_refused(tmp_path):
    data = bytearray(save(tmp_path / "a.png", RGB).read_bytes())
    data[45] ^= 0xFF
    (tmp_path / "a.png").write_bytes(bytes(data))
    assert "damaged" in refusal(tmp_path / "a.png")


# ---- the pixel limit ----


def test_a_huge_header_is_refused_before_decoding(tmp_path):
    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"x")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    start = time.perf_counter()
    message = refusal(tmp_path / "a.png")
    assert time.perf_counter() - start < 1
    for part in ("20000x20000", "400,000,000", "100,000,000", "--max-pixels"):
        assert part in message
    with pytest.raises(InputError, match="limit"):
        image_size(tmp_path / "a.png")
    # With the limit raised the header is no obstacle: it is the missing pixels that are found.
    assert image_size(tmp_path / "a.png", max_pixels=10**9) == (20000, 20000)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "lzw.tif", "a.mpo"])
def test_the_limit_is_ours_and_pillows_own_is_left_alone(tmp_path, name, monkeypatch):
    options = {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
    path = save(tmp_path / name, RGB, exif=orientation(6), **options)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 3)
    assert sorted(read_image(path, max_pixels=35).shape) == [3, 5, 7]  # Warnings are errors here.
    assert "limit of 34" in refusal(path, max_pixels=34)
    assert PIL.Image.MAX_IMAGE_PIXELS == 3


def test_webp_beyond_pillows_limit_is_one_sentence(tmp_path, monkeypatch):
    path = save(tmp_path / "a.webp", RGB)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 3)
    assert "convert it to PNG" in refusal(path)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_must_be_positive(tmp_path, limit):
    with pytest.raises(InputError, match="max_pixels"):
        read_image(save(tmp_path / "a.png", RGB), max_pixels=limit)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp", "a.bmp"])
def test_size_needs_only_the_header(tmp_path, monkeypatch, name):
    path = save(tmp_path / name, SMOOTH)
    decoded = []
    monkeypatch.setattr(ImageFile, "load", lambda image: decoded.append(image))
    assert image_size(path) == SMOOTH.shape[:2]
    assert not decoded


def test_suffixes_are_those_of_the_formats():
    registered = {s for s, f in PIL.Image.registered_extensions().items() if f in IMAGE_FORMATS}
    assert registered >= IMAGE_SUFFIXES


# ---- masks ----

OBJECT = GREY > 100


def palette_file(path, indices, colours):
    image = PIL.Image.fromarray(indices)
    image.putpalette(np.array(colours, np.uint8).tobytes())
    image.save(path)
    return path


@pytest.mark.parametrize(
    "values",
    [
        OBJECT,
        OBJECT * np.uint8(1),
        OBJECT * np.uint8(255),
        np.where(OBJECT, 200, 50).astype(np.uint8),
        OBJECT * np.uint16(65535),
        OBJECT.astype(np.int32),
        OBJECT.astype(np.float32),
        np.repeat(OBJECT[:, :, None] * np.uint8(255), 3, axis=2),
        np.dstack([OBJECT * np.uint8(255)] * 3 + [np.full_like(GREY, 255)]),
        np.dstack([OBJECT * np.uint8(255), np.full_like(GREY, 255)]),
    ],
    ids=["1bit", "0/1", "0/255", "50/200", "16bit", "int32", "float", "rgb", "rgba", "la"],
)
def test_two_values_make_a_mask(tmp_path, values):
    mask = read_mask(save(tmp_path / "a.tif", values))
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, OBJECT)


def test_palettes_are_read_by_index_not_colour(tmp_path):
    dark_object = palette_file(tmp_path / "a.png", OBJECT.astype(np.uint8), [(250, 250, 90), (9, 0, 0)])
    np.testing.assert_array_equal(read_mask(dark_object), OBJECT)
    no_colours = palette_file(tmp_path / "b.png", OBJECT.astype(np.uint8), [(0, 0, 0), (0, 0, 0)])
    np.testing.assert_array_equal(read_mask(no_colours), OBJECT)


def test_a_reordered_black_and_white_palette_is_not_read_inverted(tmp_path):
    indices = 1 - OBJECT.astype(np.uint8)
    path = palette_file(tmp_path / "a.png", indices, [(255, 255, 255), (0, 0, 0)])
    np.testing.assert_array_equal(read_mask(path), OBJECT)
    np.testing.assert_array_equal(read_mask(path, threshold=128), OBJECT)
    np.testing.assert_array_equal(read_labels(path), indices)


def test_one_value_is_empty_or_full(tmp_path):
    for value, expected in ((0, False), (1, True), (255, True)):
        mask = read_mask(save(tmp_path / "a.png", np.full((3, 4), value, np.uint8)))
        assert mask.shape == (3, 4) and (mask == expected).all()


def test_more_values_need_a_threshold(tmp_path):
    path = save(tmp_path / "a.png", GREY)
    with pytest.raises(InputError, match=rf"holds {np.unique(GREY).size} distinct .*--mask-threshold 128"):
        read_mask(path)
    np.testing.assert_array_equal(read_mask(path, threshold=101), OBJECT)
    np.testing.assert_array_equal(read_mask(path, threshold=200), GREY >= 200)


def test_threshold_of_jpeg_one_bit_and_palette(tmp_path):
    block = np.kron(np.eye(2), np.ones((16, 16))).astype(bool)
    jpeg = save(tmp_path / "a.jpg", np.repeat(block[:, :, None] * np.uint8(255), 3, axis=2), quality=60)
    np.testing.assert_array_equal(read_mask(jpeg, threshold=128), block)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.png", OBJECT), threshold=128), OBJECT)
    classes = palette_file(tmp_path / "p.png", GREY % 4, rng.integers(0, 256, (4, 3)))
    np.testing.assert_array_equal(read_mask(classes, threshold=2), GREY % 4 >= 2)


def test_a_threshold_that_finds_nothing_is_a_mistake(tmp_path):
    path = save(tmp_path / "a.png", OBJECT.astype(np.uint8))
    with pytest.raises(InputError, match="all below the threshold 128"):
        read_mask(path, threshold=128)
    with pytest.raises(InputError, match="expected at least 1"):
        read_mask(path, threshold=0)
    assert not read_mask(save(tmp_path / "b.png", np.zeros((3, 3), np.uint8)), threshold=128).any()


def test_channels_may_differ_by_what_conversions_leave_but_not_by_colour(tmp_path):
    near = np.repeat(OBJECT[:, :, None] * np.uint8(255), 3, axis=2)
    near[:, :, 1] -= OBJECT
    np.testing.assert_array_equal(read_mask(save(tmp_path / "near.png", near)), OBJECT)
    with pytest.raises(InputError, match=r"coloured.*painted"):
        read_mask(save(tmp_path / "rgb.png", RGB), threshold=128)
    with pytest.raises(InputError, match="coloured"):
        read_labels(save(tmp_path / "near.png", near))


def test_transparent_and_undefined_masks_are_refused(tmp_path):
    cutout = np.dstack([RGB, OBJECT * np.uint8(255)])
    with pytest.raises(InputError, match="partly transparent"):
        read_mask(save(tmp_path / "a.png", cutout))
    with pytest.raises(InputError, match="NaN"):
        read_mask(save(tmp_path / "a.tif", np.float32([[0, np.nan]])))


@pytest.mark.parametrize("value", range(1, 9))
def test_masks_and_labels_turn_with_their_image(tmp_path, value):
    path = save(tmp_path / "a.png", OBJECT.astype(np.uint8), exif=orientation(value))
    np.testing.assert_array_equal(read_mask(path), UPRIGHT[value](OBJECT))
    np.testing.assert_array_equal(read_labels(path), UPRIGHT[value](OBJECT))


# ---- labels and paintings ----


def test_labels_are_indices_or_grey_levels(tmp_path):
    palette = rng.integers(0, 256, (256, 3))
    np.testing.assert_array_equal(read_labels(palette_file(tmp_path / "p.png", GREY, palette)), GREY)
    few = palette_file(tmp_path / "few.png", GREY % 3, palette[:3])  # Pillow packs these into 2 bits.
    np.testing.assert_array_equal(read_labels(few), GREY % 3)
    for values in (GREY, GREY.astype(np.uint16), GREY.astype(np.float32), np.repeat(GREY[:, :, None], 3, 2)):
        labels = read_labels(save(tmp_path / "a.tif", values))
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, GREY)
    np.testing.assert_array_equal(read_labels(save(tmp_path / "b.png", OBJECT)), OBJECT)


@pytest.mark.parametrize("bad", [np.uint16([[0, 256]]), np.int32([[-1, 3]]), np.float32([[0.5, 1]])])
def test_labels_outside_a_byte_are_refused(tmp_path, bad):
    with pytest.raises(InputError, match=r"0\.\.255"):
        read_labels(save(tmp_path / "a.tif", bad))


def test_labels_in_a_jpeg_are_refused(tmp_path):
    with pytest.raises(InputError, match="JPEG"):
        read_labels(save(tmp_path / "a.jpg", GREY))


def test_painting_keeps_colour_and_transparency(tmp_path):
    rgba = np.dstack([RGB, GREY])
    np.testing.assert_array_equal(read_painting(save(tmp_path / "a.png", rgba)), rgba)
    np.testing.assert_array_equal(
        read_painting(save(tmp_path / "b.png", RGB)), np.dstack([RGB, np.full_like(GREY, 255)])
    )
    transparent = PIL.Image.fromarray(GREY % 2)
    transparent.putpalette([1, 2, 3, 200, 0, 0])
    transparent.save(tmp_path / "p.png", transparency=0)
    expected = np.where((GREY % 2)[:, :, None] > 0, (200, 0, 0, 255), (1, 2, 3, 0))
    np.testing.assert_array_equal(read_painting(tmp_path / "p.png"), expected)
    assert read_painting(save(tmp_path / "w.png", np.uint16([[0, 65535]])))[0].tolist() == [
        [0, 0, 0, 255],
        [255, 255, 255, 255],
    ]
    assert read_painting(save(tmp_path / "c.jpg", SMOOTH, mode="CMYK")).shape == (*SMOOTH.shape[:2], 4)
