from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage

from softmatch_jax._checks import InputError
from softmatch_jax.data.episodes import Truth
from softmatch_jax.data.region_cache import RegionCache
from softmatch_jax.data.region_sources import (
    open_camvid_regions,
    open_folder_regions,
    open_mask_regions,
    open_region_pictures,
)
from softmatch_jax.data.regions import ClassRegions, DrawnRegions, ObjectRegions, RegionPicture


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.asarray(values, np.uint8)).save(path)
    return path


def photograph(path, size=(12, 20)):
    return write(path, np.full((*size, 3), 90))


def halves(height=12, width=20):
    """1 on the left, 2 on the right."""
    return np.repeat([[1] * (width // 2) + [2] * (width - width // 2)], height, axis=0)


def kinds_of_regions(labels):
    """The regions of a label map as sets of pixels."""
    return {frozenset(np.flatnonzero(labels == k).tolist()) for k in np.unique(labels) if k}


@dataclass(frozen=True)
class Given:
    """A mask that is not in a file."""

    rows: tuple[str, ...]
    path: Path = Path("given.json")

    def read(self, size):
        return Truth(np.array([[c == "#" for c in row] for row in self.rows]))


def test_each_person_is_a_label_map(tmp_path):
    image = photograph(tmp_path / "7.jpg")
    maps = [halves(), 3 - halves()]
    paths = tuple(write(tmp_path / f"7_{k}.png", labels) for k, labels in enumerate(maps))
    picture = RegionPicture(name="7", image=image, maps=DrawnRegions(paths))
    pixels, labels = picture.read()
    assert pixels.shape == (12, 20, 3) and pixels.dtype == np.uint8
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, maps)
    assert pickle.loads(pickle.dumps(picture)) == picture


@pytest.mark.parametrize("min_area", [1, 4, 30])
def test_parts_of_classes_are_those_of_scipy(tmp_path, min_area):
    rng = np.random.default_rng(0)
    values = np.kron(rng.integers(0, 4, (15, 18)), np.ones((2, 3), int))
    values[rng.random(values.shape) < 0.1] = 11
    (labels,) = ClassRegions(write(tmp_path / "a.png", values), (11,), min_area).read(values.shape)
    expected = set()
    for value in range(4):
        parts, count = scipy.ndimage.label(values == value, np.ones((3, 3)))
        found = (frozenset(np.flatnonzero(parts == k + 1).tolist()) for k in range(count))
        expected |= {part for part in found if len(part) >= min_area}
    assert kinds_of_regions(labels) == expected and len(expected) > 3
    assert not labels[values == 11].any()


def test_overlapping_objects_keep_all_their_pixels():
    square, bar = Given(("##..", "##..", "...."), Path("1")), Given((".###", "....", "#..#"), Path("2"))
    maps = ObjectRegions((square, bar), 1).read((3, 4))
    np.testing.assert_array_equal(maps[0], [[1, 1, 0, 0], [1, 1, 0, 0], [3, 0, 0, 4]])
    np.testing.assert_array_equal(maps[1], [[0, 2, 2, 2], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert len(maps) == 2
    (alone,) = ObjectRegions((square, bar), 4).read((3, 4))
    np.testing.assert_array_equal(alone, np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]))


def test_sizes_that_differ(tmp_path):
    image = photograph(tmp_path / "a.jpg")
    path = write(tmp_path / "a_0.png", halves(12, 18))
    for maps in (DrawnRegions((path,)), ClassRegions(path, (), 1)):
        with pytest.raises(InputError, match=r"a_0\.png is 18x12 pixels but .*a\.jpg is 20x12; expected"):
            RegionPicture(name="a", image=image, maps=maps).read()
    with pytest.raises(InputError, match=r"given\.json is 2x1 pixels but its picture is 20x12"):
        RegionPicture(name="a", image=image, maps=ObjectRegions((Given(("##",)),), 1)).read()


def test_bsds500(tmp_path):
    for split, name, people in (("train", "7", 2), ("val", "10", 3)):
        photograph(tmp_path / split / f"{name}.jpg")
        for person in range(people):
            write(tmp_path / split / f"{name}_{person}.png", halves())
    pictures = open_region_pictures("bsds500", tmp_path)
    assert [picture.name for picture in pictures] == ["train/7", "val/10"]
    assert [picture.read()[1].shape for picture in pictures] == [(2, 12, 20), (3, 12, 20)]
    assert open_region_pictures("bsds500", tmp_path, "val") == pictures[1:]
    with pytest.raises(InputError, match="expected the folder of BSDS500"):
        open_region_pictures("bsds500", tmp_path / "no")


@pytest.fixture
def streets(tmp_path):
    """Sky is 0, the road 3 comes in two parts, and a post of 4 pixels is void."""
    values = np.zeros((12, 20), int)
    values[8:, :6] = values[8:, 10:] = 3
    values[:4, 0] = 11
    for split in ("train", "val"):
        photograph(tmp_path / split / "s.jpg")
        write(tmp_path / f"{split}annot" / "s.png", values)
    return tmp_path


def test_camvid(streets):
    pictures = open_camvid_regions(streets, min_area=10)
    assert [picture.name for picture in pictures] == ["train/s", "val/s"]
    labels = pictures[0].read()[1]
    assert labels.shape == (1, 12, 20)
    assert sorted(map(len, kinds_of_regions(labels[0]))) == [24, 40, 240 - 64 - 4]
    assert not labels[0, :4, 0].any()
    assert len(kinds_of_regions(open_camvid_regions(streets, min_area=30)[0].read()[1][0])) == 2
    other = open_camvid_regions(streets, "val", void=(0,), min_area=1)
    assert [picture.name for picture in other] == ["val/s"]
    assert sorted(map(len, kinds_of_regions(other[0].read()[1][0]))) == [4, 24, 40]


def test_camvid_that_cannot_be_used(streets):
    with pytest.raises(InputError, match="no does not exist; expected the folder of CamVid"):
        open_camvid_regions(streets / "no")
    with pytest.raises(InputError, match="split is 'all'; expected one of train, val, test"):
        open_camvid_regions(streets, "all")
    with pytest.raises(InputError, match="test does not exist"):
        open_camvid_regions(streets, "test")
    with pytest.raises(InputError, match="holds no folder trainannot"):
        open_camvid_regions(streets / "train")
    with pytest.raises(InputError, match="min_area is 0"):
        open_camvid_regions(streets, min_area=0)
    with pytest.raises(InputError, match=r"2 pictures in .* no connected part of 500 pixels or more"):
        open_camvid_regions(streets, min_area=500)
    photograph(streets / "val" / "t.jpg")
    with pytest.raises(InputError, match="has t in only one of val and valannot"):
        open_camvid_regions(streets)
    (streets / "val" / "t.jpg").unlink()
    write(streets / "valannot" / "u.png", halves())
    with pytest.raises(InputError, match="has u in only one of val and valannot"):
        open_camvid_regions(streets)
    for name in ("val", "valannot"):
        for path in (streets / name).iterdir():
            path.unlink()
    with pytest.raises(InputError, match="has no picture with a map"):
        open_camvid_regions(streets, "val")


def test_a_folder_of_grey_masks(tmp_path):
    values = np.zeros((12, 20), int)
    values[2:6, 2:8], values[2:6, 8], values[8:, 15:] = 255, 90, 17
    photograph(tmp_path / "train" / "crack" / "a.jpg")
    write(tmp_path / "train" / "crack" / "a.png", values)
    (picture,) = open_mask_regions(tmp_path, min_area=5)
    assert picture.name == "train/crack/a"
    assert sorted(map(len, kinds_of_regions(picture.read()[1][0]))) == [20, 28]
    assert open_region_pictures("masks", tmp_path, "train") == open_mask_regions(tmp_path)
    with pytest.raises(InputError, match="could have binary masks or maps of classes"):
        open_folder_regions(tmp_path)
    with pytest.raises(InputError, match=r"holds .* distinct values"):
        open_folder_regions(tmp_path, layout="pairs")
    for split in ("val", "a"):
        with pytest.raises(InputError, match=f"no annotated picture in a folder called '{split}'"):
            open_mask_regions(tmp_path, split)
    with pytest.raises(InputError, match="no connected part of 64 pixels"):
        open_mask_regions(tmp_path / "train" / "crack", min_area=64)


def test_every_level_of_a_soft_mask_is_object_unless_said_otherwise(tmp_path):
    values = np.zeros((12, 20), int)
    values[:5] = 156 + np.arange(100).reshape(5, 20)
    photograph(tmp_path / "a.jpg")
    write(tmp_path / "a.png", values)
    for options, area in (({}, 100), ({"threshold": 236}, 20)):
        (picture,) = open_folder_regions(tmp_path, **options)
        assert list(map(len, kinds_of_regions(picture.read()[1][0]))) == [area]


def test_outlines_of_classes_that_overlap(tmp_path):
    photograph(tmp_path / "a.jpg")
    boxes = {1: (0, 0, 10, 10), 2: (5, 5, 10, 5)}
    document = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 12, "width": 20}],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "lid"}],
        "annotations": [
            {
                "id": n,
                "image_id": 1,
                "category_id": n,
                "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
            }
            for n, (x, y, w, h) in boxes.items()
        ],
    }
    (tmp_path / "notes.json").write_text(json.dumps(document))
    (picture,) = open_folder_regions(tmp_path, min_area=10)
    maps = picture.read()[1]
    assert len(maps) == 2
    for labels, (x, y, w, h) in zip(maps, boxes.values(), strict=True):
        expected = np.zeros((12, 20), bool)
        expected[y : y + h, x : x + w] = True
        np.testing.assert_array_equal(labels > 0, expected)


