"""Pairs of a reference and a target: of two pictures that show a class, and of two views of one."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage

from softmatch_jax._checks import InputError
from softmatch_jax.data.annotating import TrainingAnnotator
from softmatch_jax.data.episodes import ClassLists, Sample
from softmatch_jax.data.region_cache import RegionCache
from softmatch_jax.data.regions import RegionPicture
from softmatch_jax.data.training_episodes import TrainingEpisodes
from softmatch_jax.data.truths import LabelTruth
from softmatch_jax.imaging import fit_longest
from softmatch_jax.training.prompt_config import ViewConfig
from softmatch_jax.training.prompt_pairs import EpisodePairs, ViewPairs

COLOURS = np.array(
    [[0, 0, 0], [200, 60, 60], [60, 200, 60], [60, 60, 200], [190, 190, 60], [60, 190, 190]], np.uint8
)


@dataclass(frozen=True)
class Given:
    """Label maps that are not in a file; compares by its name."""

    reading: str
    maps: np.ndarray = field(compare=False)
    path: Path = Path("given.png")

    def read(self, size):
        return tuple(self.maps)


def stripes(size):
    """Five regions, with a border that is in none."""
    labels = np.zeros(size, np.uint16)
    middle = size[0] // 2
    for k in range(3):
        labels[2:middle, 2 + k * size[1] // 3 : (k + 1) * size[1] // 3] = k + 1
    labels[middle:-2, 2 : size[1] // 2], labels[middle:-2, size[1] // 2 : -2] = 4, 5
    return labels


def region_picture(folder, name, size):
    labels = stripes(size)
    PIL.Image.fromarray(COLOURS[labels]).save(folder / f"{name}.png")
    return RegionPicture(name=name, image=folder / f"{name}.png", maps=Given(name, labels[None]))


@pytest.fixture
def pictures(tmp_path):
    sizes = [(60, 80), (80, 60), (64, 64)]
    return tuple(region_picture(tmp_path, f"p{k}", size) for k, size in enumerate(sizes))


@pytest.fixture
def views(pictures):
    return ViewPairs("stripes", pictures, ViewConfig(side=96))


def assert_same(first, second):
    for a, b in ((first.reference, second.reference), (first.target, second.target)):
        assert a.key == b.key
        np.testing.assert_array_equal(a.mask, b.mask)
        np.testing.assert_array_equal(a.image(), b.image())


def test_views_depend_on_seed_and_index_alone(views, pictures):
    first = [views.pair(5, index) for index in range(6)]
    other = ViewPairs("stripes", pictures, ViewConfig(side=96), cache=RegionCache(most_bytes=0))
    np.random.seed(3)
    for index in (4, 0, 5, 4):
        assert_same(other.pair(5, index), first[index])
    assert len({pair.reference.key + pair.target.key for pair in first}) > 2
    keys = [[pair.reference.key + pair.target.key for pair in first]]
    keys.append([pair.reference.key + pair.target.key for pair in (views.pair(6, k) for k in range(6))])
    assert keys[0] != keys[1]


def test_both_views_show_the_region(pictures, monkeypatch):
    """Either mask holds, off its edge, the region's own colour alone, and nearly all of it."""
    monkeypatch.setattr("softmatch_jax.training.prompt_pairs.recolour", lambda rng, image, colours: image)
    views = ViewPairs("stripes", pictures, ViewConfig(side=96, min_area=0.05))
    for index in range(15):
        pair = views.pair(1, index)
        assert pair.reference.key != pair.target.key
        assert pair.reference.key.partition("#")[0] == pair.target.key.partition("#")[0]
        regions = set()
        for shown in (pair.reference, pair.target):
            image = shown.image()
            assert shown.mask.shape == image.shape[:2] and max(image.shape) == 96
            assert 0.05 <= shown.mask.mean() <= 0.6
            inner = scipy.ndimage.binary_erosion(shown.mask, iterations=3)
            colours = np.unique(image[inner], axis=0)
            assert len(colours) == 1, index
            regions.add(int(np.flatnonzero((colours[0] == COLOURS).all(axis=1))[0]))
            same = (np.abs(image.astype(int) - colours[0]) < 3).all(axis=-1)
            assert np.mean(shown.mask[same]) > 0.99, index
        assert len(regions) == 1


def test_the_first_view_is_the_whole_picture(views, pictures):
    seen = {}
    for index in range(30):
        pair = views.pair(2, index)
        for shown in (pair.reference, pair.target):
            seen[shown.key] = shown
    assert {key.rpartition("#")[2] for key in seen} == {"0", "1", "2", "3"}
    for picture in pictures:
        shown = seen[f"{os.path.realpath(picture.image)}#0"].image()
        image, _ = picture.read()
        assert shown.shape[:2] == fit_longest(image.shape[:2], 96)
        resized = PIL.Image.fromarray(image).resize(shown.shape[1::-1], PIL.Image.Resampling.BILINEAR)
        assert np.mean(np.abs(np.asarray(resized).astype(int) - shown)) < 2


def test_views_that_share_nothing(pictures):
    with pytest.raises(InputError, match="32 pairs of views of stripes have no region in common"):
        ViewPairs("stripes", pictures, ViewConfig(side=96, min_area=0.9, max_area=1.0)).pair(0, 0)
    with pytest.raises(InputError, match="'nothing' has no picture"):
        ViewPairs("nothing", ())


