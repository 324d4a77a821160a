"""What is trained on, validated with and evaluated, for each data set."""

from __future__ import annotations

import numpy as np
import pytest
from class_lists import names_of
from coco_tree import write_coco
from folder_tree import label_map, picture

from softmatch_jax._checks import InputError
from softmatch_jax.data.class_folds import picture_names
from softmatch_jax.data.coco_prepare import prepare_coco
from softmatch_jax.data.pascal5i import open_pascal5i
from softmatch_jax.data.published_counts import PASCAL_LISTED
from softmatch_jax.data.training_episodes import first_usable, read_shown
from softmatch_jax.data.training_sets import TrainingSource, open_training
from softmatch_jax.imaging import write_image, write_indexed_mask

PALETTE = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
CAMVID_NAMES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
VAL = {"v1": {1: 3000}, "v2": {1: 2048, 6: 9}, "v3": {6: 3000}, "v4": {2: 2100}, "v5": {2: 2100, 3: 9}}
TRAIN = {
    "t1": {6: 3000, 7: 5},  # 7 is asked for in the published way, though not listed
    "t2": {6: 2048, 7: 2048},
    "t3": {7: 3000},
    "t4": {6: 3000, 1: 1},  # a pixel of a novel class
    "t5": {7: 2047},  # too small
    "t6": {6: 2500, 255: 50},
    "t7": {12: 2500},
    "t8": {12: 2500, 7: 2500},
    "t9": {6: 2600},
}


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    root = tmp_path_factory.mktemp("voc")
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name, pixels in (VAL | TRAIN).items():
        labels = np.zeros(8000, np.uint8)
        values = np.repeat([*pixels], [*pixels.values()])
        labels[: values.size] = values
        write_indexed_mask(root / f"SegmentationClassAug/{name}.png", labels.reshape(80, 100), PALETTE)
        write_image(root / f"JPEGImages/{name}.jpg", np.full((80, 100, 3), 90, np.uint8))
    (root / "ImageSets/Segmentation/val.txt").write_text("\n".join(VAL) + "\n")
    (root / "ImageSets/Segmentation/trainaug.txt").write_text("\n".join(TRAIN) + "\n")
    return root


PASCAL = {
    "dataset": "pascal5i",
    "fold": 0,
    "classes": ("aeroplane", "bicycle", "bus", "car", "dog"),
    "held_share": 0.0,
}


def test_pascal(voc):
    data = open_training(TrainingSource(root=voc, **PASCAL))
    assert names_of(data.episodes.lists) == {
        "bus": ["t1", "t2", "t6", "t9"],
        "car": ["t2", "t3", "t8"],
        "dog": ["t7", "t8"],
    }
    assert (data.name, data.novel) == ("pascal5i fold 0 training", ("aeroplane", "bicycle"))
    assert (len(data.episodes), data.validation, data.episodes.raster) == (7, None, (512, 512))
    assert names_of(data.evaluation.lists) == {"aeroplane": ["v1", "v2"], "bicycle": ["v4", "v5"]}
    asked = {(e.target.name, e.class_name) for e in (data.episodes.episode(0, i) for i in range(120))}
    assert ("t1", "bus") in asked and ("t1", "car") not in asked
    read = first_usable(data.episodes, 0, 0, read_shown)
    assert (
        read.target.truth.mask.sum()
        == TRAIN[read.episode.target.name][{"bus": 6, "car": 7, "dog": 12}[read.episode.class_name]]
    )


def test_published_pascal(voc):
    data = open_training(TrainingSource(root=voc, sampling="published", **PASCAL))
    assert (data.episodes.sampling, data.evaluation.sampling) == ("published", "published")
    drawn = [data.episodes.episode(0, i) for i in range(70)]
    assert [e.target.name for e in drawn] == ["t1", "t2", "t3", "t6", "t7", "t8", "t9"] * 10
    assert {e.class_name for e in drawn if e.target.name == "t1"} == {"bus", "car"}
    evaluation = open_pascal5i(voc, fold=0, shots=1, sampling="published", classes=["aeroplane", "bicycle"])
    assert [data.evaluation.episode(0, i) for i in range(9)] == [evaluation.episode(0, i) for i in range(9)]
    assert data.digest != open_training(TrainingSource(root=voc, **PASCAL)).digest
    part = open_training(TrainingSource(root=voc, sampling="published", **(PASCAL | {"held_share": 0.1})))
    held = picture_names(part.validation.lists)
    assert len(part.episodes) == 7 - len(held) and len(held) == 2
    assert not held & {part.episodes.episode(0, i).target.name for i in range(50)}


