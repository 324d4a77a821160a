"""Episodes of PASCAL-5i, published and corrected."""

from __future__ import annotations

import pickle
import random
import shutil

import numpy as np
import pytest
from mersenne_twister import Twister

from softmatch_jax._checks import InputError
from softmatch_jax.data.pascal5i import open_pascal5i
from softmatch_jax.imaging import read_labels, write_image, write_indexed_mask

PALETTE = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)


def test_the_oracle_is_the_twister():
    assert Twister.numpy(321).word() == np.random.RandomState(321).randint(0, 2**32, dtype=np.uint32)
    assert Twister.python(321).word() == random.Random(321).getrandbits(32)


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    """Seven pictures with classes of fold 0, two of coco-fold 1 (bicycle), one void pixel in each."""
    root = tmp_path_factory.mktemp("voc")
    masks = {
        "a": {1: 2048, 2: 5},  # 2 is asked for, though not listed
        "b": {2: 2100, 1: 2100},
        "c": {1: 3000},
        "d": {2: 3000},
        "e": {3: 3000},
        "f": {3: 2048, 1: 100, 2: 2048},
        "g": {4: 3000},
        "h": {5: 4000},
        "i": {4: 2500, 5: 2500},
        "j": {10: 3000},  # of another fold
    }
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for number, (name, pixels) in enumerate(masks.items()):
        labels = np.zeros(8000, np.uint8)
        values = np.repeat([*pixels, 255], [*pixels.values(), 1])
        labels[: values.size] = values
        write_indexed_mask(root / f"SegmentationClassAug/{name}.png", labels.reshape(80, 100), PALETTE)
        write_image(root / f"JPEGImages/{name}.jpg", np.full((80, 100, 3), 20 * number, np.uint8))
    (root / "ImageSets/Segmentation/val.txt").write_text("\n".join(masks) + "\n")
    return root


BY_CLASS = {
    "aeroplane": ["a", "b", "c"],
    "bicycle": ["b", "d", "f"],
    "bird": ["e", "f"],
    "boat": ["g", "i"],
    "bottle": ["h", "i"],
}
PRESENT = {
    "a": ["aeroplane", "bicycle"],
    "b": ["aeroplane", "bicycle"],
    "c": ["aeroplane"],
    "d": ["bicycle"],
    "e": ["bird"],
    "f": ["aeroplane", "bicycle", "bird"],
    "g": ["boat"],
    "h": ["bottle"],
    "i": ["boat", "bottle"],
}


@pytest.mark.parametrize("seed", [0, 1])
def test_published_draws(voc, seed):
    shots = 1
    episodes = open_pascal5i(voc, fold=0, shots=shots, sampling="published")
    assert (len(episodes), episodes.name, episodes.sampling) == (1000, "pascal5i fold 0", "published")
    assert (episodes.classes, episodes.raster) == (tuple(BY_CLASS), (512, 512))
    python, numpy = Twister.python(321 + seed), Twister.numpy(321 + seed)
    targets = list(PRESENT)
    for index in range(1000):
        target = targets[index % len(targets)]
        name = PRESENT[target][python.randint(len(PRESENT[target]))]
        references = []
        while len(references) < shots:
            drawn = BY_CLASS[name][numpy.first_of_permutation(len(BY_CLASS[name]))]
            references += [drawn] if drawn != target else []
        episode = episodes.episode(seed, index)
        got = (episode.index, episode.class_name, episode.target.name, [r.name for r in episode.references])
        assert got == (index, name, target, references)


def test_published_references_may_repeat_and_never_are_the_target(voc):
    with pytest.raises(InputError, match=r"'bird' .* has 2 pictures; expected at least 3"):
        open_pascal5i(voc, fold=0, shots=2, sampling="corrected")
    all_five = open_pascal5i(voc, fold=0, shots=2, sampling="published")
    birds = [e for i in range(1000) if (e := all_five.episode(0, i)).class_name == "bird"]
    assert birds and all(e.references[0] == e.references[1] != e.target for e in birds)
    episodes = open_pascal5i(voc, fold=0, shots=2, sampling="published", classes=["aeroplane", "bicycle"])
    drawn = [episodes.episode(0, index) for index in range(1000)]
    assert {e.class_name for e in drawn} == {"aeroplane", "bicycle"}
    assert all(r.name != e.target.name for e in drawn for r in e.references)
    assert any(e.references[0] == e.references[1] for e in drawn)
    small = [e for e in drawn if (e.target.name, e.class_name) == ("a", "bicycle")]
    assert small and "a" not in BY_CLASS["bicycle"]  # asked for, though not listed


def test_a_truth(voc):
    episodes = open_pascal5i(voc, fold=0, shots=1, sampling="published")
    episode = next(e for i in range(1000) if (e := episodes.episode(0, i)).target.name == "b")
    read = episode.target.read()
    expected = np.zeros(8000, bool)
    expected[slice(2100) if episode.class_name == "bicycle" else slice(2100, 4200)] = True
    assert read.image.shape == (80, 100, 3)
    np.testing.assert_array_equal(read.truth.mask.ravel(), expected)
    assert np.flatnonzero(read.truth.void).tolist() == [4200]


def test_episodes_are_a_function_of_seed_and_index(voc):
    first, second = (open_pascal5i(voc, fold=0, shots=1, sampling="published") for _ in range(2))
    forward = [first.episode(3, i) for i in range(50)]
    assert [second.episode(3, i) for i in reversed(range(50))] == forward[::-1]
    assert first == second and first.digest == second.digest
    again = pickle.loads(pickle.dumps(first))
    assert again == first and again.episode(3, 7) == forward[7]
    assert [first.episode(4, i) for i in range(50)] != forward
    for seed, index in ((-1, 0), (0, 1000), (2**32, 0)):
        with pytest.raises(InputError):
            first.episode(seed, index)


def test_the_digest_tells_which_small_objects_are_asked_for(voc, tmp_path):
    """Another picture with few pixels of a class is another question, though every list is the same."""
    other = tmp_path / "voc"
    shutil.copytree(voc, other)
    path = other / "SegmentationClassAug/c.png"
    labels = read_labels(path)
    labels[-1, -1] = 5
    write_indexed_mask(path, labels, PALETTE)
    for sampling, same in (("corrected", True), ("published", False)):
        sets = [open_pascal5i(root, fold=0, shots=1, sampling=sampling) for root in (voc, other)]
        assert (sets[0].digest == sets[1].digest) == same


def test_corrected_episodes_have_each_listed_picture_once(voc):
    episodes = open_pascal5i(voc, fold=0, shots=1, sampling="corrected")
    assert (len(episodes), episodes.sampling, episodes.raster) == (12, "corrected", (512, 512))
    asked = [(e.class_name, e.target.name) for e in map(lambda i: episodes.episode(0, i), range(12))]
    assert sorted(asked) == sorted((name, picture) for name, names in BY_CLASS.items() for picture in names)


def test_folds_of_coco(voc):
    episodes = open_pascal5i(voc, fold=1, shots=1, sampling="corrected", classes=["bicycle"], grouping="coco")
    assert (episodes.name, episodes.classes, len(episodes)) == ("pascal5i coco-fold 1", ("bicycle",), 3)
    with pytest.raises(InputError, match="coco-fold 1 has no class 'boat'; expected one of 'bicycle', 'bus'"):
        open_pascal5i(voc, fold=1, shots=1, sampling="corrected", classes=["boat"], grouping="coco")
    with pytest.raises(InputError, match="fold is 5"):
        open_pascal5i(voc, fold=5, shots=1, sampling="published")
