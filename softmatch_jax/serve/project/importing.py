"""From the files of other tools into a project."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from pydantic import ValidationError

from softmatch_jax._checks import InputError
from softmatch_jax._types import Size
from softmatch_jax.data.formats import Format, LabelledClass, LabelledPicture, Losses, Source, recognise
from softmatch_jax.serve.project.commands import AddClass
from softmatch_jax.serve.project.documents import ClassDocument, Digest, ImageDocument
from softmatch_jax.serve.project.errors import ConflictError, TooLargeError
from softmatch_jax.serve.project.exporting import archive_names
from softmatch_jax.serve.project.pictures import Pictures, StoredPicture
from softmatch_jax.serve.project.state import State
from softmatch_jax.serve.project.store import Store

_CHUNK = 1 << 20
_LONGEST_NAME = 200
_STRANGERS = "{count} pictures are neither in the archive nor in the project; their masks are left out."
_LOCKED = "{count} pictures are accepted or rejected and keep the masks they have."
_TWINS = "{count} pictures are the same file as another one and are left out."


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What was imported: pictures that are new, masks (of a class on a picture), and what was left out."""

    pictures: int
    masks: int
    warnings: tuple[str, ...]


@dataclass(kw_only=True)
class _Plan:
    """What will be done to one picture: ``iid`` if the project has it, else ``stored`` with its new name."""

    name: str
    iid: str | None = None
    stored: StoredPicture | None = None
    rasters: dict[str, Digest] = field(default_factory=dict)


def import_project(
    store: Store, pictures: Pictures, source: Source, format: Format | None, *, accept: bool
) -> ImportReport:
    """Adds classes, pictures and masks; each step can be undone.

    All is read before anything is changed, so that what cannot be read changes nothing; files of pictures
    that were read by then stay in the project's folder, unnamed, where the next try finds them. Pictures are
    known by their files, or by their names where the archive lacks the files. Masks take the place of what an
    open picture shows; a picture that is accepted or rejected stays as it is.

    Args:
        store: The project.
        pictures: Its pictures.
        source: Where from.
        format: One of ``FORMATS``, or None to find out.
        accept: Accept the pictures that get masks.

    Raises:
        InputError: The source cannot be read, or a mask does not fit its picture.
    """
    reading = _Reading(store, pictures, source)
    found = (format or recognise(source)).read(source, reading.sizes)
    commands = _new_classes(store.state(), found.classes)
    for picture in found.pictures:
        reading.plan(picture)
    for command in commands:
        store.run(command, id=_new_id())
    cids = _cids(store.state())
    added = masks = 0
    for plan in reading.plans:
        iid = plan.iid
        if plan.stored is not None:
            try:
                entry = store.add_image(plan.name, plan.stored, id=_new_id())
                iid, added = next(iter(entry.changes)).partition("/")[2], added + 1
            except ConflictError as error:  # someone else has added it since
                iid = error.image
        if iid is not None and plan.rasters:
            rasters = {cids[name.casefold()]: digest for name, digest in plan.rasters.items()}
            try:
                store.import_masks(iid, rasters, id=_new_id(), accept=accept)
                masks += len(rasters)
            except ConflictError:  # someone else has accepted or rejected it since
                reading.losses.add(_LOCKED, where=plan.name)
    warnings = (*found.losses.sentences(), *reading.losses.sentences())
    return ImportReport(pictures=added, masks=masks, warnings=warnings)


