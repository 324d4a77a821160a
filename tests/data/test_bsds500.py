from __future__ import annotations

import pickle

import numpy as np
import PIL.Image
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.data.bsds500 import open_bsds500, open_regions, read_regions


def columns(*widths):
    """A map of ten rows, cut into regions by vertical lines."""
    return np.repeat([list(np.repeat(np.arange(len(widths)) + 1, widths))], 10, axis=0)


def write(folder, name, *maps):
    folder.mkdir(exist_ok=True)
    PIL.Image.new("RGB", maps[0].shape[::-1]).save(folder / f"{name}.jpg")
    for person, regions in enumerate(maps):
        PIL.Image.fromarray(regions.astype(np.uint8)).save(folder / f"{name}_{person}.png")


@pytest.fixture
def root(tmp_path):
    # The first two people agree on two of three regions; the third sees two halves.
    write(tmp_path / "train", "7", columns(10, 6, 4), columns(11, 2, 7), columns(10, 10))
    write(tmp_path / "val", "8", columns(19, 1), columns(1, 19))
    return tmp_path


def named(episodes):
    asked = [episodes.episode(0, i) for i in range(len(episodes))]
    return [(e.references[0].name, e.target.name) for e in asked]


def test_regions_that_the_next_person_saw_too(root):
    episodes = open_bsds500(root, min_area=0)
    assert named(episodes) == [
        ("7@0-1", "7@1-1"),  # 10 of 11 columns
        ("7@0-3", "7@1-3"),  # 4 of 7; the middle has 2 of 6
        ("7@1-1", "7@2-1"),  # 10 of 11
        ("7@1-3", "7@2-2"),  # 7 of 10
        ("7@2-1", "7@0-1"),  # all
        ("7@2-2", "7@0-2"),  # 6 of 10
        ("8@0-1", "8@1-2"),  # 18 of 20 columns, or 0.9; the last column is not the first
        ("8@1-2", "8@0-1"),
    ]
    assert named(open_bsds500(root, min_area=0, min_overlap=0.95)) == [("7@2-1", "7@0-1")]
    assert named(open_bsds500(root, min_area=0.6)) == named(episodes)[-2:]
    assert named(open_bsds500(root, split="val")) == named(episodes)[-2:]


def test_reference_and_target_are_one_picture_with_two_truths(root):
    episode = open_bsds500(root, min_area=0).episode(0, 1)
    assert episode.class_name == "region" and episode.index == 1
    assert episode.target.image == episode.references[0].image
    (reference,), target = episode.references, episode.target
    assert np.array_equal(reference.read().truth.mask, columns(10, 6, 4) == 3)
    assert np.array_equal(target.read().truth.mask, columns(11, 2, 7) == 3)


def test_attributes(root):
    episodes = open_bsds500(root, split="train")
    assert (episodes.name, episodes.sampling, episodes.shots) == ("bsds500 train", "corrected", 1)
    assert (episodes.classes, episodes.raster) == (("region",), None)
    assert pickle.loads(pickle.dumps(episodes)) == episodes
    assert episodes.digest == open_bsds500(root, split="train").digest
    assert episodes.digest != open_bsds500(root, split="train", min_overlap=0.8).digest
    assert episodes.episode(0, 2) == episodes.episode(99, 2)
    with pytest.raises(InputError, match="index is 6"):
        episodes.episode(0, 6)


def test_every_large_region_is_a_sample(root):
    assert [s.name for s in open_regions(root, split="val")] == ["8@0-1", "8@0-2", "8@1-1", "8@1-2"]
    assert len(open_regions(root, split="val", min_area=0.05)) == 4  # 1 of 20 columns is 0.05
    assert [s.name for s in open_regions(root, split="val", min_area=0.06)] == ["8@0-1", "8@1-2"]
    everything = open_regions(root, min_area=0)
    areas = sum(s.read().truth.mask.mean() for s in everything)
    assert areas == pytest.approx(5)  # the regions of each map fill the picture
    assert len({s.name for s in everything}) == len(everything) == 12


