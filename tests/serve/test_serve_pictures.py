from __future__ import annotations

import errno
import io
import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from project_making import png, sha

from softmatch_jax import InputError
from softmatch_jax.imaging import read_image
from softmatch_jax.serve.project.errors import FullDiskError, NotFoundError, ReadOnlyError, TooLargeError
from softmatch_jax.serve.project.pictures import Pictures, StoredPicture


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    return Pictures(tmp_path, max_bytes=2e6, max_pixels=1e6)


def upload(pictures: Pictures, data: bytes, chunk: int = 4096) -> StoredPicture:
    with pictures.incoming() as incoming:
        for start in range(0, len(data), chunk):
            incoming.write(data[start : start + chunk])
        return incoming.finish()


def files(pictures: Pictures) -> list[str]:
    return sorted(p.name for p in pictures.folder.rglob("*") if p.is_file())


def encoded(image: PIL.Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def noise(width: int = 64, height: int = 48) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8))


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (chunk, data, b"IEND")
    )


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_a_picture_is_kept_byte_by_byte_under_its_digest(pictures: Pictures, form: str) -> None:
    data = encoded(noise(), form)
    stored = upload(pictures, data)
    assert stored == StoredPicture(digest=sha(data), width=64, height=48, size=len(data))
    assert pictures.path(stored.digest).read_bytes() == data
    assert upload(pictures, data) == stored
    assert files(pictures) == [stored.digest]


def test_sizes_are_those_of_the_upright_picture(pictures: Pictures) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    stored = upload(pictures, encoded(noise(), "JPEG", exif=exif))
    assert (stored.width, stored.height) == (48, 64)
    preview = PIL.Image.open(io.BytesIO(pictures.preview(stored.digest, 32)))
    assert preview.size == (24, 32)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_broken_exif_block_does_not_spoil_a_picture(pictures: Pictures) -> None:
    data = encoded(noise(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 30)
    stored = upload(pictures, data)
    assert (stored.width, stored.height) == (64, 48)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello, I am no picture, whatever my name says", "not an image"),
        (b"GIF89a" + b"\0" * 100, "GIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (png(0)[:2000], "damaged or cut short"),
        (encoded(noise(), "JPEG")[:700], "damaged or cut short"),
        (b"RIFF\x10\0\0\0WEBPVP8 " + b"\0" * 40, "damaged or cut short"),
        (png_header(64, 48), "damaged or cut short"),
        (png_header(10_000, 10_000), "10000x10000 = 100,000,000 pixels"),
    ],
)
def test_what_is_no_picture_is_refused_and_leaves_nothing(
    pictures: Pictures, data: bytes, words: str
) -> None:
    with pytest.raises(InputError, match=words) as refusal:
        upload(pictures, data)
    assert str(pictures.folder) not in str(refusal.value)
    assert str(refusal.value).startswith("The picture ")
    assert files(pictures) == []
    assert isinstance(refusal.value, TooLargeError) == ("pixels, more" in str(refusal.value))


def test_a_large_upload_is_refused_while_it_arrives(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path)
    chunk = b"\x89PNG\r\n\x1a\n" + b"\0" * (10**6 - 8)
    written = 0
    with pytest.raises(TooLargeError, match="larger than 50 MB"), pictures.incoming() as incoming:
        for _ in range(60):
            incoming.write(chunk)
            written += 1
    assert written == 50
    assert files(pictures) == []


def test_what_is_cut_off_leaves_nothing(pictures: Pictures) -> None:
    with pytest.raises(ConnectionError), pictures.incoming() as incoming:
        incoming.write(png(0)[:1000])
        raise ConnectionError
    with pictures.incoming() as incoming:
        incoming.write(png(0))
    assert files(pictures) == []


def test_what_a_crash_left_is_removed_a_day_later(tmp_path: Path) -> None:
    folder = tmp_path / "images" / "incoming"
    folder.mkdir(parents=True)
    for name, age in (("old", 2 * 86400), ("new", 60)):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (time.time() - age,) * 2)
    assert files(Pictures(tmp_path)) == ["new"]


def test_a_full_disk_and_a_locked_folder_are_named(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(number: int) -> None:
        def replace(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("softmatch_jax.serve.project.pictures.os.replace", replace)

    fails(errno.ENOSPC)
    with pytest.raises(FullDiskError, match="disk is full"):
        upload(pictures, png(0))
    fails(errno.EROFS)
    with pytest.raises(ReadOnlyError, match="cannot be written"):
        upload(pictures, png(0))
    assert files(pictures) == []


def test_a_missing_file_is_named_and_names_lead_nowhere_else(pictures: Pictures) -> None:
    stored = upload(pictures, png(0))
    pictures.path(stored.digest).unlink()
    for ask in (pictures.path, lambda digest: pictures.preview(digest, 64)):
        with pytest.raises(NotFoundError, match=f"images/../{stored.digest}") as told:
            ask(stored.digest)
        assert str(pictures.folder) not in str(told.value)
    (pictures.folder / "secret").write_text("x")
    for digest in ("../secret", "/etc/passwd", "", "A" * 64, "0" * 63 + "/"):
        with pytest.raises(NotFoundError, match="missing"):
            pictures.path(digest)


def test_previews_are_small_cached_and_made_again(pictures: Pictures) -> None:
    stored = upload(pictures, encoded(noise(400, 200), "PNG"))
    data = pictures.preview(stored.digest, 100)
    image = PIL.Image.open(io.BytesIO(data))
    assert (image.format, image.size) == ("JPEG", (100, 50))
    cached = next((pictures.folder / "cache").rglob("*.jpg"))
    cached.write_bytes(b"from the cache")
    assert pictures.preview(stored.digest, 100) == b"from the cache"
    cached.unlink()
    assert pictures.preview(stored.digest, 100) == data
    whole = PIL.Image.open(io.BytesIO(pictures.preview(stored.digest, 4096)))
    assert whole.size == (400, 200)
    original = read_image(pictures.path(stored.digest)).astype(int)
    assert np.abs(np.asarray(whole).astype(int) - original).mean() < 60
    for side in (0, 15, 4097, 10**9):
        with pytest.raises(InputError, match="expected 16 to 4096"):
            pictures.preview(stored.digest, side)


def test_a_preview_needs_no_room_for_its_cache(pictures: Pictures) -> None:
    stored = upload(pictures, png(0))
    (pictures.folder / "cache").write_text("in the way")
    assert PIL.Image.open(io.BytesIO(pictures.preview(stored.digest, 32))).size == (32, 24)
