"""What the frozen models make of pictures, kept in memory and on disk."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_prompts import CornerSam, MeanColours, noise

from softmatch_jax._checks import InputError
from softmatch_jax.models.proposals import Proposals
from softmatch_jax.training.prompt_store import FrozenStore


def arrays_of(frozen):
    scene = {name: array for name, array in frozen.scene._asdict().items() if array is not None}
    return {"values": frozen.features.values, "valid": frozen.features.valid, **scene}


def assert_same(first, second):
    assert arrays_of(first).keys() == arrays_of(second).keys()
    for name, array in arrays_of(first).items():
        np.testing.assert_array_equal(array, arrays_of(second)[name], err_msg=name)
    assert first.features.grid == second.features.grid
    assert (first.raster.content, first.raster.image_size) == (
        second.raster.content,
        second.raster.image_size,
    )


def test_what_the_models_say():
    features, sam, image = MeanColours(), CornerSam(), noise(0)
    store = FrozenStore(features, sam)
    frozen = store.get("a", lambda: image)
    made, encoded = features(image[None]), sam.encode(image)
    np.testing.assert_array_equal(frozen.features.values, made.values[0])
    np.testing.assert_array_equal(frozen.features.valid, made.grid.valid())
    np.testing.assert_array_equal(frozen.scene.rows, encoded.scene.rows)
    np.testing.assert_array_equal(frozen.scene.double, encoded.scene.double)
    assert frozen.scene.fourfold is None and frozen.features.grid == made.grid
    assert isinstance(frozen.raster, Proposals) and frozen.raster.content == (24, 32)
    assert frozen.nbytes == sum(array.nbytes for array in arrays_of(frozen).values())
    assert store.name == "colours and corner"


def test_a_picture_is_seen_once():
    store = FrozenStore(MeanColours(), CornerSam())
    first = store.get("a", lambda: noise(0))
    assert store.get("a", lambda: pytest.fail("made again")) is first
    assert len(store.features.calls) == 1


def test_memory_has_a_limit():
    """What was not used for longest goes first; one picture stays, however little memory there is."""
    size = FrozenStore(MeanColours(), CornerSam()).get("a", lambda: noise(0)).nbytes
    store = FrozenStore(MeanColours(), CornerSam(), most_bytes=2 * size)
    for key in "abac":
        store.get(key, lambda key=key: noise(ord(key)))
    assert len(store.features.calls) == 3
    store.get("a", lambda: pytest.fail("a was used last but one"))
    store.get("b", lambda: noise(ord("b")))
    assert len(store.features.calls) == 4
    least = FrozenStore(MeanColours(), CornerSam(), most_bytes=0)
    for key in "aaba":
        least.get(key, lambda key=key: noise(ord(key)))
    assert len(least.features.calls) == 3


def test_a_folder_keeps_half_precision(tmp_path):
    first = FrozenStore(MeanColours(), CornerSam(), folder=tmp_path / "kept")
    made = {key: first.get(key, lambda key=key: noise(ord(key))) for key in "ab"}
    exact = FrozenStore(MeanColours(), CornerSam()).get("a", lambda: noise(ord("a")))
    second = FrozenStore(MeanColours(), CornerSam(), folder=tmp_path / "kept")
    for key in "ab":
        assert_same(second.get(key, lambda key=key: noise(ord(key))), made[key])
    assert not second.features.calls and len(list((tmp_path / "kept").iterdir())) == 2
    for name in ("values", "rows"):
        got, full = arrays_of(made["a"])[name], arrays_of(exact)[name]
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, full.astype(np.float16))
        assert not np.array_equal(got, full)
    assert first.name != FrozenStore(MeanColours(), CornerSam()).name


def test_a_folder_knows_models_and_pictures_apart(tmp_path):
    def seen(key="a", image=None, features=None, sam=None):
        store = FrozenStore(features or MeanColours(), sam or CornerSam(), folder=tmp_path)
        store.get(key, lambda: noise(0) if image is None else image)
        return len(store.features.calls)

    assert seen() == 1 and seen() == 0
    assert seen(image=noise(1)) == 1
    assert seen(image=noise(0).reshape(32, 24, 3)) == 1
    assert seen(features=MeanColours(name="other")) == 1
    assert seen(sam=CornerSam(name="other")) == 1
    assert seen(key="b") == 0  # wherever the picture lies


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "other"])
def test_a_damaged_file_is_made_anew(tmp_path, damage):
    made = FrozenStore(MeanColours(), CornerSam(), folder=tmp_path).get("a", lambda: noise(0))
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    if damage == "other":
        with path.open("wb") as stream:
            np.savez(stream, something=np.zeros(3))
    else:
        data[len(data) // 3] ^= 255
        path.write_bytes({"cut": data[: len(data) // 2], "bit": data, "empty": b""}[damage])
    store = FrozenStore(MeanColours(), CornerSam(), folder=tmp_path)
    assert_same(store.get("a", lambda: noise(0)), made)
    assert len(store.features.calls) == 1
    again = FrozenStore(MeanColours(), CornerSam(), folder=tmp_path)
    assert_same(again.get("a", lambda: noise(0)), made)
    assert not again.features.calls


@pytest.mark.parametrize("gain", [np.nan])
def test_features_that_are_no_numbers(gain):
    store = FrozenStore(MeanColours(gain=gain), CornerSam())
    with pytest.raises(InputError, match="The values of a from colours and corner hold NaN or infinity") as e:
        store.get("a", lambda: noise(0))
    assert str(e.value).count(". ") == 0


def test_features_beyond_half_precision(tmp_path):
    FrozenStore(MeanColours(gain=1e6), CornerSam()).get("a", lambda: noise(0))
    store = FrozenStore(MeanColours(gain=1e6), CornerSam(), folder=tmp_path)
    with pytest.raises(InputError, match="half precision overflows"):
        store.get("a", lambda: noise(0))
    assert not list(tmp_path.iterdir())


def test_the_raster_is_that_of_the_sam():
    """Also that which a scene brought along, which is falsy since it holds no proposals."""
    sam = CornerSam()
    encoded = sam.encode(noise(0))
    marked = replace(encoded.raster, threshold=0.25)
    sam.encode = lambda image: replace(encoded, raster=marked)
    assert FrozenStore(MeanColours(), sam).get("a", lambda: noise(0)).raster is marked


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(InputError, match="file"):
        FrozenStore(MeanColours(), CornerSam(), folder=tmp_path / "file")
