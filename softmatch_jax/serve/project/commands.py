"""What a person can do to a project. All of it can be undone.

A command names things that exist; what it changes is worked out by :mod:`applying` and logged with it.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, StringConstraints

from softmatch_jax.serve.project.documents import (
    BrushStroke,
    Colour,
    Digest,
    Document,
    Identity,
    Name,
    Prompt,
)


class EditProject(Document):
    """Changes the fields that are given."""

    do: Literal["edit_project"] = "edit_project"
    name: Name | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = None
    automatic: bool | None = None


class AddClass(Document):
    """Adds a class; a colour is chosen when none is given."""

    do: Literal["add_class"] = "add_class"
    name: Name
    colour: Colour | None = None
    phrase: Annotated[str, StringConstraints(max_length=300)] | None = None


class EditClass(Document):
    """Changes the fields that are given; an empty phrase takes the phrase away."""

    do: Literal["edit_class"] = "edit_class"
    class_: Annotated[Identity, Field(alias="class")]
    name: Name | None = None
    colour: Colour | None = None
    order: int | None = None
    phrase: Annotated[str, StringConstraints(max_length=300)] | None = None


class DeleteClass(Document):
    """Takes away a class with all its layers and prompts; refused while an accepted picture shows it."""

    do: Literal["delete_class"] = "delete_class"
    class_: Annotated[Identity, Field(alias="class")]


class DeleteImage(Document):
    """Takes a picture out of the project, with its layers and prompts. Its file stays, for undoing."""

    do: Literal["delete_image"] = "delete_image"
    image: Identity


class OnLayer(Document):
    """A command about one class on one picture, which must be open: an accepted picture is locked."""

    image: Identity
    class_: Annotated[Identity, Field(alias="class")]


class AddPrompt(OnLayer):
    """Draws a prompt.

    The first prompt on a layer with nothing shown makes it a reference. Over a shown mask, ``shown`` is that
    mask's raster, which the prompts then correct, and the layer is no reference until it is promoted.
    """

    do: Literal["add_prompt"] = "add_prompt"
    prompt: Prompt
    shown: Digest | None = None


class DeletePrompt(OnLayer):
    """Takes one prompt away."""

    do: Literal["delete_prompt"] = "delete_prompt"
    prompt: Identity


class ClearLayer(OnLayer):
    """Takes away all a person made on the layer, so that what was found shows again."""

    do: Literal["clear_layer"] = "clear_layer"


class Paint(OnLayer):
    """Brushes the shown mask, ``shown`` being its raster, or None for none."""

    do: Literal["paint"] = "paint"
    shown: Digest | None
    strokes: Annotated[tuple[BrushStroke, ...], Field(min_length=1, max_length=100)]


class Promote(OnLayer):
    """Makes the shown mask a reference, or no longer one. What was found is kept as it is then."""

    do: Literal["promote"] = "promote"
    reference: bool
    shown: Digest | None = None


class Accept(Document):
    """Locks a picture with the rasters that are shown, ``shown`` by class; all must be what is shown now."""

    do: Literal["accept"] = "accept"
    image: Identity
    shown: dict[Identity, Digest]


class Reject(Document):
    """Marks a picture as of no use: it is neither matched nor exported."""

    do: Literal["reject"] = "reject"
    image: Identity


class Reopen(Document):
    """Unlocks an accepted picture, whose masks stay as painted, or takes a rejected one back."""

    do: Literal["reopen"] = "reopen"
    image: Identity


Command: TypeAlias = Annotated[
    EditProject
    | AddClass
    | EditClass
    | DeleteClass
    | DeleteImage
    | AddPrompt
    | DeletePrompt
    | ClearLayer
    | Paint
    | Promote
    | Accept
    | Reject
    | Reopen,
    Field(discriminator="do"),
]
"""Any command."""
