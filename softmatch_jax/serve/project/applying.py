"""From a command to the documents that it changes. Nothing is written here but the rasters that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from softmatch_jax._checks import InputError
from softmatch_jax._types import Labels
from softmatch_jax.imaging import class_palette
from softmatch_jax.serve.project import layering
from softmatch_jax.serve.project.commands import (
    Accept,
    AddClass,
    AddPrompt,
    ClearLayer,
    Command,
    DeleteClass,
    DeleteImage,
    DeletePrompt,
    EditClass,
    EditProject,
    Paint,
    Promote,
    Reject,
    Reopen,
)
from softmatch_jax.serve.project.documents import (
    DERIVED,
    ClassDocument,
    Digest,
    Document,
    ImageDocument,
    LayerDocument,
    ProjectDocument,
    kind_of,
)
from softmatch_jax.serve.project.errors import ConflictError
from softmatch_jax.serve.project.showing import all_shown
from softmatch_jax.serve.project.state import Changes, State

_NAMED = 5
"""Most pictures that a refusal names."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What applying needs aside from the state.

    Attributes:
        new_id: Gives a name that begins with a letter.
        raster: Reads a raster.
        put_raster: Keeps one.
    """

    new_id: Callable[[str], str]
    raster: Callable[[Digest], Labels]
    put_raster: Callable[[Labels], Digest]


def apply(state: State, command: Command, tools: Tools) -> Changes:
    """Works out the documents that a command changes.

    Returns:
        New documents by key, None for those taken away; those that stay equal are left out.

    Raises:
        NotFoundError: It names something that is not there.
        ConflictError: The picture is locked, what it says is shown is not, or there is nothing to do.
        InputError: It makes no sense, such as a prompt outside the picture.
    """
    changes = _APPLYING[type(command)](state, command, tools)
    return {key: document for key, document in changes.items() if state.get(key) != document}


def add_image(state: State, image: ImageDocument, tools: Tools) -> Changes:
    """Adds a picture at the end; raises ``ConflictError`` where its file is in the project already."""
    for key, other in state.of("image").items():
        if cast(ImageDocument, other).digest == image.digest:
            iid = key.partition("/")[2]
            raise ConflictError(
                f"{image.name} is already in the project, as {cast(ImageDocument, other).name} ({iid}).",
                image=iid,
            )
    order = 1 + max((cast(ImageDocument, other).order for other in state.of("image").values()), default=0)
    return {f"image/{tools.new_id('i')}": image.model_copy(update={"order": order})}


def import_masks(
    state: State, iid: str, rasters: Mapping[str, Digest], tools: Tools, *, accept: bool
) -> Changes:
    """Puts rasters in the place of what the layers of a picture show, and accepts it if asked to.

    Raises:
        NotFoundError: The picture, a class or a raster is not there.
        ConflictError: The picture is not open.
        InputError: A raster is not of the picture's size.
    """
    image = layering.open_image(state, iid)
    changes: Changes = {}
    for cid, digest in rasters.items():
        state.class_(cid)
        labels = tools.raster(digest)
        layering.check_size(image, labels)
        changes |= dict.fromkeys(state.documents.group(f"prompt/{iid}/{cid}"))
        reference = state.layer(iid, cid).reference and bool(labels.any())
        changes[f"layer/{iid}/{cid}"] = LayerDocument(reference=reference, painted=digest)
    if accept:
        accepted = all_shown(state, iid) | dict(rasters)
        changes[f"image/{iid}"] = image.model_copy(update={"status": "accepted", "accepted": accepted})
    return {key: document for key, document in changes.items() if state.get(key) != document}


def outdated(state: State, changes: Mapping[str, Document | None]) -> list[str]:
    """The derived documents that ``changes`` leave without what they are about.

    They are those of pictures and classes that go, and the masks of layers whose prompts all go or whose
    prompts are about to correct another raster.
    """
    gone = {key for key, document in changes.items() if document is None}
    pictures = {key.split("/")[1] for key in gone if kind_of(key) == "image"}
    classes = {key.split("/")[1] for key in gone if kind_of(key) == "class"}
    keys = [f"found/{iid}" for iid in sorted(pictures) if state.get(f"found/{iid}") is not None]
    touched = {key.split("/", 1)[1] for key in changes if kind_of(key) == "layer"}
    touched |= {key.split("/", 1)[1].rpartition("/")[0] for key in gone if kind_of(key) == "prompt"}
    after = state.documents.changed(changes)
    for layer in sorted(touched):
        old, new = state.get(f"layer/{layer}"), after.get(f"layer/{layer}")
        rebased = getattr(old, "base", None) != getattr(new, "base", None)
        if (rebased or not after.group(f"prompt/{layer}")) and f"mask/{layer}" in after:
            keys.append(f"mask/{layer}")
    if pictures or classes:
        for key in state.of("mask"):
            _, iid, cid = key.split("/")
            if (iid in pictures or cid in classes) and key not in keys:
                keys.append(key)
    return keys


def still_wanted(state: State, changes: Mapping[str, Document | None]) -> Changes:
    """Those of the engine's changes whose picture, class and prompts are still there, and that are new.

    Raises:
        InputError: They are not of a derived kind.
    """
    wanted: Changes = {}
    for key, document in changes.items():
        kind, *names = key.split("/")
        if kind not in DERIVED:
            raise InputError(f"{key} is made by a person; expected a key of {' or '.join(DERIVED)}.")
        there = state.get(f"image/{names[0]}") is not None
        if kind == "mask":
            there = (
                there
                and state.get(f"class/{names[1]}") is not None
                and len(state.documents.group("/".join(["prompt", *names]))) > 0
            )
        if state.get(key) != document and (there or document is None):
            wanted[key] = document
    return wanted


def _edit_project(state: State, command: EditProject, tools: Tools) -> Changes:
    return {"project": _edited(state.project(), command, ProjectDocument)}


def _add_class(state: State, command: AddClass, tools: Tools) -> Changes:
    classes = [cast(ClassDocument, document) for document in state.of("class").values()]
    document = ClassDocument(
        name=_new_name(state, command.name, None),
        colour=command.colour or _unused_colour({document.colour for document in classes}),
        order=1 + max((document.order for document in classes), default=0),
        phrase=command.phrase or None,
    )
    return {f"class/{tools.new_id('c')}": document}


def _edit_class(state: State, command: EditClass, tools: Tools) -> Changes:
    document = state.class_(command.class_)
    if command.name is not None:
        _new_name(state, command.name, command.class_)
    edited = _edited(document, command, ClassDocument)
    return {f"class/{command.class_}": edited.model_copy(update={"phrase": edited.phrase or None})}


def _delete_class(state: State, command: DeleteClass, tools: Tools) -> Changes:
    cid = command.class_
    name = state.class_(cid).name
    images = (cast(ImageDocument, document) for document in state.of("image").values())
    showing = [image.name for image in images if cid in (image.accepted or {})]
    if showing:
        more = f" and {len(showing) - _NAMED} more" if len(showing) > _NAMED else ""
        raise ConflictError(
            f"{name} is on accepted pictures ({', '.join(showing[:_NAMED])}{more}), which are locked; "
            "reopen or delete them first."
        )
    return _taken_away(state, f"class/{cid}", lambda _, other: other == cid)


def _delete_image(state: State, command: DeleteImage, tools: Tools) -> Changes:
    iid = command.image
    state.image(iid)
    return _taken_away(state, f"image/{iid}", lambda other, _: other == iid)


def _accept(state: State, command: Accept, tools: Tools) -> Changes:
    image = layering.open_image(state, command.image)
    now = all_shown(state, command.image)
    if now != command.shown:
        differing = sorted(cid for cid in now | command.shown if now.get(cid) != command.shown.get(cid))
        names = ", ".join(state.class_(cid).name for cid in differing)
        raise ConflictError(
            f"The mask of {names} on {image.name} is not the one that is shown now; look at it again, and "
            "accept it then."
        )
    return {f"image/{command.image}": image.model_copy(update={"status": "accepted", "accepted": now})}


def _reject(state: State, command: Reject, tools: Tools) -> Changes:
    image = layering.open_image(state, command.image)
    return {f"image/{command.image}": image.model_copy(update={"status": "rejected"})}


def _reopen(state: State, command: Reopen, tools: Tools) -> Changes:
    iid = command.image
    image = state.image(iid)
    if image.status == "open":
        raise ConflictError(f"{image.name} is open; there is nothing to reopen.", image=iid)
    changes: Changes = {f"image/{iid}": image.model_copy(update={"status": "open", "accepted": None})}
    for cid, digest in (image.accepted or {}).items():
        changes[f"layer/{iid}/{cid}"] = state.layer(iid, cid).model_copy(update={"painted": digest})
    return changes


def _edited(document: Any, command: Document, kind: type[Any]) -> Any:
    """The document with the fields that a command gives."""
    given = {field: value for field in kind.model_fields if (value := getattr(command, field)) is not None}
    return document.model_copy(update=given)


def _new_name(state: State, name: str, cid: str | None) -> str:
    """A class's name, which no other class may have: exports tell them apart by it alone."""
    if not name.strip():
        raise InputError("The class's name is blank; expected at least one letter or figure.")
    for key, document in state.of("class").items():
        taken = cast(ClassDocument, document).name
        if key != f"class/{cid}" and taken.casefold() == name.casefold():
            raise ConflictError(f"There is a class {taken} already; choose another name.")
    return name


