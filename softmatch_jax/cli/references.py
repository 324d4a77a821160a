"""From the reference options to the pipeline's references."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from softmatch_jax._checks import InputError
from softmatch_jax._types import Image
from softmatch_jax.cli.config import DEFAULT_CLASS, ReferenceConfig
from softmatch_jax.cli.digests import file_digest
from softmatch_jax.cli.names import printable
from softmatch_jax.cli.pipeline import Pipeline
from softmatch_jax.data.annotation_files import read_annotations
from softmatch_jax.imaging import read_image, read_mask, read_painting
from softmatch_jax.pipelines.reference import MAX_CLASSES
from softmatch_jax.prompting import (
    Annotation,
    Box,
    MaskAnnotation,
    Painted,
    Points,
    infer_colours,
    seeds,
    split_painting,
)

if TYPE_CHECKING:
    from softmatch_jax.pipelines import ProSamReference, Reference

RGB = tuple[int, int, int]


@dataclass(frozen=True, eq=False, kw_only=True)
class AnnotatedImage:
    """A reference picture with its annotations, read and checked.

    Attributes:
        path: The picture's file, as the user named it.
        source: The annotation's file; the picture's where the options themselves annotate.
        image: ``uint8 [H, W, 3]``.
        kind: How it is annotated: mask, scribbles, painting, points or box.
        annotations: One for each class.
        sha256: Of all that was read: picture, annotation file and options.
    """

    path: Path
    source: Path
    image: Image
    kind: str
    annotations: dict[str, Annotation]
    sha256: str


@dataclass(frozen=True, eq=False)
class LoadedReference:
    """One class of one reference picture, ready to be matched.

    Attributes:
        origin: Where it comes from.
        reference: What the pipeline takes.
    """

    origin: AnnotatedImage
    reference: Reference | ProSamReference


def read_references(configs: Sequence[ReferenceConfig], *, max_pixels: int) -> list[AnnotatedImage]:
    """Reads and checks all reference files, before any model runs.

    Raises:
        InputError: A file cannot be read, an annotation does not fit its picture, or class names
            are ambiguous.
    """
    images = [_read(config, max_pixels) for config in configs]
    _check_class_names([(name, image.source) for image in images for name in image.annotations])
    return images


def encode_references(images: Sequence[AnnotatedImage], matcher: Pipeline) -> list[LoadedReference]:
    """Encodes each picture once and makes a reference of each class in it.

    Raises:
        InputError: The picture's features are not finite, or an annotation grows into nothing.
    """
    loaded = []
    for image in images:
        with _about(image.path):
            encoded = matcher.encode(image.image)
        for name, annotation in image.annotations.items():
            with _about(image.source):
                loaded.append(LoadedReference(image, matcher.reference(encoded, annotation, class_name=name)))
    return loaded


def _read(config: ReferenceConfig, max_pixels: int) -> AnnotatedImage:
    kind = _kind(config)
    source = config.mask or config.scribbles or config.painting or config.reference
    image = read_image(config.reference, max_pixels=max_pixels)
    size = (image.shape[0], image.shape[1])
    with _about(source):
        annotations = _annotations(config, image, max_pixels)
        for annotation in annotations.values():
            seeds(annotation, size)  # raises where the annotation does not fit
    return AnnotatedImage(
        path=config.reference,
        source=source,
        image=image,
        kind=kind,
        annotations=annotations,
        sha256=_fingerprint(config, kind, source),
    )


def _kind(config: ReferenceConfig) -> str:
    """The one way in which the reference is annotated."""
    given = {
        "mask": config.mask,
        "scribbles": config.scribbles,
        "painting": config.painting,
        "points": config.point or config.negative_point,
        "box": config.box,
    }
    kinds = [kind for kind, value in given.items() if value]
    options = "--mask, --scribbles, --painting, --point or --box"
    if not kinds:
        raise InputError(
            f"--reference {config.reference} is not annotated; expected one of {options} after it."
        )
    if len(kinds) > 1:
        raise InputError(
            f"--reference {config.reference} is annotated in {len(kinds)} ways, {' and '.join(kinds)}; "
            f"expected exactly one of {options} (give --reference again for the other)."
        )
    for option, value, owner in (
        ("--mask-threshold", config.mask_threshold, "mask"),
        ("--colours", config.colours, "painting"),
    ):
        if value is not None and kinds != [owner]:
            raise InputError(
                f"{option} is given for --reference {config.reference} without --{owner}; expected them "
                f"together (leave {option} out, or add --{owner})."
            )
    return kinds[0]


def _annotations(config: ReferenceConfig, image: Image, max_pixels: int) -> dict[str, Annotation]:
    if config.mask is not None:
        mask = read_mask(config.mask, threshold=config.mask_threshold, max_pixels=max_pixels)
        return {_class_name(config): MaskAnnotation(mask)}
    if config.scribbles is not None:
        annotations = read_annotations(config.scribbles, size=(image.shape[0], image.shape[1]))
        if not annotations:
            raise InputError(
                "annotations is empty; expected an entry with the strokes of at least one class."
            )
        return _renamed(annotations, config)
    if config.painting is not None:
        return _painted(config, image, max_pixels)
    if config.box is not None:
        return {_class_name(config): Box(*config.box)}
    signs = (True,) * len(config.point) + (False,) * len(config.negative_point)
    return {_class_name(config): Points(config.point + config.negative_point, signs)}


def _painted(config: ReferenceConfig, image: Image, max_pixels: int) -> dict[str, Annotation]:
    assert config.painting is not None
    rgba = read_painting(config.painting, max_pixels=max_pixels)
    # Without transparency, what was painted is where it differs from the picture.
    base = image if (rgba[..., 3] == 255).all() else None
    if config.colours is not None:
        classes, background = parse_colours(config.colours)
        painted: dict[str, Painted] = split_painting(
            rgba, classes=classes, background=background, base_image=base
        )
        return _renamed(dict(painted), config)
    colours = infer_colours(rgba, base_image=base)
    if len(colours) != 1:
        shown = ", ".join(f"#{r:02x}{g:02x}{b:02x} ({count} pixels)" for (r, g, b), count in colours[:8])
        raise InputError(
            f"{len(colours)} solid colours are painted{': ' + shown if shown else ''}; expected exactly one "
            "(say what each colour means with --colours duck=#ff0000,background=#0000ff)."
        )
    name = _class_name(config)
    return {name: split_painting(rgba, classes={name: colours[0][0]}, background=None, base_image=base)[name]}


def parse_colours(text: str) -> tuple[dict[str, RGB], RGB | None]:
    """Parses ``duck=#ff0000,background=#0000ff``.

    Returns:
        The colour of each class, and the colour of the background if there is one.

    Raises:
        InputError: It is not in this form, names a class twice, or names none.
    """
    colours: dict[str, RGB] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(.*?\S)\s*=\s*#([0-9a-fA-F]{6})\s*", part)
        if match is None:
            raise InputError(f"--colours has {part!r}; expected NAME=#RRGGBB, such as duck=#ff0000.")
        name, digits = match.groups()
        if name.casefold() in (known.casefold() for known in colours):
            raise InputError(f"--colours names the class {name!r} twice; expected one colour for each class.")
        red, green, blue = bytes.fromhex(digits)
        colours[name] = (red, green, blue)
    background = colours.pop("background", None)
    if not colours:
        raise InputError("--colours names only the background; expected at least one class.")
    return colours, background


def _class_name(config: ReferenceConfig) -> str:
    return DEFAULT_CLASS if config.class_name is None else config.class_name


def _renamed(annotations: dict[str, Annotation], config: ReferenceConfig) -> dict[str, Annotation]:
    """Gives the only class the name from ``--class-name``, if there is one."""
    if config.class_name is None:
        return annotations
    if len(annotations) > 1:
        names = ", ".join(map(repr, annotations))
        raise InputError(
            f"--class-name {config.class_name} is given for {len(annotations)} classes, {names}; expected no "
            "--class-name, since they are named already."
        )
    return {config.class_name: next(iter(annotations.values()))}


def _check_class_names(named: Sequence[tuple[str, Path]]) -> None:
    """Refuses names that a reader would take for one class and a program for two."""
    known: dict[str, tuple[str, Path]] = {}
    for name, source in named:
        if not name.strip():
            raise InputError(f"The class name for {source} is empty; expected a name, such as duck.")
        first, where = known.setdefault(name.strip().casefold(), (name, source))
        if first != name:
            raise InputError(
                f"The class names {first!r} ({where}) and {name!r} ({source}) differ only in case or blanks; "
                "expected one spelling for one class, or two different names."
            )
    if len(known) > MAX_CLASSES:
        raise InputError(f"{len(known)} classes are given; expected at most {MAX_CLASSES}.")


def _fingerprint(config: ReferenceConfig, kind: str, source: Path) -> str:
    """Checksum of all that decides what the reference says, the class name aside."""
    options = {
        key: asdict(config)[key] for key in ("mask_threshold", "colours", "point", "negative_point", "box")
    }
    parts = [kind, options, file_digest(config.reference).sha256, file_digest(source).sha256]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Adds the file to messages that do not name it."""
    try:
        yield
    except InputError as error:
        text = str(error)
        raise InputError(text if str(path) in text else f"{printable(path)}: {text}") from None