def test_regions_without_pixels_do_not_count(tmp_path):
    """No least area asks for no region that a view does not show."""
    labels = np.zeros((64, 64), np.uint16)
    labels[:10, :10] = 900
    PIL.Image.fromarray(COLOURS[np.minimum(labels, 1)]).save(tmp_path / "p.png")
    maps = Given("corner", labels[None])
    one = RegionPicture(name="p", image=tmp_path / "p.png", maps=maps)
    pairs = ViewPairs("corner", (one,), ViewConfig(side=64, min_area=0.0))
    assert all(pairs.pair(0, index).target.mask.any() for index in range(10))


def test_digest_of_views(views, pictures):
    def digest(name="stripes", pictures=pictures, config=None, annotator=None, cache=None):
        return ViewPairs(name, pictures, config or ViewConfig(side=96), annotator, cache).digest

    others = [
        digest(name="other"),
        digest(pictures=pictures[:2]),
        digest(
            pictures=(replace(pictures[0], maps=replace(pictures[0].maps, reading="else")), *pictures[1:])
        ),
        digest(annotator=TrainingAnnotator(kind="box")),
        digest(annotator=TrainingAnnotator(mode="published")),
        digest(cache=RegionCache(longest=50)),
        *(
            digest(config=replace(ViewConfig(side=96), **change))
            for change in ({"views": 3}, {"side": 64}, {"min_area": 0.02}, {"max_area": 0.5})
        ),
    ]
    assert digest(cache=RegionCache(most_bytes=1)) == views.digest
    assert len({views.digest, *others}) == len(others) + 1


def episodes(folder, name="things", size=(30, 40)):
    """Four pictures of the classes 1 and 2; void is 255."""
    samples = {"one": [], "two": []}
    for k in range(4):
        labels = np.zeros(size, np.uint8)
        labels[4:16, 4 : 16 + k], labels[20:28, 10:30], labels[0, :] = 1, 2, 255
        image = np.full((*size, 3), 20 * k, np.uint8)
        PIL.Image.fromarray(image).save(folder / f"{k}.png")
        PIL.Image.fromarray(labels).save(folder / f"{k}_labels.png")
        for number, class_name in enumerate(samples, 1):
            truth = LabelTruth(folder / f"{k}_labels.png", (number,), (255,))
            samples[class_name].append(Sample(name=str(k), image=folder / f"{k}.png", truth=truth))
    lists = ClassLists(name=name, samples={key: tuple(value) for key, value in samples.items()})
    return TrainingEpisodes(lists)


def test_episodes_give_two_pictures_of_a_class(tmp_path):
    stream = episodes(tmp_path)
    pairs = EpisodePairs(stream)
    assert len(pairs) == 4 and pairs.name == "things"
    for index in (7, 0, 3, 7):
        pair, episode = pairs.pair(1, index), stream.episode(1, index)
        assert_same(pair, EpisodePairs(episodes(tmp_path)).pair(1, index))
        samples = (episode.references[0], episode.target)
        assert pair.reference.key != pair.target.key
        for shown, sample in zip((pair.reference, pair.target), samples, strict=True):
            read = sample.read()
            assert shown.key == os.path.realpath(sample.image)
            np.testing.assert_array_equal(shown.mask, read.truth.mask)
            np.testing.assert_array_equal(shown.image(), read.image)


def test_annotations_of_episodes(tmp_path):
    stream = episodes(tmp_path)
    for kind in ("point", "box", "scribble"):
        annotator = TrainingAnnotator(kind=kind)
        pair, episode = EpisodePairs(stream, annotator).pair(0, 2), stream.episode(0, 2)
        truth = episode.references[0].read().truth
        np.testing.assert_array_equal(pair.reference.mask, annotator(truth, seed=0, index=2))
        np.testing.assert_array_equal(pair.target.mask, episode.target.read().truth.mask)
    squashed = EpisodePairs(stream, TrainingAnnotator(mode="published", raster=(512, 512))).pair(0, 2)
    assert squashed.reference.mask.shape == (512, 512) and squashed.target.mask.shape == (30, 40)
    digests = {
        EpisodePairs(stream, annotator).digest
        for annotator in (
            None,
            TrainingAnnotator(kind="box"),
            TrainingAnnotator(jitter=0.2),
            TrainingAnnotator(raster=(512, 512)),
        )
    }
    assert len(digests) == 4


def test_annotations_that_miss(tmp_path, monkeypatch):
    """Of a fixed way the next attempt is taken; published training goes on with nothing marked."""
    monkeypatch.setattr(TrainingAnnotator, "__call__", lambda self, truth, **where: np.zeros((30, 40), bool))
    published = EpisodePairs(episodes(tmp_path), TrainingAnnotator(mode="published", kind="scribble"))
    assert not published.pair(0, 0).reference.mask.any()
    with pytest.raises(InputError, match="16 episodes drawn from things"):
        EpisodePairs(episodes(tmp_path), TrainingAnnotator(kind="scribble")).pair(0, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"views": 1}, "views is 1; expected at least 2"),
        ({"side": 0}, "side is 0"),
        ({"min_area": 0.7}, "min_area is 0.7 and max_area 0.6"),
    ],
)
def test_bad_view_settings(change, said):
    with pytest.raises(InputError, match=said):
        ViewConfig(**change)