def test_every_class_of_a_fold_is_wanted(voc):
    with pytest.raises(InputError, match="'bird' of pascal5i fold 0 has 0 pictures"):
        open_training(TrainingSource(root=voc, dataset="pascal5i", fold=0, held_share=0.0))
    with pytest.raises(
        InputError, match=r"None of the classes 'bus' is novel in fold 0 .* one of 'aeroplane'"
    ):
        open_training(TrainingSource(root=voc, dataset="pascal5i", fold=0, classes=("bus",)))
    with pytest.raises(InputError, match="pascal5i has no class 'lorry'"):
        open_training(TrainingSource(root=voc, dataset="pascal5i", fold=0, classes=("lorry",)))


def test_coco(tmp_path):
    square = [[0, 0, 60, 0, 60, 60, 0, 60]]
    low = [[61, 61, 109, 61, 109, 99, 61, 99]]
    train = {f"COCO_train2014_{i}": [(2 + i % 2, square, 0)] for i in range(10)}
    train["COCO_train2014_0"].append((1, low, 0))  # shows a novel class
    write_coco(tmp_path, split="train", pictures=train)
    write_coco(tmp_path)
    prepare_coco(tmp_path, splits=("val", "train"))
    options = {
        "dataset": "coco20i",
        "root": tmp_path,
        "fold": 0,
        "classes": ("class 1", "class 2", "class 3"),
    }
    data = open_training(TrainingSource(**options, held_share=0.2))
    listed = {name: [n[-1] for n in names] for name, names in names_of(data.episodes.lists).items()}
    held = {name: [n[-1] for n in names] for name, names in names_of(data.validation.lists).items()}
    assert sorted(listed["class 2"] + held["class 2"]) == ["2", "4", "6", "8"]
    assert sorted(listed["class 3"] + held["class 3"]) == ["1", "3", "5", "7", "9"]
    assert [len(held[name]) for name in ("class 2", "class 3")] == [2, 2]
    assert names_of(data.evaluation.lists) == {"class 1": [f"COCO_val2014_{i}" for i in (2, 4, 7)]}
    published = open_training(TrainingSource(**options, held_share=0.0, sampling="published"))
    assert len(published.episodes) == 9 and published.validation is None
    assert published.evaluation.sampling == "published"


def town(root):
    """Maps of 0 (background) and 1 to 4; every picture below ``street`` shows 1 and 2."""
    for i in range(8):
        shown = {1 + (i + k) % 3: 20 for k in range(2)} | ({4: 2} if i == 0 else {})
        picture(root / f"images/field/{i}.jpg")
        label_map(root / f"masks/field/{i}.png", shown)
        picture(root / f"images/street/{i}.jpg")
        label_map(root / f"masks/street/{i}.png", {1: 30, 2: 30, 3: 20 * (i % 2), 4: 20 * (i % 3 > 0)})
    return {
        "dataset": "folder",
        "root": root,
        "labels": {0: "background", 1: "road", 2: "tree", 3: "car", 4: "dog"},
    }


def test_pictures_of_novel_classes_are_left_out(tmp_path):
    options = town(tmp_path)
    data = open_training(TrainingSource(**options, novel=("dog",), min_area=5, held_share=0.2))
    parts = [data.episodes.lists, data.validation.lists, data.evaluation.lists]
    assert data.novel == ("dog",) and parts[0].classes == ("road", "tree", "car")
    trained, validated, evaluated = map(picture_names, parts)
    assert evaluated == {f"images/street/{i}" for i in (1, 2, 4, 5, 7)}
    # The dog of field 0 is too small to be evaluated, and is not trained on either.
    assert trained | validated == {f"images/field/{i}" for i in range(1, 8)} | {
        f"images/street/{i}" for i in (0, 3, 6)
    }
    assert not trained & validated
    folds = [
        open_training(TrainingSource(**options, fold=f, exclude="masks", held_share=0.4)) for f in range(4)
    ]
    assert [data.novel for data in folds] == [("road",), ("tree",), ("car",), ("dog",)]
    assert len({data.digest for data in folds}) == 4 and folds[0].name.endswith("fold 0 of 4")


