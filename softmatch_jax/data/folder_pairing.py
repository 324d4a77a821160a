"""Which file is a mask, and of which picture.

Masks lie in a folder beside the folder of the pictures (``images/`` and ``masks/``, ``train/`` and
``trainannot/``) at the same paths, or beside the pictures (``x.jpg`` and ``x.png``); either way their names
may end in ``_mask`` or the like.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from softmatch_jax._checks import InputError
from softmatch_jax.data.folder_files import FolderFiles
from softmatch_jax.data.folder_lists import check_names, missing

PICTURE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "pictures")
"""Names of folders of pictures, in lower case."""

_MASK_FOLDERS = (
    *("masks", "mask", "annotations", "annotation", "labels", "label", "gt"),
    *("segmentationclass", "segmentationclasspng"),
)
_MASK_ENDINGS = ("_mask", "-mask", "_gt", "-gt", "_label", "-label", "_segmentation")
_SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing", "trainval")


@dataclass(frozen=True)
class Pair:
    """A picture and its mask.

    Attributes:
        image: Path in the folder.
        mask: Path in the folder.
        folders: The folders of the picture, without those that say only that it is one.
    """

    image: PurePosixPath
    mask: PurePosixPath
    folders: tuple[str, ...]


def find_pairs(files: FolderFiles) -> tuple[Pair, ...]:
    """Pairs all the files of a folder.

    Raises:
        InputError: A picture has no mask or several, a mask has no picture or several, or names differ in
            upper and lower case only.
    """
    images, masks = _sort_out(files)
    check_names(files, "picture", [str(path.with_suffix("")) for path in images.values()])
    without_mask = [path for key, path in images.items() if key not in masks]
    if without_mask:
        many = f"pictures without a mask, of {len(images)} in all"
        cure = (
            "expected one for each, such as x.png beside x.jpg, x_mask.png beside x.png, or masks/x.png for "
            "images/x.jpg (add masks, black where the object is absent, or take the pictures away)"
        )
        raise missing(files, many, without_mask, cure)
    without_picture = [path for key, path in masks.items() if key not in images]
    if without_picture:
        cure = "expected one for each at the same place (add the pictures or take the masks away)"
        raise missing(files, "masks without a picture", without_picture, cure)
    pairs = {key: (images[key], masks[key]) for key in images}
    folders = _without_splits([_meaningful(images[key], key) for key in pairs])
    return tuple(Pair(*pair, place) for pair, place in zip(pairs.values(), folders, strict=True))


def find_masks(files: FolderFiles) -> tuple[PurePosixPath, ...]:
    """The masks that have a picture; raises ``InputError`` if one of both is there twice."""
    images, masks = _sort_out(files)
    return tuple(path for key, path in masks.items() if key in images)


_Key = tuple[PurePosixPath, str]  # place of the picture's folder, and the path in it without suffix


def _sort_out(files: FolderFiles) -> tuple[dict[_Key, PurePosixPath], dict[_Key, PurePosixPath]]:
    """Pictures and masks by a common key."""
    parallel = _parallel_folders({folder for path in files.images for folder in path.parents})
    beside: list[PurePosixPath] = []
    images: dict[_Key, list[PurePosixPath]] = defaultdict(list)
    masks: dict[_Key, list[PurePosixPath]] = defaultdict(list)
    sources = set(parallel.values())
    apart: list[tuple[PurePosixPath, PurePosixPath]] = []
    for path in files.images:
        if (mask_folder := _first_of(path, parallel)) is not None:
            apart.append((path, parallel[mask_folder] / path.relative_to(mask_folder)))
        elif (folder := _first_of(path, sources)) is not None:
            images[_key(path, folder)].append(path)
        else:
            beside.append(path)
    for path, place in apart:
        folder = _first_of(place, sources)
        assert folder is not None
        masks[_matching(_key(place, folder), images)].append(path)
    _sort_beside(beside, images, masks)
    return _single(files, "pictures", images), _single(files, "masks", masks)


def _parallel_folders(folders: Collection[PurePosixPath]) -> dict[PurePosixPath, PurePosixPath]:
    """Folders of masks, each with its folder of pictures."""
    parallel: dict[PurePosixPath, PurePosixPath] = {}
    inside: dict[PurePosixPath, dict[str, PurePosixPath]] = defaultdict(dict)
    for folder in folders:
        inside[folder.parent][folder.name.lower()] = folder
    for folder in sorted(folders, key=str):
        name = folder.name.lower()
        if not name.endswith("annot") and name not in _MASK_FOLDERS:
            continue
        siblings = inside[folder.parent]
        if name.endswith("annot") and name.removesuffix("annot") in siblings:
            parallel[folder] = siblings[name.removesuffix("annot")]
        else:
            found = [siblings[picture] for picture in PICTURE_FOLDERS if picture in siblings]
            if len(found) > 1:
                raise InputError(
                    f"Both {found[0]} and {found[1]} could be the pictures of the masks in {folder}; "
                    "expected one such folder beside it (rename or move the other)."
                )
            if found:
                parallel[folder] = found[0]
    return parallel


def _sort_beside(
    paths: Sequence[PurePosixPath],
    images: dict[_Key, list[PurePosixPath]],
    masks: dict[_Key, list[PurePosixPath]],
) -> None:
    """Adds files that lie together: ``x_mask.png`` beside ``x``, or ``x.png`` beside ``x.jpg``."""
    here = PurePosixPath()
    stems: dict[_Key, list[PurePosixPath]] = defaultdict(list)
    for path in paths:
        stems[_key(path, here)].append(path)
    for key, group in stems.items():
        base = _without_ending(key)
        if base is not None and base in stems:
            masks[base].extend(group)
            continue
        pngs = [path for path in group if path.suffix.lower() == ".png"]
        is_pair = len(pngs) == 1 and len(group) > 1
        masks[key].extend(pngs if is_pair else [])
        images[key].extend(path for path in group if not is_pair or path not in pngs)


def _single(
    files: FolderFiles, kind: str, found: dict[_Key, list[PurePosixPath]]
) -> dict[_Key, PurePosixPath]:
    for paths in found.values():
        if len(paths) > 1:
            raise InputError(
                f"{paths[0]} and {paths[1]} in {files.root} are {kind} of one name; expected one picture and "
                "one mask (rename or remove the other)."
            )
    return {key: paths[0] for key, paths in found.items() if paths}


def _matching(key: _Key, images: Collection[_Key]) -> _Key:
    """The key of a mask's picture: without its ending, if only so there is a picture."""
    base = _without_ending(key)
    return base if key not in images and base in images and base is not None else key


def _without_ending(key: _Key) -> _Key | None:
    folder, name = key
    for ending in _MASK_ENDINGS:
        if name.lower().endswith(ending):
            return folder, name[: -len(ending)]
    return None


def _key(path: PurePosixPath, folder: PurePosixPath) -> _Key:
    return folder, str(path.relative_to(folder).with_suffix(""))


def _first_of(path: PurePosixPath, folders: Collection[PurePosixPath]) -> PurePosixPath | None:
    """The outermost of ``folders`` that holds ``path``."""
    return next((folder for folder in reversed(path.parents) if folder in folders), None)


def _meaningful(image: PurePosixPath, key: _Key) -> tuple[str, ...]:
    """The folders of a picture without the one that is called ``images``."""
    folder, _ = key
    outer = folder.parts[:-1] if folder.name.lower() in PICTURE_FOLDERS else folder.parts
    return outer + image.relative_to(folder).parts[:-1]


def _without_splits(places: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Takes ``train``, ``val`` and the like away, if all pictures lie in such folders: else it is a class."""
    if all(place and place[0].lower() in _SPLITS for place in places):
        return [place[1:] for place in places]
    return places
