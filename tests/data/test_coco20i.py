"""COCO-20i: preparing, lists and episodes."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from coco_tree import TRAIN, H, W, write_coco
from mersenne_twister import Twister

from softmatch_jax._checks import InputError
from softmatch_jax.data.coco20i import CocoDraws, open_coco20i
from softmatch_jax.data.coco_lists import COCO_CLASSES, build_coco_lists, novel_classes, prepared_coco
from softmatch_jax.data.coco_masks import Tally
from softmatch_jax.data.coco_prepare import PaintConfig, prepare_coco
from softmatch_jax.data.episodes import ClassLists, Sample
from softmatch_jax.data.pascal_coco_draws import PublishedEpisodes
from softmatch_jax.data.truths import LabelTruth
from softmatch_jax.imaging import class_palette, read_labels, write_indexed_mask


@pytest.fixture
def coco(tmp_path):
    root = tmp_path / "MSCOCO14"
    write_coco(root)
    return root


def listed(lists):
    """Classes that are not empty, without the beginning of the names."""
    return {k: [name[-1] for name in names] for k, names in lists.by_class.items() if names}


def test_classes():
    assert len(set(COCO_CLASSES)) == 80
    assert [novel_classes(fold)[:2] for fold in range(4)] == [(1, 5), (2, 6), (3, 7), (4, 8)]
    assert sorted(k for fold in range(4) for k in novel_classes(fold)) == list(range(1, 81))
    assert novel_classes(3)[-1] == 80
    assert [COCO_CLASSES[k - 1] for k in novel_classes(0)] == [  # as papers on COCO-20i name fold 0
        "person", "airplane", "boat", "parking meter", "dog", "elephant", "backpack", "suitcase",
        "sports ball", "skateboard", "wine glass", "spoon", "sandwich", "hot dog", "chair", "dining table",
        "mouse", "microwave", "refrigerator", "scissors",
    ]  # fmt: skip


def test_lists_to_evaluate(coco):
    folder, tallies = prepare_coco(coco.parent)  # the folder above, as published code has it
    assert folder == coco
    assert tallies == {"val": Tally(painted=5, missing=1, clipped=1, outside=1)}
    lists = build_coco_lists(coco, 0, "val")
    # 1: 2 has 2048, 4 has 2048 over the crowd, 7 has 8100 - 1600. 5: 1 has 2116, the crowd of 4 has the rest.
    assert listed(lists) == {1: ["2", "4", "7"], 5: ["1", "4"]}
    assert [name[-1] for name in lists.images] == ["1", "2", "4", "7"]  # by name
    assert lists.present == ((1, 5), (1,), (1, 5), (1,))
    assert listed(build_coco_lists(coco.parent, 1, "val")) == {2: ["3"]}
    assert listed(build_coco_lists(coco, 3, "val")) == {4: ["7"]}
    pixels = {k: dict(r.pixels) for k, r in prepared_coco(coco, "val")[1].splits["val"].items()}
    assert pixels["COCO_val2014_3"] == {1: 1250, 2: 2500}
    assert pixels["COCO_val2014_4"] == {1: 2048, 5: H * W - 2048}
    assert pixels["COCO_val2014_7"] == {1: 8100 - 1600, 4: 60 * 50}
    labels = read_labels(coco / "annotations/val2014/COCO_val2014_3.png")
    expected = np.zeros((H, W))
    expected[:50, :25], expected[:50, 25:75] = 1, 2
    np.testing.assert_array_equal(labels, expected)


def test_lists_to_train(coco):
    write_coco(coco, split="train", pictures=TRAIN)
    prepare_coco(coco, splits=("val",))
    with pytest.raises(
        InputError, match=r"no finished lists of train2014; run softmatch data .* --split train"
    ):
        build_coco_lists(coco, 0, "train")
    prepare_coco(coco, splits=("train",))
    assert listed(build_coco_lists(coco, 0, "train")) == {2: ["2"]}  # one pixel of class 1 is in the other
    assert listed(build_coco_lists(coco, 1, "train")) == {}
    assert listed(build_coco_lists(coco, 2, "train")) == {2: ["1", "2"]}
    assert listed(build_coco_lists(coco, 1, "val")) == {2: ["3"]}  # is still there


def test_preparing_goes_on_where_it_was_interrupted(coco):
    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_coco(coco, report=interrupt)
    with pytest.raises(InputError, match="no finished lists of val2014"):
        build_coco_lists(coco, 0, "val")
    with pytest.raises(InputError, match="painted with --overlap last, not smallest; give --overwrite"):
        prepare_coco(coco, config=PaintConfig(overlap="smallest"))
    _, tallies = prepare_coco(coco)
    assert (tallies["val"].kept, tallies["val"].painted) == (3, 2)
    before = prepared_coco(coco, "val")[1]
    assert prepare_coco(coco)[1]["val"].kept == 5
    assert prepared_coco(coco, "val")[1] == before
    _, tallies = prepare_coco(coco, config=PaintConfig(overlap="smallest", overwrite=True))
    assert tallies["val"].painted == 5
    assert prepared_coco(coco, "val")[1].overlaps == {"val": "smallest"}


def test_a_list_decides_which_and_in_what_order(coco, tmp_path):
    given = tmp_path / "val.txt"
    given.write_text("val2014/COCO_val2014_7.jpg annotations/val2014/COCO_val2014_7.png\nCOCO_val2014_2\n")
    prepare_coco(coco, lists={"val": given})
    assert listed(build_coco_lists(coco, 0, "val")) == {1: ["7", "2"]}
    given.write_text("COCO_val2014_2\nCOCO_val2014_5\n")
    with pytest.raises(
        InputError, match="annotated in 1 of 2 listed pictures of val2014, first COCO_val2014_5"
    ):
        prepare_coco(coco, lists={"val": given})


def test_masks_without_annotations(coco):
    prepare_coco(coco)
    expected = [listed(build_coco_lists(coco, fold, "val")) for fold in range(4)]
    (coco / "annotations/instances_val2014.json").unlink()
    (coco / "softmatch_lists.json").unlink()
    assert prepare_coco(coco)[1] == {"val": Tally(kept=5)}
    assert [listed(build_coco_lists(coco, fold, "val")) for fold in range(4)] == expected
    assert prepared_coco(coco, "val")[1].classes == COCO_CLASSES
    path = coco / "annotations/val2014/COCO_val2014_2.png"
    labels = read_labels(path)
    for value in (255, 81):
        labels[-1, -1] = value
        write_indexed_mask(path, labels, class_palette(255))
        if value == 255:  # no published mask is known to hold it, but it does no harm
            prepare_coco(coco)
            assert listed(build_coco_lists(coco, 0, "val")) == expected[0]
    with pytest.raises(InputError, match=r"2.png holds the value 81; expected 0 .* 1 to 80"):
        prepare_coco(coco)


def test_bad_trees(coco, tmp_path):
    with pytest.raises(InputError, match="absent does not exist; expected the folder of COCO 2014"):
        prepare_coco(tmp_path / "absent")
    with pytest.raises(InputError, match="has no folder annotations"):
        prepare_coco(coco / "val2014")
    with pytest.raises(
        InputError, match=r"run softmatch data prepare coco20i --root .* first \(with --val-list and a list"
    ):
        open_coco20i(coco, fold=0, shots=1, sampling="published")
    prepare_coco(coco)
    mask = coco / "annotations/val2014/COCO_val2014_2.png"
    mask.write_bytes((coco / "annotations/val2014/COCO_val2014_1.png").read_bytes())
    with pytest.raises(
        InputError, match=r"COCO_val2014_2.png has changed .* run softmatch data prepare coco20i"
    ):
        open_coco20i(coco, fold=0, shots=1, sampling="published")
    shutil.rmtree(coco / "val2014")
    with pytest.raises(InputError, match="has none of 6 annotated pictures"):
        prepare_coco(coco)
    (coco / "annotations/instances_val2014.json").unlink()
    shutil.rmtree(coco / "annotations/val2014")
    with pytest.raises(InputError, match=r"instances_val2014.json cannot be read"):
        prepare_coco(coco)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_episodes(coco, tmp_path, elsewhere):
    root, _ = prepare_coco(coco, tmp_path / "out" if elsewhere else None)
    options = {"fold": 0, "classes": ["class 5", "class 1"]}
    episodes = open_coco20i(root, shots=1, sampling="corrected", **options)
    assert (episodes.name, len(episodes), episodes.raster) == ("coco20i fold 0", 5, (512, 512))
    asked = [(e.class_name, e.target.name[-1]) for e in (episodes.episode(0, i) for i in range(5))]
    assert asked == [("class 1", "2"), ("class 1", "4"), ("class 1", "7"), ("class 5", "1"), ("class 5", "4")]
    read = episodes.episode(0, 1).target.read()
    assert read.truth.void is None and read.truth.mask.sum() == 2048
    published = open_coco20i(root, shots=1, sampling="published", **options)
    assert len(published) == 1000 and published.classes == ("class 1", "class 5")
    again = pickle.loads(pickle.dumps(published))
    assert again == published and again.episode(0, 999) == published.episode(0, 999)
    assert published.digest == episodes.digest
    other, _ = prepare_coco(coco, tmp_path / "other", config=PaintConfig(overlap="smallest"))
    assert open_coco20i(other, shots=1, sampling="published", **options).digest != published.digest
    with pytest.raises(InputError, match=r"The class 'class \d+' of coco20i fold 0 has 0 pictures"):
        open_coco20i(root, fold=0, shots=1, sampling="published")
    with pytest.raises(InputError, match="coco20i fold 0 has no class 'class 2'"):
        open_coco20i(root, fold=0, shots=1, sampling="published", classes=["class 2"])


@pytest.mark.parametrize("seed", [0, 5])
def test_published_draws(seed):
    sizes = {f"class {k}": 6 + k * k for k in range(20)}
    pictures = {
        name: tuple(
            Sample(name=f"{name} {i}", image=Path("x.jpg"), truth=LabelTruth(Path("x.png"), (1,)))
            for i in range(size)
        )
        for name, size in sizes.items()
    }
    lists = ClassLists(name="lists", samples=pictures)
    episodes = PublishedEpisodes(lists=lists, shots=5, draws=CocoDraws())
    numbers = Twister.numpy(321 + seed)
    for index in range(200):
        name = list(sizes)[numbers.first_of_permutation(20)]
        target, references = numbers.first_of_permutation(sizes[name]), []
        while len(references) < 5:
            drawn = numbers.first_of_permutation(sizes[name])
            references += [drawn] if drawn != target else []
        episode = episodes.episode(seed, index)
        assert episode.class_name == name
        assert episode.target is pictures[name][target]
        assert episode.references == tuple(pictures[name][i] for i in references)
