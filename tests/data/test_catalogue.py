"""One door to all data sets, which refuses options that have no meaning for one."""

import pickle
from typing import get_args

import numpy as np
import PIL.Image
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.data.catalogue import FOLDED, PUBLISHED, DataSetName, DataSource, open_episodes

NAMES = get_args(DataSetName)


def refused(name, root, words, **options):
    with pytest.raises(InputError) as error:
        open_episodes(DataSource(dataset=name, root=root, **options))
    message = str(error.value)
    assert words in message and "\n" not in message and message.endswith("."), message
    return message


@pytest.fixture
def folder(tmp_path):
    """Two classes, of three pictures and of two; a mask's object is 20 pixels, or 4 in ``a/2``."""
    for name in ("a/0", "a/1", "a/2", "b/0", "b/1"):
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (16, 12), "grey").save(path.with_suffix(".jpg"))
        values = np.zeros((12, 16), np.uint8)
        values.ravel()[: 4 if name == "a/2" else 20] = 255
        PIL.Image.fromarray(values).save(path.with_suffix(".png"))
    return tmp_path / "mine"


@pytest.mark.parametrize(
    "option, value",
    [
        ("layout", "pairs"),
        ("mask_threshold", 128),
        ("mask_threshold", 0),
        ("void", (0,)),
        ("labels", {0: "road"}),
        ("min_area", 5),
    ],
)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "folder"])
def test_options_of_folders(tmp_path, name, option, value):
    typed = "--label" if option == "labels" else "--" + option.replace("_", "-")
    refused(name, tmp_path, f"{typed} is given for {name}; expected it with folder only", **{option: value})


def test_options_of_one_data_set(tmp_path):
    for name in NAMES:
        if name != "fss1000":
            words = f"--test-classes is given for {name}; expected it with fss1000 only"
            refused(name, tmp_path, words, test_classes=tmp_path / "classes.txt")
        if name != "pascal5i":
            words = f"--folds coco is given for {name}; expected it with pascal5i only"
            refused(name, tmp_path, words, grouping="coco")
        if name not in PUBLISHED:
            words = f"{name} has no published sampling; expected --sampling corrected"
            refused(name, tmp_path, words, sampling="published")
    refused("bsds500", tmp_path, "has regions and no classes; leave it out", classes=("bear",))


@pytest.mark.parametrize("name", FOLDED)
@pytest.mark.parametrize("fold", [-1, 4])
def test_folds_are_four(tmp_path, name, fold):
    refused(name, tmp_path, f"--fold is {fold}; expected 0, 1, 2 or 3.", fold=fold)


@pytest.mark.parametrize("name", NAMES)
def test_data_that_are_not_there(tmp_path, name):
    sampling = "published" if name in PUBLISHED else "corrected"
    refused(name, tmp_path / "none", "none", sampling=sampling)


def test_a_folder_opens(folder):
    episodes = open_episodes(DataSource(dataset="folder", root=folder))
    assert episodes.name == "folder mine" and episodes.classes == ("a", "b") and len(episodes) == 5
    assert (episodes.sampling, episodes.shots, episodes.raster) == ("corrected", 1, None)
    episode = episodes.episode(0, 3)
    assert (episode.class_name, episode.target.name) == ("b", "b/0")
    assert [sample.name for sample in episode.references] == ["b/1"]
    again = pickle.loads(pickle.dumps(episodes))
    assert again.episode(0, 3) == episode and again.digest == episodes.digest


def test_options_reach_the_folder(folder):
    def opened(**options):
        return open_episodes(DataSource(dataset="folder", root=folder, **options))

    assert opened(classes=("b",)).classes == ("b",)
    assert len(opened(min_area=5)) == 4
    assert opened(classes=("a",), shots=2).shots == 2
    assert opened(layout="pairs").digest == opened().digest
    assert len({opened(mask_threshold=level).digest for level in (None, 1, 128)}) == 3  # other masks
    refused("folder", folder, "'b' of folder mine has 2 pictures; expected at least 3", shots=2)
    refused("folder", folder, "no class 'c'", classes=("c",))
    refused("folder", folder, "void", layout="pairs", void=(3,))


def test_perseg_opens(tmp_path):
    for name in ("cat", "robot"):
        (tmp_path / name).mkdir()
        for number in range(3):
            PIL.Image.new("RGB", (8, 6)).save(tmp_path / name / f"{number:02d}.jpg")
            mask = np.eye(6, 8, number).astype(np.uint8)
            PIL.Image.fromarray(mask).save(tmp_path / name / f"{number:02d}.png")
    for sampling, count in (("published", 4), ("corrected", 6)):
        episodes = open_episodes(DataSource(dataset="perseg", root=tmp_path, sampling=sampling))
        assert episodes.sampling == sampling and len(episodes) == count