def test_masks_of_novel_classes_are_left_out(tmp_path):
    options = town(tmp_path)
    with pytest.raises(
        InputError, match=r"Every picture of .* shows one of the novel classes 'road', 'tree', 'dog'"
    ):
        open_training(TrainingSource(**options, novel=("road", "tree", "dog")))
    data = open_training(TrainingSource(**options, novel=("road", "tree"), exclude="masks", held_share=0.3))
    parts = [data.episodes.lists, data.validation.lists, data.evaluation.lists]
    assert [part.classes for part in parts] == [("car", "dog"), ("car", "dog"), ("road", "tree")]
    assert not picture_names(parts[0]) & (picture_names(parts[1]) | picture_names(parts[2]))
    held = {**options, "exclude": "masks", "held_folder": "images/street"}
    folder = open_training(TrainingSource(**held, novel=("road",), classes=("road", "tree", "car")))
    assert {n.split("/")[1] for n in picture_names(folder.evaluation.lists)} == {"street"}
    assert {n.split("/")[1] for n in picture_names(folder.episodes.lists)} == {"field"}
    with pytest.raises(InputError, match=r"'dog' of .* has 1 picture; expected at least 2"):
        open_training(TrainingSource(**held, novel=("road",)))
    with pytest.raises(InputError, match="fewer than 2 of these show 'road'; hold out more"):
        open_training(TrainingSource(**options, novel=("road",), exclude="masks", held_share=0.0))
    with pytest.raises(InputError, match="2 pictures in the folder 'images/lake' to be held out"):
        open_training(TrainingSource(**options, held_folder="images/lake"))


def test_without_novel_classes(tmp_path):
    data = open_training(TrainingSource(**town(tmp_path)))
    assert (data.novel, data.evaluation) == ((), None) and len(data.episodes.classes) == 4
    again = open_training(TrainingSource(**town(tmp_path)))
    assert again == data and again.digest == data.digest
    other = open_training(TrainingSource(**town(tmp_path), held_seed=1))
    assert other.digest != data.digest


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dataset": "voc"}, "The data set to train on is 'voc'; expected one of pascal5i"),
        ({"dataset": "pascal5i"}, "pascal5i needs a fold"),
        ({"dataset": "coco20i", "fold": 4}, "fold is 4; expected 0 to 3"),
        ({"dataset": "coco20i", "fold": 0, "held_folder": "a"}, "--held-folder is given for coco20i"),
        ({"dataset": "pascal5i", "fold": 0, "exclude": "masks"}, "--exclude is given for pascal5i"),
        ({"dataset": "coco20i", "fold": 0, "grouping": "coco"}, "--grouping coco is given for coco20i"),
        ({"dataset": "folder", "grouping": "coco"}, "--grouping is given for folder"),
        ({"dataset": "folder", "sampling": "published"}, "folder has no published sampling"),
        ({"dataset": "folder", "fold": 0, "novel": ("a",)}, "Both --novel and --fold"),
        ({"dataset": "folder", "exclude": "masks"}, "no class is novel"),
    ],
)
def test_options_that_do_not_suit(tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        open_training(TrainingSource(root=tmp_path, **options))


def test_street_scenes(data_dir):
    options = {
        "root": data_dir / "camvid",
        "layout": "indexed",
        "labels": dict(enumerate(CAMVID_NAMES)),
        "void": (11,),
    }
    source = TrainingSource(dataset="folder", **options, fold=3, exclude="masks", held_folder="val")
    data = open_training(source)
    assert data.novel == ("pedestrian", "bicyclist") and len(data.episodes) == 367
    assert picture_names(data.evaluation.lists) <= picture_names(data.validation.lists)
    read = first_usable(data.episodes, 0, 0, read_shown)
    assert read.target.truth.mask.shape == (360, 480) and read.target.truth.void.any()


def test_defects(data_dir):
    novel = []
    for fold in range(5):
        options = {"root": data_dir / "mt_defects", "mask_threshold": 1, "folds": 5, "fold": fold}
        data = open_training(TrainingSource(dataset="folder", **options))
        novel += data.novel
        assert set(data.validation.classes) == set(data.episodes.classes)
        assert len(data.episodes) + len(picture_names(data.validation.lists)) + len(data.evaluation) == 193
    assert novel == ["blowhole", "break", "crack", "fray", "uneven"]


@pytest.mark.slow
@pytest.mark.parametrize("fold", range(4))
def test_published_numbers_of_pictures(data_dir, fold):
    root = data_dir / "VOC2012"
    if not root.is_dir():
        pytest.skip(f"no PASCAL VOC 2012 at {root}")
    source = TrainingSource(dataset="pascal5i", root=root, fold=fold, held_share=0.0)
    assert len(open_training(source).episodes) == PASCAL_LISTED["train"][fold]
