"""What is written can be read back, and a failure leaves the folder as it was."""

import os
import stat

import numpy as np
import PIL.Image
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.imaging import (
    MAP_SCALE,
    atomic_write_bytes,
    atomic_write_text,
    class_palette,
    read_image,
    read_labels,
    write_image,
    write_indexed_mask,
    write_map,
)

rng = np.random.default_rng(0)
RGB = rng.integers(0, 256, (5, 7, 3), np.uint8)
LABELS = rng.integers(0, 4, (5, 7), np.uint8)


def test_bytes_and_text(tmp_path):
    path = tmp_path / "a.bin"
    atomic_write_bytes(path, b"first")
    atomic_write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    atomic_write_text(path, "größe\n")
    assert path.read_bytes() == "größe\n".encode()
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.skipif(os.name != "posix", reason="modes are a POSIX thing")
def test_the_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    atomic_write_bytes(tmp_path / "ours", b"")
    assert stat.S_IMODE(os.stat(tmp_path / "ours").st_mode) == stat.S_IMODE(
        os.stat(tmp_path / "plain").st_mode
    )


@pytest.mark.skipif(os.name != "posix", reason="links need no rights there")
def test_a_link_is_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    atomic_write_bytes(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_bytes() == b"x"


@pytest.mark.parametrize("step", ["os.fsync", "os.replace"])
def test_a_failure_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch, step):
    (tmp_path / "a.txt").write_text("old")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(step, full)
    with pytest.raises(InputError, match=r"a\.txt cannot be written \(No space left on device\)"):
        atomic_write_text(tmp_path / "a.txt", "new")
    assert os.listdir(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_an_interrupt_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write_bytes(tmp_path / "a", b"x")
    assert os.listdir(tmp_path) == []


def test_unusable_places(tmp_path):
    with pytest.raises(InputError, match=r"folder does not exist"):
        atomic_write_bytes(tmp_path / "none" / "a", b"x")
    with pytest.raises(InputError, match=r"is a folder"):
        atomic_write_bytes(tmp_path, b"x")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be written"):
        atomic_write_bytes(tmp_path / "file" / "a", b"x")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="permission"):
            atomic_write_bytes(tmp_path / "a", b"x")
    finally:
        tmp_path.chmod(0o700)


def test_images(tmp_path):
    write_image(tmp_path / "a.PNG", RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "a.PNG"), RGB)
    flat = np.full((16, 16, 3), (200, 30, 90), np.uint8)
    write_image(tmp_path / "a.jpeg", flat)
    with PIL.Image.open(tmp_path / "a.jpeg") as image:
        assert image.format == "JPEG"
    assert np.abs(read_image(tmp_path / "a.jpeg").astype(int) - flat).max() <= 3
    with pytest.raises(InputError, match=r"\.png, \.jpg or \.jpeg"):
        write_image(tmp_path / "a.gif", RGB)
    with pytest.raises(InputError, match="uint8"):
        write_image(tmp_path / "a.png", RGB / 255)


def test_indexed_masks_come_back_with_their_palette(tmp_path):
    palette = class_palette(3)
    write_indexed_mask(tmp_path / "a.png", LABELS, palette)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), LABELS)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), palette[LABELS])
    header = (tmp_path / "a.png").read_bytes()[24:26]
    assert tuple(header) == (8, 3)  # 8 bits, palette
    write_indexed_mask(tmp_path / "b.png", np.asfortranarray(LABELS), palette)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_all_256_indices(tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_indexed_mask(tmp_path / "a.png", labels, class_palette(255))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), labels)


@pytest.mark.parametrize(
    ("name", "labels", "palette"),
    [
        ("a.jpg", LABELS, class_palette(3)),
        ("a.png", LABELS, class_palette(2)),
        ("a.png", LABELS.astype(np.int64), class_palette(3)),
        ("a.png", LABELS[None], class_palette(3)),
        ("a.png", LABELS[:0], class_palette(3)),
        ("a.png", LABELS, class_palette(3) / 255),
    ],
)
def test_unusable_indexed_masks(tmp_path, name, labels, palette):
    with pytest.raises(InputError, match="expected"):
        write_indexed_mask(tmp_path / name, labels, palette)
    assert os.listdir(tmp_path) == []


def test_maps_keep_sixteen_bits(tmp_path):
    values = np.append(rng.random(30), [0.0, 1.0]).astype(np.float32).reshape(4, 8)
    write_map(tmp_path / "a.png", values)
    with PIL.Image.open(tmp_path / "a.png") as image:
        stored = np.asarray(image)
    assert stored.dtype == np.uint16
    np.testing.assert_allclose(stored / MAP_SCALE, values, atol=0.5 / MAP_SCALE + 1e-9)
    assert stored[-1, -2:].tolist() == [0, 65535]


@pytest.mark.parametrize("bad", [[[1.1]], [[-0.1]], [[np.nan]], [0.5], [[]]])
def test_unusable_maps(tmp_path, bad):
    with pytest.raises(InputError):
        write_map(tmp_path / "a.png", np.array(bad))
    with pytest.raises(InputError, match=r"\.png"):
        write_map(tmp_path / "a.jpg", np.zeros((1, 1)))
