from __future__ import annotations

import pickle

import numpy as np
import PIL.Image
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.data.perseg import open_perseg

COUNTS = {"robot": 3, "cat": 4, "backpack": 2}


def write(images, masks, numbers):
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        PIL.Image.new("RGB", (8, 6)).save(images / f"{number:02d}.jpg")
        PIL.Image.fromarray(np.eye(6, 8, number).astype(np.uint8)).save(masks / f"{number:02d}.png")


@pytest.fixture(params=["released", "side by side"])
def root(tmp_path, request):
    images, masks = ("Images", "Annotations") if request.param == "released" else (".", ".")
    for name, count in COUNTS.items():
        write(tmp_path / images / name, tmp_path / masks / name, range(count))
    return tmp_path


def questions(episodes, seed=0):
    asked = [episodes.episode(seed, i) for i in range(len(episodes))]
    return [(e.class_name, *(r.name for r in e.references), e.target.name) for e in asked]


def test_published_picture_00_is_the_reference_of_every_other(root):
    episodes = open_perseg(root, sampling="published")
    expected = [
        (name, f"{name}/00", f"{name}/{i:02d}") for name in sorted(COUNTS) for i in range(1, COUNTS[name])
    ]
    assert questions(episodes) == questions(episodes, seed=9) == expected
    assert [episodes.episode(0, i).index for i in range(len(episodes))] == list(range(6))
    assert (episodes.name, episodes.sampling, episodes.shots) == ("perseg", "published", 1)
    assert (episodes.classes, episodes.raster) == (tuple(sorted(COUNTS)), None)
    assert pickle.loads(pickle.dumps(episodes)) == episodes


def test_samples_are_read(root):
    episode = open_perseg(root, sampling="published").episode(0, 2)
    assert episode.target.name == "cat/02"
    assert np.array_equal(episode.target.read().truth.mask, np.eye(6, 8, 2, dtype=bool))
    assert np.array_equal(episode.references[0].read().truth.mask, np.eye(6, 8, dtype=bool))


def test_corrected_has_every_picture_as_a_target(root):
    episodes = open_perseg(root, sampling="corrected")
    assert isinstance(episodes, CorrectedEpisodes)
    assert len(episodes) == sum(COUNTS.values())
    assert open_perseg(root, shots=2, sampling="corrected", classes=["cat", "robot"]).classes == (
        "cat",
        "robot",
    )


def test_classes_are_chosen(root):
    assert questions(open_perseg(root, classes=["backpack"])) == [("backpack", "backpack/00", "backpack/01")]
    with pytest.raises(InputError, match="perseg has no class 'dog'; expected one of 'backpack', 'cat'"):
        open_perseg(root, classes=["dog"])


def test_what_the_protocol_does_not_have(root):
    with pytest.raises(InputError, match="one reference for each object; expected 1"):
        open_perseg(root, shots=2, sampling="published")
    with pytest.raises(InputError, match="'backpack' of perseg has 2 pictures"):
        open_perseg(root, shots=2, sampling="corrected")


def spoil(folder, what):
    if what == "mask":
        (folder / "00.png").unlink()
    elif what == "photograph":
        (folder / "00.jpg").unlink()
    elif what == "twins":
        PIL.Image.new("RGB", (8, 6)).save(folder / "01.jpeg")
    elif what == "reference":
        (folder / "00.jpg").unlink()
        (folder / "00.png").unlink()
    elif what == "single":
        for number in (1, 2, 3):
            (folder / f"{number:02d}.jpg").unlink()
            (folder / f"{number:02d}.png").unlink()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("mask", r"00\.jpg has no mask \(1 of 4 files there have none\); expected .*00\.png"),
        ("photograph", r"00\.png has no photograph \(1 of 4 files there have none\); expected .*00\.jpg"),
        ("twins", r"holds both 01\.jpeg and 01\.jpg"),
        ("reference", "'cat' has no picture 00"),
        ("single", "'cat' of perseg has 1 picture; expected at least 2"),
    ],
)
def test_incomplete_objects(tmp_path, what, message):
    write(tmp_path / "cat", tmp_path / "cat", range(4))
    spoil(tmp_path / "cat", what)
    with pytest.raises(InputError, match=message):
        open_perseg(tmp_path, sampling="published")


def test_missing_folders(tmp_path):
    with pytest.raises(InputError, match="no does not exist; expected the folder of PerSeg"):
        open_perseg(tmp_path / "no")
    with pytest.raises(InputError, match="holds no folder"):
        open_perseg(tmp_path)
    write(tmp_path / "Images" / "cat", tmp_path / "masks" / "cat", range(2))
    with pytest.raises(InputError, match="Annotations does not exist; expected it beside Images"):
        open_perseg(tmp_path)
    (tmp_path / "Annotations" / "dog").mkdir(parents=True)
    with pytest.raises(InputError, match="cat does not exist"):
        open_perseg(tmp_path)


def test_what_file_managers_leave_does_not_count(root):
    (root / ".DS_Store").touch()
    next(root.rglob("cat")).joinpath("._00.jpg").touch()
    (root / ".trash").mkdir()
    assert len(open_perseg(root)) == 6


def test_real_photographs(data_dir):
    episodes = open_perseg(data_dir / "perseg")
    assert [name for _, _, name in questions(episodes)] == ["cat/01", "cat/02", "duck_toy/01", "duck_toy/02"]
    for i in range(4):
        mask = episodes.episode(0, i).target.read().truth.mask
        assert 0.1 < mask.mean() < 0.4
