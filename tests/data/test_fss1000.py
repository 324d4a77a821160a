from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from mersenne_twister import Twister

from softmatch_jax._checks import InputError
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.data.episodes import ClassLists, Sample
from softmatch_jax.data.fss1000 import Fss1000Episodes, open_fss1000
from softmatch_jax.data.fss1000_draws import published_references
from softmatch_jax.data.truths import GreyTruth


def drawn_by_hand(seed, shots, classes):
    numbers, rows = Twister.numpy(seed), []
    for _ in range(classes):
        for target in (1, 10, 2, 3, 4, 5, 6, 7, 8, 9):
            row = []
            while len(row) < shots:
                number = 1 + numbers.first_of_permutation(10)
                row += [number] * (number != target)
            rows.append(tuple(row))
    return tuple(rows)


@pytest.mark.parametrize(("seed", "shots"), [(0, 1), (0, 5), (1, 1), (2**32 - 1, 3)])
def test_references_are_drawn_as_published(seed, shots):
    assert published_references(seed, shots, 240) == drawn_by_hand(seed, shots, 240)


def test_first_references_of_the_papers():
    assert [row[0] for row in published_references(0, 1, 240)[:12]] == [3, 4, 3, 7, 6, 2, 4, 1, 2, 10, 5, 5]
    assert published_references(0, 5, 240)[:2] == ((3, 4, 3, 7, 6), (2, 4, 1, 8, 2))  # some come twice


def lists(count):
    """Classes of ten pictures that are not there: an episode reads nothing."""
    return ClassLists(
        name="fss1000",
        samples={
            f"c{i:03d}": tuple(
                Sample(
                    name=f"c{i:03d}/{stem}",
                    image=Path(f"{stem}.jpg"),
                    truth=GreyTruth(Path(f"{stem}.png"), 128),
                )
                for stem in sorted(map(str, range(1, 11)))
            )
            for i in range(count)
        },
        raster=(518, 518),
    )


@pytest.mark.parametrize("shots", [1, 5])
def test_all_pictures_of_240_classes_are_targets_in_order(shots):
    episodes = Fss1000Episodes(lists(240), shots)
    assert len(episodes) == 2400
    asked = [episodes.episode(0, i) for i in range(2400)]
    assert [e.target for e in asked] == [s for samples in episodes.lists.samples.values() for s in samples]
    for index, (e, row) in enumerate(zip(asked, published_references(0, shots, 240), strict=True)):
        assert e.index == index and e.target not in e.references
        assert [r.name for r in e.references] == [f"{e.class_name}/{number}" for number in row]
        assert e.target.name.startswith(e.class_name + "/")


def test_references_may_outnumber_the_pictures():
    references = Fss1000Episodes(lists(1), 12).episode(0, 0).references
    assert len(references) == 12 > len(set(references))


def test_the_legacy_generator_has_no_larger_seed():
    episodes = Fss1000Episodes(lists(3), 2)
    assert episodes.episode(2**32 - 1, 0) != episodes.episode(0, 0)
    with pytest.raises(InputError, match="seed is 4294967296; expected 0 to 4294967295"):
        episodes.episode(2**32, 0)


NAMES = ("whippet", "abe's_flyingfish", "Zebra")


def write(folder, name, numbers=range(1, 11), empty=()):
    (folder / name).mkdir(parents=True)
    for number in numbers:
        PIL.Image.new("RGB", (8, 6), (number, 0, 0)).save(folder / name / f"{number}.jpg")
        mask = np.full((6, 8, 3), 100 if number in empty else 127, np.uint8)
        mask[2, :number] = (100, 100, 100) if number in empty else (255, 255, 254)
        PIL.Image.fromarray(mask).save(folder / name / f"{number}.png")


@pytest.fixture
def root(tmp_path):
    for name in (*NAMES, "of_the_training_set"):
        write(tmp_path / "fss" / "fewshot_data" / "fewshot_data", name)
    (tmp_path / "fss" / "fss_test_set.txt").write_bytes("\r\n".join(NAMES).encode())
    return tmp_path / "fss"


def test_published_classes_and_pictures_are_sorted_as_text(root):
    episodes = open_fss1000(root, shots=1, sampling="published")
    assert (episodes.name, episodes.sampling, episodes.shots) == ("fss1000", "published", 1)
    assert (episodes.classes, episodes.raster) == (("Zebra", "abe's_flyingfish", "whippet"), (518, 518))
    targets = [episodes.episode(0, i).target.name for i in range(len(episodes))]
    assert targets[:3] == ["Zebra/1", "Zebra/10", "Zebra/2"] and targets[-1] == "whippet/9"
    read = episodes.episode(0, 11).target.read()
    assert read.image[0, 0, 0] == 10
    expected = np.zeros((6, 8), bool)
    expected[2] = True
    assert np.array_equal(read.truth.mask, expected)