def _unused_colour(used: set[str]) -> str:
    """The first colour of the palette that no class has."""
    palette = ["#" + bytes(colour.tolist()).hex() for colour in class_palette(255)[1:]]
    return next((colour for colour in palette if colour not in used), palette[len(used) % len(palette)])


def _taken_away(state: State, key: str, belongs: Callable[[str, str], bool]) -> Changes:
    """Takes away a document with the layers and prompts that belong to it by their picture and class."""
    keys = [key]
    keys += [name for name in state.of("layer") if belongs(*name.split("/")[1:])]
    for group in state.documents.prompt_groups():
        if belongs(*group.split("/")[1:]):
            keys += state.documents.group(group)
    return dict.fromkeys(keys)


_APPLYING: dict[type, Callable[[State, Any, Tools], Changes]] = {
    EditProject: _edit_project,
    AddClass: _add_class,
    EditClass: _edit_class,
    DeleteClass: _delete_class,
    DeleteImage: _delete_image,
    AddPrompt: lambda state, command, tools: layering.add_prompt(state, command, tools.new_id),
    DeletePrompt: lambda state, command, tools: layering.delete_prompt(state, command),
    ClearLayer: lambda state, command, tools: layering.clear_layer(state, command),
    Paint: lambda state, command, tools: layering.paint_layer(state, command, tools.raster, tools.put_raster),
    Promote: lambda state, command, tools: layering.promote(state, command, tools.raster),
    Accept: _accept,
    Reject: _reject,
    Reopen: _reopen,
}
