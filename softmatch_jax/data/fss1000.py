"""FSS-1000: a thousand classes of ten pictures each, of which 240 are for tests (arXiv 1907.12347)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from softmatch_jax._checks import InputError
from softmatch_jax.data.corrected import CorrectedEpisodes, leave_out_empty
from softmatch_jax.data.episodes import (
    ClassLists,
    Episode,
    EpisodeSet,
    OfLists,
    Sample,
    Sampling,
    check_episode,
)
from softmatch_jax.data.files import check_folder, list_folders, read_text
from softmatch_jax.data.fss1000_draws import ORDER, PICTURES, published_references
from softmatch_jax.data.published_pairs import list_pairs
from softmatch_jax.data.truths import GreyTruth

_RASTER = (518, 518)  # Matcher's; 37 patches of 14 pixels. GF-SAM has 1024 x 1024.
_THRESHOLD = 128
# Where class folders lie: in the archive, once more in the folder it was extracted to, in Matcher's layout.
_CLASS_ROOTS = ("fewshot_data/fewshot_data", "fewshot_data", "data", ".")
_CLASS_LISTS = ("fss_test_set.txt", "splits/test.txt")


@dataclass(frozen=True)
class Fss1000Episodes(OfLists):
    """The protocol of HSNet, Matcher and GF-SAM, with the references that their code draws.

    Every picture of every class is a target once: 2400 episodes of 240 classes, classes sorted, the pictures
    of a class in the order 1, 10, 2, ... See :mod:`softmatch_jax.data.fss1000_draws`.

    Attributes:
        lists: The ten pictures of each class.
        shots: References for each target; some may be the same picture.
    """

    lists: ClassLists
    shots: int

    def __post_init__(self) -> None:
        self.lists.check_shots(self.shots, repeated=True)
        for name, samples in self.lists.samples.items():
            if len(samples) != PICTURES:
                raise InputError(
                    f"The class {name!r} of {self.name} has {len(samples)} pictures; expected {PICTURES} in "
                    "published sampling (extract the archive again, or use corrected sampling)."
                )

    @property
    def sampling(self) -> Sampling:
        """How references are drawn."""
        return "published"

    def __len__(self) -> int:
        return PICTURES * len(self.lists.samples)

    def episode(self, seed: int, index: int) -> Episode:
        """See :meth:`softmatch_jax.data.episodes.EpisodeSet.episode`; the papers have seed 0.

        Raises:
            InputError: As there, or ``seed`` is 2**32 or more.
        """
        check_episode(self, seed, index)
        position, place = divmod(index, PICTURES)
        name = self.classes[position]
        samples = self.lists.samples[name]
        numbers = published_references(seed, self.shots, len(self.classes))[index]
        references = tuple(samples[ORDER.index(number)] for number in numbers)
        return Episode(index=index, class_name=name, target=samples[place], references=references)


def open_fss1000(
    root: Path,
    *,
    shots: int,
    sampling: Sampling,
    test_classes: Path | None = None,
    classes: Sequence[str] | None = None,
) -> EpisodeSet:
    """Opens the test classes of FSS-1000.

    In corrected sampling pictures with an empty mask are left out, for which every mask is read once.

    Args:
        root: The folder of ``<class>/N.jpg`` and ``<class>/N.png``, or one that holds it as ``fewshot_data``
            or ``data``.
        shots: References for each target.
        sampling: ``published`` for the protocol of Matcher, see :class:`Fss1000Episodes`.
        test_classes: A file of one class on each line; by default ``fss_test_set.txt`` or ``splits/test.txt``
            in ``root`` or beside it. All ten pictures of every class must be there.
        classes: Take these classes instead of those of a file. In corrected sampling they may have any number
            of pictures; in published sampling references are drawn as if these were all there are.

    Raises:
        InputError: The list or something on it is missing, or a class has too few pictures.
    """
    root = Path(root)
    check_folder(root, "the folder of FSS-1000, which holds a folder for each class")
    folder = next(root / name for name in _CLASS_ROOTS if (root / name).is_dir())
    names = _distinct("classes", classes) if classes else _listed(_class_list(root, folder, test_classes))
    _check_known(folder, classes or ())
    if sampling == "published" or not classes:
        _check_whole(folder, names)
    raster = _RASTER if sampling == "published" else None
    samples = {name: _samples(folder, name) for name in sorted(names)}
    lists = ClassLists(name="fss1000", samples=samples, raster=raster)
    if sampling == "published":
        return Fss1000Episodes(lists, shots)
    lists, empty = leave_out_empty(lists)
    return CorrectedEpisodes(lists, shots, left_out=empty)


def _samples(folder: Path, name: str) -> tuple[Sample, ...]:
    """The pictures of a class in the order of their names."""
    where = folder / name
    return tuple(
        Sample(name=f"{name}/{pair.stem}", image=pair.image, truth=GreyTruth(pair.mask, _THRESHOLD))
        for pair in list_pairs(where, where)
    )


def _class_list(root: Path, folder: Path, given: Path | None) -> Path:
    """The file that lists the test classes."""
    if given is not None:
        return Path(given)
    near = (root, folder, root.resolve().parent)
    for path in (place / name for place in near for name in _CLASS_LISTS):
        if path.is_file():
            return path
    raise InputError(
        f"{root} has no list of the test classes; expected {root / _CLASS_LISTS[0]} (it is in the repository "
        f"HKUSTCV/FSS-1000 on GitHub) or {root / _CLASS_LISTS[1]} (aim-uofa/Matcher), or name the file "
        "(--test-classes) or the classes."
    )


def _listed(path: Path) -> tuple[str, ...]:
    """The classes in a file of one on each line.

    HSNet's code drops what follows the last line break; here a last line without one counts too.
    """
    text = read_text(path, "a list of classes, one on each line")
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise InputError(f"{path} is empty; expected one class on each line.")
    return _distinct(str(path), names)


def _distinct(where: str, names: Sequence[str]) -> tuple[str, ...]:
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise InputError(f"{where} names the class {name!r} {count} times; expected once.")
    return tuple(names)


def _check_known(folder: Path, classes: Sequence[str]) -> None:
    """Raises ``InputError`` unless every class has a folder."""
    there = list_folders(folder)
    for name in classes:
        if name not in there:
            raise InputError(
                f"{folder} has no class {name!r}; expected one of its {len(there)} folders, such as "
                f"{', '.join(map(repr, there[:5]))}."
            )


def _check_whole(folder: Path, names: Sequence[str]) -> None:
    """Raises ``InputError`` unless every class has ten pictures and masks: half an archive is no test."""
    files = [f"{number}.{suffix}" for number in range(1, PICTURES + 1) for suffix in ("jpg", "png")]
    missing: list[Path] = []
    for name in names:
        where = folder / name
        there = {path.name for path in where.iterdir()} if where.is_dir() else set()
        missing += [where / file for file in files if file not in there]
    if missing:
        raise InputError(
            f"{missing[0]} is missing ({len(missing)} of {len(files) * len(names)} files of the test classes "
            f"are); expected 1.jpg to {PICTURES}.jpg and masks 1.png to {PICTURES}.png for each class "
            "(extract the archive again, or name the classes to take)."
        )