def test_roots_and_lists(root, tmp_path):
    whole = open_fss1000(root, shots=1, sampling="published")
    inner = root / "fewshot_data" / "fewshot_data"
    assert (
        open_fss1000(root / "fewshot_data", shots=1, sampling="published").digest == whole.digest
    )  # list beside
    (root / "fss_test_set.txt").rename(tmp_path / "some.txt")
    given = open_fss1000(inner, shots=1, sampling="published", test_classes=tmp_path / "some.txt")
    assert given.digest == whole.digest
    with pytest.raises(
        InputError, match=r"no list of the test classes; expected .*fss_test_set\.txt.*HKUSTCV"
    ):
        open_fss1000(inner, shots=1, sampling="published")
    (tmp_path / "matcher" / "splits").mkdir(parents=True)
    inner.rename(tmp_path / "matcher" / "data")
    (tmp_path / "matcher" / "splits" / "test.txt").write_text("\n".join(NAMES) + "\n\n")
    assert open_fss1000(tmp_path / "matcher", shots=1, sampling="published").digest == whole.digest


def test_corrected_leaves_empty_masks_out(tmp_path):
    write(tmp_path, "a", empty=(1, 5))
    write(tmp_path, "b")
    (tmp_path / "fss_test_set.txt").write_text("a\nb\n")
    episodes = open_fss1000(tmp_path, shots=5, sampling="corrected")
    assert isinstance(episodes, CorrectedEpisodes)
    assert len(episodes) == 18 and episodes.left_out == ("a/1", "a/5") and episodes.raster is None
    asked = [episodes.episode(0, i) for i in range(18)]
    seen = {s.name for e in asked for s in (e.target, *e.references)}
    assert seen == {f"{name}/{i}" for name in "ab" for i in range(1, 11)} - {"a/1", "a/5"}
    assert len(open_fss1000(tmp_path, shots=5, sampling="published")) == 20


def test_classes_of_ones_own_need_no_list_and_no_ten_pictures(tmp_path):
    write(tmp_path, "a", range(1, 4))
    assert len(open_fss1000(tmp_path, shots=2, sampling="corrected", classes=["a"])) == 3
    with pytest.raises(InputError, match="'a' of fss1000 has 3 pictures; expected at least 4"):
        open_fss1000(tmp_path, shots=3, sampling="corrected", classes=["a"])
    with pytest.raises(InputError, match=r"a.4\.jpg is missing \(14 of 20 files"):
        open_fss1000(tmp_path, shots=1, sampling="published", classes=["a"])
    with pytest.raises(InputError, match="has no class 'b'; expected one of its 1 folders, such as 'a'"):
        open_fss1000(tmp_path, shots=1, sampling="corrected", classes=["b"])
    with pytest.raises(InputError, match="classes names the class 'a' 2 times"):
        open_fss1000(tmp_path, shots=1, sampling="corrected", classes=["a", "a"])


@pytest.mark.parametrize("sampling", ["published", "corrected"])
def test_half_an_archive_is_refused(root, sampling):
    inner = root / "fewshot_data" / "fewshot_data"
    (inner / "abe's_flyingfish" / "10.png").unlink()
    with pytest.raises(InputError, match=r"flyingfish.10\.png is missing \(1 of 60 files"):
        open_fss1000(root, shots=1, sampling=sampling)
    (inner / "whippet").rename(root / "elsewhere")
    with pytest.raises(InputError, match=r"whippet.1\.jpg is missing \(21 of 60 files"):
        open_fss1000(root, shots=1, sampling=sampling)


def test_strange_files(root):
    inner = root / "fewshot_data" / "fewshot_data"
    PIL.Image.new("RGB", (8, 6)).save(inner / "Zebra" / "1.jpeg")
    with pytest.raises(InputError, match=r"holds both 1\.jpeg and 1\.jpg"):
        open_fss1000(root, shots=1, sampling="published")
    (inner / "Zebra" / "1.jpeg").rename(inner / "Zebra" / "11.jpg")
    with pytest.raises(InputError, match=r"11\.jpg has no mask"):
        open_fss1000(root, shots=1, sampling="published")
    PIL.Image.new("L", (8, 6)).save(inner / "Zebra" / "11.png")
    with pytest.raises(InputError, match="'Zebra' of fss1000 has 11 pictures; expected 10"):
        open_fss1000(root, shots=1, sampling="published")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"\xff\xfe", "not text in UTF-8; expected a list of classes"),
        (b"a\nb\na\n", "'a' 2 times"),
    ],
)
def test_bad_lists(tmp_path, text, message):
    (tmp_path / "fss_test_set.txt").write_bytes(text)
    with pytest.raises(InputError, match=message):
        open_fss1000(tmp_path, shots=1, sampling="published")


def test_missing_root_and_list(tmp_path):
    with pytest.raises(InputError, match="no does not exist; expected the folder of FSS-1000"):
        open_fss1000(tmp_path / "no", shots=1, sampling="published")
    with pytest.raises(InputError, match=r"no\.txt cannot be read"):
        open_fss1000(tmp_path, shots=1, sampling="published", test_classes=tmp_path / "no.txt")


def test_real_sample(data_dir):
    root = data_dir / "fss1000_sample"
    episodes = open_fss1000(root, shots=4, sampling="corrected", classes=["eiffel_tower"])
    assert len(episodes) == 5 and episodes.left_out == ()
    for i in range(5):
        assert 0.01 < episodes.episode(0, i).target.read().truth.mask.mean() < 0.1
    with pytest.raises(InputError, match=r"\(4800 of 4800 files"):
        open_fss1000(root, shots=1, sampling="published")
