"""Where pictures with regions come from; nothing but lists, and masks once, is read before they are used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from softmatch_jax._checks import InputError
from softmatch_jax.data.bsds500 import open_regions
from softmatch_jax.data.episodes import ClassLists, Sample
from softmatch_jax.data.files import check_folder, files_by_stem
from softmatch_jax.data.folder import open_folder
from softmatch_jax.data.folder_files import list_files
from softmatch_jax.data.folder_layout import recognise
from softmatch_jax.data.published_pairs import MASKS
from softmatch_jax.data.regions import ClassRegions, DrawnRegions, ObjectRegions, RegionPicture
from softmatch_jax.imaging import IMAGE_SUFFIXES, image_size

MIN_AREA = 16
"""Pixels of a connected part of a mask, below which it is taken for a slip of the annotator."""

CAMVID_VOID = 11
"""The value of CamVid's maps that is no class."""

_EVERY_LEVEL: dict[str, Any] = {"layout": "pairs", "threshold": 1}

_CAMVID_SPLITS = ("train", "val", "test")


def open_bsds500_regions(root: Path, split: str | None = None) -> tuple[RegionPicture, ...]:
    """The pictures of BSDS500, with one label map for each person. Reads every map once.

    Args:
        root: See :func:`softmatch_jax.data.bsds500.open_bsds500`.
        split: ``train``, ``val`` or ``test``; by default all that are there.

    Raises:
        InputError: Files are missing or not as described.
    """
    maps: dict[Path, dict[Path, None]] = defaultdict(dict)
    for sample in open_regions(root, split=split, min_area=0):
        maps[sample.image][sample.truth.path] = None
    return tuple(
        RegionPicture(name=f"{image.parent.name}/{image.stem}", image=image, maps=DrawnRegions(tuple(paths)))
        for image, paths in maps.items()
    )


def open_camvid_regions(
    root: Path, split: str | None = None, *, void: Sequence[int] = (CAMVID_VOID,), min_area: int = MIN_AREA
) -> tuple[RegionPicture, ...]:
    """Street scenes in the layout of CamVid: connected parts of every class, among them that of value 0.

    Args:
        root: A folder with ``train/`` and ``trainannot/``, ``val/`` and ``valannot/``, or the like.
        split: ``train``, ``val`` or ``test``; by default all that are there.
        void: Values that are no class.
        min_area: Pixels of a part, at least.

    Raises:
        InputError: Files are missing, or no map has a region that is large enough.
    """
    check_folder(root, "the folder of CamVid, which holds train and trainannot")
    _check_min_area(min_area)
    if split is not None and split not in _CAMVID_SPLITS:
        raise InputError(f"split is {split!r}; expected one of {', '.join(_CAMVID_SPLITS)}.")
    there = [name for name in _CAMVID_SPLITS if (root / f"{name}annot").is_dir()]
    if not there and split is None:
        raise InputError(f"{root} holds no folder trainannot, valannot or testannot; expected at least one.")
    pictures = []
    for name in there if split is None else [split]:
        images, maps = files_by_stem(root / name, IMAGE_SUFFIXES), files_by_stem(root / f"{name}annot", MASKS)
        for stem in sorted(images.keys() | maps.keys()):
            if stem not in images or stem not in maps:
                raise InputError(
                    f"{root} has {stem} in only one of {name} and {name}annot; expected a picture and "
                    "its map (add the other, or take it away)."
                )
            regions = ClassRegions(maps[stem], tuple(void), min_area)
            pictures.append(RegionPicture(name=f"{name}/{stem}", image=images[stem], maps=regions))
    return _with_regions(root, pictures, min_area)


def open_folder_regions(
    root: Path, split: str | None = None, *, min_area: int = MIN_AREA, **reading: Any
) -> tuple[RegionPicture, ...]:
    """A user's own folder: connected parts of the masks of all classes. Reads every mask once.

    Args:
        root: See :func:`softmatch_jax.data.folder.open_folder`, which finds out the layout.
        split: Take the pictures in folders of this name only.
        min_area: Pixels of a part, at least.
        **reading: Options of ``open_folder``, such as ``layout`` and ``threshold``. Without any, every level
            of a grey mask but 0 is object.

    Raises:
        InputError: As ``open_folder``; the split has no picture; or no mask has a region large enough.
    """
    _check_min_area(min_area)
    if not reading and root.is_dir() and _is_pairs(root):
        reading = _EVERY_LEVEL
    lists = open_folder(root, **reading)
    truths = _by_picture(lists)
    if split is not None:
        truths = {key: found for key, found in truths.items() if split in PurePosixPath(key).parts[:-1]}
        if not truths:
            raise InputError(
                f"{root} has no annotated picture in a folder called {split!r}; expected some (check the "
                "split, or leave it out)."
            )
    pictures = [
        RegionPicture(
            name=name,
            image=samples[0].image,
            maps=ObjectRegions(tuple(sample.truth for sample in samples), min_area),
        )
        for name, samples in truths.items()
    ]
    return _with_regions(root, pictures, min_area)


def open_mask_regions(
    root: Path, split: str | None = None, *, min_area: int = MIN_AREA
) -> tuple[RegionPicture, ...]:
    """A folder of pictures with masks that could be taken for maps of classes: every value but 0 is object.

    Raises:
        InputError: As :func:`open_folder_regions`.
    """
    return open_folder_regions(root, split, min_area=min_area, **_EVERY_LEVEL)


KINDS: dict[str, Callable[[Path, str | None], tuple[RegionPicture, ...]]] = {
    "bsds500": open_bsds500_regions,
    "camvid": open_camvid_regions,
    "folder": open_folder_regions,
    "masks": open_mask_regions,
}
"""What :func:`open_region_pictures` knows: the published layouts, a folder whose layout is found out, and a
folder of masks of which every value but 0 is object."""


def open_region_pictures(kind: str, root: Path, split: str | None = None) -> tuple[RegionPicture, ...]:
    """The pictures of a data set of regions.

    Args:
        kind: One of ``KINDS``.
        root: Its folder.
        split: A part of it; by default all.

    Raises:
        InputError: The kind is unknown, or as the opener of that kind.
    """
    if kind not in KINDS:
        raise InputError(f"{kind!r} is no kind of data with regions; expected one of {', '.join(KINDS)}.")
    return KINDS[kind](Path(root), split)


def _is_pairs(root: Path) -> bool:
    return recognise(list_files(root), indexed=False, threshold=False) == "pairs"


def _by_picture(lists: ClassLists) -> dict[str, list[Sample]]:
    """The samples of all classes, by picture, in the order of their names."""
    found: dict[str, list[Sample]] = defaultdict(list)
    for samples in lists.samples.values():
        for sample in samples:
            found[sample.name].append(sample)
    return dict(sorted(found.items()))


def _with_regions(root: Path, pictures: Sequence[RegionPicture], min_area: int) -> tuple[RegionPicture, ...]:
    """Raises ``InputError`` unless there are pictures, and a region in one of them."""
    if not pictures:
        raise InputError(f"{root} has no picture with a map; expected some (check the path).")
    for picture in pictures:
        if any(labels.any() for labels in picture.maps.read(image_size(picture.image))):
            return tuple(pictures)
    raise InputError(
        f"The masks of the {len(pictures)} pictures in {root} have no connected part of {min_area} pixels or "
        "more; expected some (check the masks, or lower min_area)."
    )


def _check_min_area(min_area: int) -> None:
    if min_area < 1:
        raise InputError(f"min_area is {min_area}; expected at least 1 pixel.")