class _Reading:
    """Finds out what is to be done with each picture, and keeps files and rasters that nothing names yet."""

    def __init__(self, store: Store, pictures: Pictures, source: Source) -> None:
        self.plans: list[_Plan] = []
        self.losses = Losses()
        self._store, self._pictures, self._source = store, pictures, source
        self._state = store.state()
        images = {key.partition("/")[2]: cast(ImageDocument, d) for key, d in self._state.of("image").items()}
        self._by_digest = {image.digest: iid for iid, image in images.items()}
        self._by_name = _by_name(images, archive_names(self._state, pictures))
        self.sizes: dict[str, Size] = {
            name: (images[iid].height, images[iid].width) for name, iid in self._by_name.items()
        }
        self._seen: set[str] = set()

    def plan(self, picture: LabelledPicture) -> None:
        """Takes a picture up; raises ``InputError`` where a mask does not fit, or its file is no picture."""
        plan = _Plan(name=picture.name)
        if picture.entry is not None:
            plan.stored = self._stored(picture.entry)
            plan.iid = self._by_digest.get(plan.stored.digest)
            key, size = plan.stored.digest, (plan.stored.height, plan.stored.width)
            if plan.iid is not None:
                plan.stored = None
        else:
            plan.iid = self._named(picture.name)
            if plan.iid is None:
                self.losses.add(_STRANGERS, where=picture.name)
                return
            image = self._state.image(plan.iid)
            key, size = image.digest, (image.height, image.width)
        if key in self._seen:
            self.losses.add(_TWINS, where=picture.name)
            return
        self._seen.add(key)
        if size != picture.size:
            raise InputError(
                f"The masks of {picture.name} are {picture.size[1]}x{picture.size[0]} pixels and the picture "
                f"is {size[1]}x{size[0]}; expected masks made on this picture at this size."
            )
        if plan.iid is not None and self._state.image(plan.iid).status != "open":
            self.losses.add(_LOCKED, where=picture.name)
            return
        if plan.stored is not None:
            _check_name(picture.name)
        masks = {name: labels for name, labels in picture.masks.items() if labels.any()}
        plan.rasters = {name: self._store.put_raster(labels) for name, labels in masks.items()}
        self.plans.append(plan)

    def _stored(self, entry: str) -> StoredPicture:
        """The file of a picture, kept in the project's folder."""
        try:
            with (
                self._source.local(entry) as path,
                path.open("rb") as file,
                self._pictures.incoming() as incoming,
            ):
                while chunk := file.read(_CHUNK):
                    incoming.write(chunk)
                return incoming.finish()
        except TooLargeError as error:
            raise TooLargeError(f"{self._source.title}: {entry}: {error}") from None
        except InputError as error:
            raise InputError(f"{self._source.title}: {entry}: {error}") from None

    def _named(self, name: str) -> str | None:
        """The picture of the project with this name, or the only one whose name ends so, or the other way."""
        if name in self._by_name:
            return self._by_name[name]
        ends = {
            iid
            for known, iid in self._by_name.items()
            if known.endswith("/" + name) or name.endswith("/" + known)
        }
        return ends.pop() if len(ends) == 1 else None


def _by_name(images: Mapping[str, ImageDocument], archived: Mapping[str, str]) -> dict[str, str]:
    """Pictures by the names of their files in an export, and by their own where only one has it."""
    names = [image.name for image in images.values()]
    own = {image.name: iid for iid, image in images.items() if names.count(image.name) == 1}
    return own | {name: iid for iid, name in archived.items()}


def _new_classes(state: State, classes: tuple[LabelledClass, ...]) -> list[AddClass]:
    """Commands for the classes that the project lacks; raises ``InputError`` where a name cannot be one."""
    there = set(_cids(state))
    keys = [entry.name.casefold() for entry in classes]
    commands = []
    for entry, key in zip(classes, keys, strict=True):
        if keys.count(key) > 1:
            raise InputError(
                f"The class {entry.name!r} differs from another only in upper and lower case; rename one."
            )
        if key in there:
            continue
        try:
            commands.append(AddClass(name=entry.name, colour=entry.colour))
        except ValidationError:
            raise InputError(
                f"{entry.name[:60]!r} cannot name a class; expected 1 to {_LONGEST_NAME} characters."
            ) from None
    return commands


def _cids(state: State) -> dict[str, str]:
    """The classes by their names in lower case, in which a project's differ."""
    classes = (
        (key.partition("/")[2], cast(ClassDocument, entry)) for key, entry in state.of("class").items()
    )
    return {entry.name.casefold(): cid for cid, entry in classes}


def _check_name(name: str) -> None:
    if len(name) > _LONGEST_NAME or re.search(r"[\x00-\x1f\x7f]", name):
        raise InputError(
            f"The picture's name is {name[:60]!r}...; expected at most {_LONGEST_NAME} characters."
        )


def _new_id() -> str:
    return secrets.token_hex(16)
