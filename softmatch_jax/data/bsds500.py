"""BSDS500: photographs that several people cut into regions (Arbelaez et al., PAMI 2011).

A region has no class and is in one photograph only, so there are two uses: each region by itself, for studies
of a point or a box as the prompt; and episodes that ask for a region of one person with the region that
another drew, which measures a method against the agreement of people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from softmatch_jax._checks import InputError
from softmatch_jax._types import IndexedMask, Size
from softmatch_jax.data.episodes import Episode, EpisodeSet, Sample, Sampling, check_episode, checksum
from softmatch_jax.data.files import check_folder, files_by_stem
from softmatch_jax.data.published_pairs import MASKS, PHOTOGRAPHS
from softmatch_jax.data.truths import LabelTruth
from softmatch_jax.imaging import read_labels

_Counts: TypeAlias = np.ndarray[Any, np.dtype[np.intp]]

SPLITS = ("train", "val", "test")
"""Parts of the data set, a folder each."""

_CLASS = "region"


@dataclass(frozen=True)
class BsdsEpisodes:
    """A region of one person is the reference, the same region as the next person drew it the target.

    The picture is the same and the truth is not, so the reference's own mask reaches the overlap of the two
    people and no more. Nothing is drawn: every seed gives the same episodes.

    Attributes:
        name: The data set and its part.
        pairs: For each episode the reference and the target.
    """

    name: str
    pairs: tuple[tuple[Sample, Sample], ...]

    @property
    def sampling(self) -> Sampling:
        """There is no published protocol."""
        return "corrected"

    @property
    def shots(self) -> int:
        """Always 1."""
        return 1

    @property
    def classes(self) -> tuple[str, ...]:
        """The one class ``region``."""
        return (_CLASS,)

    @property
    def raster(self) -> Size | None:
        """``None``: masks are compared at the size of the photographs."""
        return None

    @property
    def digest(self) -> str:
        """Checksum of the name and of the names of all pairs."""
        return checksum([self.name, [[sample.name for sample in pair] for pair in self.pairs]])

    def __len__(self) -> int:
        return len(self.pairs)

    def episode(self, seed: int, index: int) -> Episode:
        """See :meth:`softmatch_jax.data.episodes.EpisodeSet.episode`."""
        check_episode(self, seed, index)
        reference, target = self.pairs[index]
        return Episode(index=index, class_name=_CLASS, target=target, references=(reference,))


def open_bsds500(
    root: Path,
    *,
    shots: int = 1,
    sampling: Sampling = "corrected",
    split: str | None = None,
    min_area: float = 0.005,
    min_overlap: float = 0.5,
) -> EpisodeSet:
    """Opens the regions that two people agree on, see :class:`BsdsEpisodes`. Reads every map once.

    Args:
        root: A folder with ``train``, ``val`` or ``test``; in each ``<id>.jpg`` and for every person, counted
            from 0, ``<id>_<person>.png`` with the number of the region, from 1.
        shots: 1.
        sampling: ``corrected``.
        split: One of ``SPLITS``; by default all that are there.
        min_area: Of a reference, as a fraction of the picture.
        min_overlap: Intersection over union of the two regions, at least.

    Raises:
        InputError: Files are missing or not as described, there is no such region, or the data set has no
            such sampling or shots.
    """
    if sampling == "published":
        raise InputError("bsds500 has no published sampling of episodes; expected corrected.")
    if shots != 1:
        raise InputError(f"shots is {shots}, but a region of bsds500 is in one picture only; expected 1.")
    _check_fraction("min_area", min_area)
    _check_fraction("min_overlap", min_overlap)
    pairs: list[tuple[Sample, Sample]] = []
    for photograph in _photographs(Path(root), split):
        pairs += _agreed(photograph, min_area, min_overlap)
    name = "bsds500" if split is None else f"bsds500 {split}"
    if not pairs:
        raise InputError(
            f"{root} has no region of {min_area:g} of its picture on which two people agree by "
            f"{min_overlap:g}; lower min_area or min_overlap."
        )
    return BsdsEpisodes(name, tuple(pairs))


def open_regions(root: Path, *, split: str | None = None, min_area: float = 0.005) -> tuple[Sample, ...]:
    """Every region of every person in every picture, as a sample of its own. Reads every map once.

    Args:
        root: See :func:`open_bsds500`.
        split: See :func:`open_bsds500`.
        min_area: Of a region, as a fraction of the picture.

    Returns:
        Samples named ``<id>@<person>-<region>``.

    Raises:
        InputError: Files are missing or not as described.
    """
    _check_fraction("min_area", min_area)
    samples: list[Sample] = []
    for photograph in _photographs(Path(root), split):
        for person, path in enumerate(photograph.maps):
            areas = np.bincount(read_regions(path).ravel())
            samples += [photograph.region(person, int(number)) for number in _large(areas, min_area)]
    return tuple(samples)


def read_regions(path: Path) -> IndexedMask:
    """Reads the number of the region of every pixel.

    Returns:
        ``uint8 [H, W]``, from 1.

    Raises:
        InputError: The file cannot be read as an indexed map, or a pixel is in no region.
    """
    regions = read_labels(path)
    if regions.min() < 1:
        raise InputError(
            f"{path} holds the value 0; expected the number of a region, from 1, at every pixel."
        )
    return regions


@dataclass(frozen=True)
class _Photograph:
    """A picture and the maps of its regions, one for each person."""

    name: str
    image: Path
    maps: tuple[Path, ...]

    def region(self, person: int, number: int) -> Sample:
        truth = LabelTruth(self.maps[person], (number,))
        return Sample(name=f"{self.name}@{person}-{number}", image=self.image, truth=truth)


def _agreed(photograph: _Photograph, min_area: float, min_overlap: float) -> Iterator[tuple[Sample, Sample]]:
    """Each large region of each person with the region of the next person that overlaps it most."""
    if len(photograph.maps) < 2:
        raise InputError(f"{photograph.image} has the regions of 1 person; expected those of 2 or more.")
    maps = [read_regions(path) for path in photograph.maps]
    for person in range(len(maps)):
        other = (person + 1) % len(maps)
        if maps[person].shape != maps[other].shape:
            raise InputError(
                f"{photograph.maps[person]} and {photograph.maps[other]} differ in size; expected that of "
                f"{photograph.image}."
            )
        overlaps = _overlaps(maps[person], maps[other])
        for number in _large(np.bincount(maps[person].ravel()), min_area):
            best = int(overlaps[number].argmax())
            if overlaps[number, best] >= min_overlap:
                yield photograph.region(person, int(number)), photograph.region(other, best)


def _overlaps(first: IndexedMask, second: IndexedMask) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Intersection over union of each region of the first map with each of the second, by their numbers."""
    rows, columns = int(first.max()) + 1, int(second.max()) + 1
    both = np.bincount((first.astype(np.intp) * columns + second).ravel(), minlength=rows * columns)
    both = both.reshape(rows, columns)
    union = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
    return both / np.maximum(union, 1)


