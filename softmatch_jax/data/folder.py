"""A user's own pictures and masks, in the layouts that people and labelling tools leave behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from softmatch_jax._checks import InputError
from softmatch_jax.data.episodes import ClassLists
from softmatch_jax.data.folder_coco import read_coco
from softmatch_jax.data.folder_files import FolderFiles, list_files
from softmatch_jax.data.folder_labelme import read_labelme
from softmatch_jax.data.folder_labels import read_label_maps
from softmatch_jax.data.folder_layout import LAYOUTS, Layout, recognise
from softmatch_jax.data.folder_lists import Wanted, check_options
from softmatch_jax.data.folder_pairs import read_pairs
from softmatch_jax.data.folder_yolo import read_yolo


def open_folder(
    root: Path,
    *,
    layout: Layout | None = None,
    classes: Sequence[str] | None = None,
    void: Sequence[int] = (),
    labels: Mapping[int, str] | None = None,
    min_area: int = 1,
    threshold: int | None = None,
) -> ClassLists:
    """Reads a folder of pictures with masks, all of which are looked at once.

    - ``pairs``: ``x.png`` beside ``x.jpg``, ``x_mask.png`` beside ``x.png``, or ``masks/`` beside
      ``images/``; a sub-folder for each class, or one class that has the name of the folder.
    - ``indexed``: maps of class indices in the same places, or ``trainannot/`` beside ``train/``; names from
      ``labels``, or from ``classes.txt``, ``labels.txt`` or ``classes.json`` in the folder (a name a line,
      the first that of value 0), else ``class 1`` and so on. Value 0 is background unless named otherwise,
      and 255 is void.
    - ``coco``: one JSON file in the folder or in ``annotations/``; or ``root`` is that file.
    - ``labelme``: a JSON file for each picture.
    - ``yolo``: ``labels/x.txt`` for ``images/x.jpg``, with ``data.yaml`` or ``classes.txt``.

    Every picture of ``pairs`` and ``indexed`` needs a mask; the other layouts pass over pictures without
    annotations. A picture belongs to a class if it shows enough of it.

    Args:
        root: The folder, or the JSON file of COCO.
        layout: How the masks are kept; ``None`` to find out.
        classes: Those to take; all by default.
        void: Values of maps that do not count, besides 255.
        labels: Names of the values of maps.
        min_area: Pixels of a class that a picture must show to be one of the class.
        threshold: Values of a binary mask from this one on are object; needed where masks have soft edges.

    Returns:
        For each class its pictures, sorted by path. A sample's name is the picture's path without suffix.

    Raises:
        InputError: The folder does not have such a layout, or several; files are missing, damaged, or of
            different size; names collide; an option does not suit the layout; a class is unknown; or nothing
            is annotated.
    """
    root = Path(root)
    if layout is not None and layout not in LAYOUTS:
        raise InputError(f"layout is {layout!r}; expected one of {', '.join(LAYOUTS)}.")
    if min_area < 1:
        raise InputError(f"min_area is {min_area}; expected at least 1 pixel.")
    if classes is not None and not classes:
        raise InputError("classes is empty; expected the names of some, or None for all.")
    wanted = Wanted(classes=classes, min_area=min_area)
    mapped = {"void": void, "labels": labels}
    if root.suffix.lower() == ".json" and root.is_file():
        if layout not in (None, "coco"):
            raise InputError(f"{root} is a file; expected a folder for the layout {layout!r}.")
        check_options("coco", **mapped, threshold=threshold)
        return read_coco(_files_about(root), wanted, root)
    files = list_files(root)
    layout = layout or recognise(files, indexed=bool(void or labels), threshold=threshold is not None)
    if layout == "pairs":
        check_options(layout, **mapped)
        return read_pairs(files, wanted, threshold)
    check_options(layout, threshold=threshold)
    if layout == "indexed":
        return read_label_maps(files, wanted, void, labels)
    check_options(layout, **mapped)
    return {"coco": read_coco, "labelme": read_labelme, "yolo": read_yolo}[layout](files, wanted)


def _files_about(path: Path) -> FolderFiles:
    """The folder that a JSON file of COCO is about: its own, or the one above ``annotations``."""
    folder = path.absolute().parent
    return list_files(folder.parent if folder.name.lower() == "annotations" else folder)