def test_unknown_kinds_and_empty_folders(tmp_path):
    with pytest.raises(InputError, match=r"'coco' is no kind .* one of bsds500, camvid, folder, masks"):
        open_region_pictures("coco", tmp_path)
    with pytest.raises(InputError, match="has no picture in it"):
        open_region_pictures("folder", tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        open_region_pictures("folder", tmp_path / "no")
    with pytest.raises(InputError, match="min_area is -1"):
        open_folder_regions(tmp_path, min_area=-1)


@pytest.fixture
def drawn(tmp_path):
    """Four pictures of 12 x 20, 720 bytes each, with two label maps, 480 bytes each."""
    pictures = []
    for name in "abcd":
        paths = tuple(write(tmp_path / f"{name}_{k}.png", halves()) for k in range(2))
        image = photograph(tmp_path / f"{name}.jpg")
        pictures.append(RegionPicture(name=name, image=image, maps=DrawnRegions(paths)))
    return pictures


def test_the_cache_keeps_what_was_used_last(drawn):
    a, b, c, _ = drawn
    size = 720 + 2 * 480
    cache = RegionCache(most_bytes=2 * size)
    first = cache.read(a)
    assert cache.read(a) is first and cache.bytes == size
    second = cache.read(b)
    assert cache.read(a) is first  # so that b is the oldest
    cache.read(c)
    assert cache.bytes == 2 * size
    assert cache.read(a) is first
    assert cache.read(b) is not second
    small = RegionCache(most_bytes=size - 1)
    assert small.read(a) is not small.read(a) and small.bytes == 0


def test_what_the_cache_hands_out_is_as_read_and_not_to_be_written(drawn):
    for kept, read in zip(RegionCache().read(drawn[0]), drawn[0].read(), strict=True):
        np.testing.assert_array_equal(kept, read)
        assert kept.dtype == read.dtype
        with pytest.raises(ValueError, match="read-only"):
            kept[0] = 1


def test_large_pictures_are_shrunk(drawn):
    image, maps = RegionCache(longest=10).read(drawn[0])
    assert image.shape == (6, 10, 3)
    np.testing.assert_array_equal(maps, [halves(6, 10)] * 2)
    assert maps.dtype == np.uint16


def test_threads_share_a_cache(drawn):
    cache = RegionCache(most_bytes=3 * (720 + 2 * 480))
    order = np.random.default_rng(0).integers(4, size=200).tolist()
    with ThreadPoolExecutor(8) as pool:
        for image, maps in pool.map(lambda k: cache.read(drawn[k]), order):
            assert image.shape == (12, 20, 3) and maps.shape == (2, 12, 20)
    assert cache.bytes == cache.most_bytes


def test_a_cache_travels_empty(drawn):
    cache = RegionCache(most_bytes=5000, longest=77)
    cache.read(drawn[0])
    copy = pickle.loads(pickle.dumps(cache))
    assert (copy.most_bytes, copy.longest, copy.bytes) == (5000, 77, 0)
    assert copy.read(drawn[0])[1].shape == (2, 12, 20)


@pytest.mark.parametrize("setting", [{"most_bytes": -1}, {"longest": 0}])
def test_settings_of_the_cache(setting):
    with pytest.raises(InputError, match="expected 0 or more bytes and 1 or more pixels"):
        RegionCache(**setting)


def test_real_data(data_dir):
    defects = open_region_pictures("folder", data_dir / "mt_defects")
    assert len(defects) > 150
    image, maps = defects[0].read()
    assert maps.shape[1:] == image.shape[:2]
    assert sum(picture.read()[1].any() for picture in defects[::10]) > 15
    street = open_region_pictures("camvid", data_dir / "camvid", "train")
    assert len(street) == 367
    assert len(kinds_of_regions(street[0].read()[1][0])) > 10