def _large(areas: _Counts, min_area: float) -> _Counts:
    """Numbers of the regions of at least ``min_area`` of the picture; ``areas`` in pixels by number."""
    return np.flatnonzero(areas >= max(min_area * areas.sum(), 1))


def _photographs(root: Path, split: str | None) -> list[_Photograph]:
    """All pictures of a split, or of all that are there."""
    check_folder(root, f"the folder of BSDS500, which holds {', '.join(SPLITS)}")
    if split is not None and split not in SPLITS:
        raise InputError(f"split is {split!r}; expected one of {', '.join(SPLITS)}.")
    splits = [name for name in SPLITS if (root / name).is_dir()] if split is None else [split]
    if not splits:
        raise InputError(f"{root} holds none of the folders {', '.join(SPLITS)}; expected at least one.")
    found: dict[str, _Photograph] = {}
    for name in splits:
        for photograph in _of_folder(root / name):
            twin = found.setdefault(photograph.name, photograph)
            if twin is not photograph:
                raise InputError(f"{twin.image} and {photograph.image} have one name; remove either.")
    return list(found.values())


def _of_folder(folder: Path) -> Iterator[_Photograph]:
    """The pictures of a folder with their maps, by person."""
    photographs, maps = files_by_stem(folder, PHOTOGRAPHS), files_by_stem(folder, MASKS)
    if not photographs and not maps:
        raise InputError(
            f"{folder} holds no photograph; expected <id>.jpg with maps <id>_0.png, <id>_1.png, ..."
        )
    persons: dict[str, dict[int, Path]] = {name: {} for name in photographs}
    for stem, path in maps.items():
        name, _, number = stem.rpartition("_")
        if name not in persons or not number.isdecimal() or number != str(int(number)):
            raise InputError(f"{path} belongs to no photograph; expected <id>_<person>.png beside <id>.jpg.")
        persons[name][int(number)] = path
    for name, image in photographs.items():
        drawn = persons[name]
        absent = [number for number in range(max(drawn, default=0) + 1) if number not in drawn]
        if absent:
            raise InputError(
                f"{image} has {len(drawn)} maps but not {name}_{absent[0]}.png; expected one for each person "
                "from 0 on (extract the archive again)."
            )
        yield _Photograph(name, image, tuple(drawn[number] for number in sorted(drawn)))


def _check_fraction(name: str, value: float) -> None:
    """Raises ``InputError`` unless ``value`` is in 0..1."""
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {value}; expected a fraction from 0 to 1.")
