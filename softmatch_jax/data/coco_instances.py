"""The objects of ``instances_val2014.json`` and its like, picture by picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softmatch_jax._checks import InputError
from softmatch_jax._types import Size
from softmatch_jax.data.files import read_json

CLASSES = 80
"""Number of classes of COCO."""


@dataclass(frozen=True)
class Instance:
    """An object, or a crowd of objects.

    Attributes:
        id: Of the annotation, for messages.
        number: Of its class, 1 to 80: the place of its category among all, ordered by their ids.
        crowd: Whether it is a crowd.
        segmentation: Polygons, or run lengths, as in the file.
    """

    id: int
    number: int
    crowd: bool
    segmentation: Any


@dataclass(frozen=True)
class CocoPicture:
    """A picture and its objects.

    Attributes:
        name: The file's, without suffix.
        size: ``(H, W)`` in pixels.
        instances: In the order of the file.
    """

    name: str
    size: Size
    instances: list[Instance] = field(default_factory=list)


def read_instances(path: Path) -> tuple[tuple[str, ...], tuple[CocoPicture, ...]]:
    """Reads annotations of COCO; a file of 400 MB needs about 2 GB of memory meanwhile.

    Returns:
        Names of the classes, and the pictures in the order of the file.

    Raises:
        InputError: The file cannot be read or is cut short; lacks an entry; has a number of categories other
            than 80; has an id or a file name twice; or an annotation of an unknown picture or category.
    """
    document = read_json(path, "COCO's annotations of 2014")
    try:
        names = {category["id"]: str(category["name"]) for category in document["categories"]}
        if len(names) != CLASSES or len(document["categories"]) != CLASSES:
            raise InputError(f"{path} has {len(names)} categories; expected the {CLASSES} of COCO 2014.")
        numbers = {identity: number for number, identity in enumerate(sorted(names), 1)}
        pictures = _pictures(path, document["images"])
        _add_instances(path, document["annotations"], pictures, numbers)
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{path} lacks an entry {error}; expected COCO's instances.") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not as COCO writes its instances ({error}).") from None
    return tuple(names[identity] for identity in sorted(names)), tuple(pictures.values())


def _pictures(path: Path, images: Sequence[Any]) -> dict[int, CocoPicture]:
    """The pictures by their ids, without objects."""
    pictures: dict[int, CocoPicture] = {}
    for image in images:
        size = (int(image["height"]), int(image["width"]))
        if image["id"] in pictures or min(size) < 1:
            raise InputError(
                f"{path}: image {image['id']} has its id twice or is {size[1]}x{size[0]} pixels; expected an "
                "id of its own and a size."
            )
        pictures[image["id"]] = CocoPicture(Path(image["file_name"]).stem, size)
    # Two pictures of one name would share one mask.
    for name, count in Counter(picture.name for picture in pictures.values()).most_common(1):
        if count > 1:
            raise InputError(f"{path} lists the file name {name!r} {count} times; expected each once.")
    return pictures


def _add_instances(
    path: Path, annotations: Sequence[Any], pictures: Mapping[int, CocoPicture], numbers: Mapping[int, int]
) -> None:
    """Gives each picture its objects."""
    seen = set()
    for entry in annotations:
        identity, image, category = entry["id"], entry["image_id"], entry["category_id"]
        if image not in pictures or category not in numbers:
            raise InputError(
                f"{path}: annotation {identity} is of image {image} and category {category}; expected ids "
                "that the file lists under images and categories."
            )
        if identity in seen:
            raise InputError(f"{path} has the annotation {identity} twice; expected each id once.")
        seen.add(identity)
        crowd = bool(entry.get("iscrowd", 0))
        pictures[image].instances.append(Instance(identity, numbers[category], crowd, entry["segmentation"]))