def test_overlaps_are_as_counted_one_by_one(tmp_path):
    rng = np.random.default_rng(0)
    maps = [np.kron(rng.integers(1, 5, (4, 5)), np.ones((3, 3), int)) for _ in range(3)]
    maps[1] = np.where(rng.random(maps[0].shape) < 0.7, maps[0], maps[1])
    write(tmp_path / "train", "1", *maps)
    expected = []
    for a, b in ((0, 1), (1, 2), (2, 0)):
        for i in range(1, 5):
            one = maps[a] == i
            overlaps = [(one & (maps[b] == j)).sum() / (one | (maps[b] == j)).sum() for j in range(1, 5)]
            if max(overlaps) >= 0.3:
                expected.append((f"1@{a}-{i}", f"1@{b}-{np.argmax(overlaps) + 1}"))
    assert len(expected) > 3
    assert named(open_bsds500(tmp_path, min_area=0, min_overlap=0.3)) == expected


def test_what_the_data_set_does_not_have(root):
    with pytest.raises(InputError, match="bsds500 has no published sampling"):
        open_bsds500(root, sampling="published")
    with pytest.raises(InputError, match="shots is 2"):
        open_bsds500(root, shots=2)
    with pytest.raises(InputError, match="split is 'all'; expected one of train, val, test"):
        open_bsds500(root, split="all")
    with pytest.raises(InputError, match="test does not exist"):
        open_bsds500(root, split="test")
    with pytest.raises(InputError, match="min_area is 5"):
        open_regions(root, min_area=5)
    with pytest.raises(InputError, match="min_overlap is nan"):
        open_bsds500(root, min_overlap=float("nan"))
    with pytest.raises(InputError, match=r"no region of 0\.97 of its picture"):
        open_bsds500(root, min_area=0.97)


@pytest.mark.parametrize(
    ("lost", "added", "message"),
    [
        ("7.jpg", None, r"7_0\.png belongs to no photograph"),
        ("7_1.png", None, r"7\.jpg has 2 maps but not 7_1\.png"),
        (None, "7_03.png", r"7_03\.png belongs to no photograph"),
        (None, "7.png", r"7\.png belongs to no photograph"),
        (None, "9.jpg", r"9\.jpg has 0 maps but not 9_0\.png"),
        (None, "7.jpeg", r"holds both 7\.jpeg and 7\.jpg"),
        (None, "8.jpg 8_0.png 8_1.png", r"train.8\.jpg and .*val.8\.jpg have one name"),
    ],
)
def test_incomplete_folders(root, lost, added, message):
    if lost:
        (root / "train" / lost).unlink()
    for name in (added or "").split():
        PIL.Image.new("L", (20, 10), 1).save(root / "train" / name)
    for opened in (open_bsds500, open_regions):
        with pytest.raises(InputError, match=message):
            opened(root)


def test_missing_folders(tmp_path):
    with pytest.raises(InputError, match="no does not exist; expected the folder of BSDS500"):
        open_bsds500(tmp_path / "no")
    with pytest.raises(InputError, match="holds none of the folders train, val, test"):
        open_bsds500(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="train holds no photograph"):
        open_bsds500(tmp_path)


def test_maps_that_cannot_be_used(tmp_path):
    write(tmp_path / "train", "1", columns(3, 3))
    with pytest.raises(InputError, match="regions of 1 person"):
        open_bsds500(tmp_path)
    write(tmp_path / "train", "1", columns(3, 3), columns(3, 2))
    with pytest.raises(InputError, match=r"1_0\.png and .*1_1\.png differ in size"):
        open_bsds500(tmp_path)
    write(tmp_path / "train", "1", columns(3, 3) - 1)
    with pytest.raises(InputError, match="holds the value 0"):
        read_regions(tmp_path / "train" / "1_0.png")


@pytest.mark.slow
def test_real_photographs(data_dir):
    episodes = open_bsds500(data_dir / "bsds500", split="val")
    assert len(episodes) > 3000
    for index in range(0, len(episodes), 200):
        e = episodes.episode(0, index)
        one, two = e.references[0].read().truth.mask, e.target.read().truth.mask
        assert (one & two).sum() >= 0.5 * (one | two).sum()
        assert one.mean() >= 0.005
