"""PerSeg: single objects, each in a few photographs; the data set of PerSAM (arXiv 2305.03048)."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from softmatch_jax._checks import InputError
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.data.episodes import (
    ClassLists,
    Episode,
    EpisodeSet,
    OfLists,
    Sample,
    Sampling,
    check_episode,
)
from softmatch_jax.data.files import check_folder, list_folders
from softmatch_jax.data.published_pairs import Pair, list_pairs
from softmatch_jax.data.truths import GreyTruth

_REFERENCE = "00"  # the picture of every object that PerSAM learns it from


@dataclass(frozen=True)
class PersegEpisodes(OfLists):
    """The protocol of PerSAM: picture ``00`` of an object is the reference, every other one a target.

    Nothing is drawn, so every seed gives the same episodes. PerSAM predicts the mask of ``00`` too but does
    not count it.

    Attributes:
        lists: The pictures of each object, ``00`` first.
    """

    lists: ClassLists
    _ends: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.lists.check_shots(self.shots)
        for name, samples in self.lists.samples.items():
            if samples[0].name != _sample_name(name, _REFERENCE):
                raise InputError(
                    f"The object {name!r} has no picture {_REFERENCE}, the reference in published sampling; "
                    "extract the archive again, leave the object out (classes), or use corrected sampling."
                )
        ends = itertools.accumulate(len(samples) - 1 for samples in self.lists.samples.values())
        object.__setattr__(self, "_ends", tuple(ends))

    @property
    def sampling(self) -> Sampling:
        """How references are drawn."""
        return "published"

    @property
    def shots(self) -> int:
        """Always 1."""
        return 1

    def __len__(self) -> int:
        return self._ends[-1]

    def episode(self, seed: int, index: int) -> Episode:
        """See :meth:`softmatch_jax.data.episodes.EpisodeSet.episode`."""
        check_episode(self, seed, index)
        position = bisect.bisect_right(self._ends, index)
        name = self.classes[position]
        samples = self.lists.samples[name]
        target = samples[index - self._ends[position] + len(samples)]
        return Episode(index=index, class_name=name, target=target, references=samples[:1])


def open_perseg(
    root: Path, *, shots: int = 1, sampling: Sampling = "published", classes: Sequence[str] | None = None
) -> EpisodeSet:
    """Opens PerSeg, either as released or with photographs and masks side by side.

    Args:
        root: A folder with ``Images/<object>/NN.jpg`` and ``Annotations/<object>/NN.png``, or with
            ``<object>/NN.jpg`` and ``<object>/NN.png``.
        shots: References for each target; 1 in published sampling.
        sampling: ``published`` for the protocol of PerSAM, see :class:`PersegEpisodes`.
        classes: The objects to take; by default all.

    Raises:
        InputError: Something is missing under ``root``, ``classes`` names an unknown object, or the sampling
            has no such episodes.
    """
    images, masks = _folders(Path(root))
    objects = list_folders(images)
    if not objects:
        raise InputError(f"{images} holds no folder; expected one for each object of PerSeg, such as cat.")
    lists = ClassLists(
        name="perseg",
        samples={name: _samples(name, list_pairs(images / name, masks / name)) for name in objects},
    )
    if classes is not None:
        lists = lists.only(classes)
    if sampling == "corrected":
        return CorrectedEpisodes(lists, shots)
    if shots != 1:
        raise InputError(
            f"shots is {shots}, but PerSAM's protocol has one reference for each object; expected 1 shot, or "
            "corrected sampling."
        )
    return PersegEpisodes(lists)


def _folders(root: Path) -> tuple[Path, Path]:
    """The folders that hold the objects' photographs and masks."""
    check_folder(root, "the folder of PerSeg, with Images and Annotations or with one folder for each object")
    images, masks = root / "Images", root / "Annotations"
    if not images.is_dir() and not masks.is_dir():
        return root, root
    for folder, objects in ((images, masks), (masks, images)):
        check_folder(folder, f"it beside {objects.name}, as the archive has it")
    return images, masks


def _samples(name: str, pairs: Sequence[Pair]) -> tuple[Sample, ...]:
    # The masks are palettes or colours on black, so any value above 0 is object.
    return tuple(
        Sample(name=_sample_name(name, pair.stem), image=pair.image, truth=GreyTruth(pair.mask, threshold=1))
        for pair in pairs
    )


def _sample_name(name: str, stem: str) -> str:
    return f"{name}/{stem}"
