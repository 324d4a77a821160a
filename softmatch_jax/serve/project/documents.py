"""The documents a project consists of, each under a key of its own.

Those a person makes change by commands alone and can be undone; those the engine derives are functions of
them (their ``basis`` says of which), and are made again when they are out of date. Coordinates are ``(x, y)``
in pixels of the upright picture, the centre of the first at ``(0.5, 0.5)``.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_POINTS = 10_000
"""Most vertices of one stroke."""

Digest: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in hexadecimal: of a picture's file, of a raster, of what something was derived from."""

Identity: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z][0-9]{1,9}$")]
"""Name of a picture (``i7``), a class (``c2``) or a prompt (``p31``) in its project, never given twice."""

Colour: TypeAlias = Annotated[str, StringConstraints(pattern=r"^#[0-9a-f]{6}$")]

Name: TypeAlias = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")
]

Coordinate: TypeAlias = Annotated[float, Field(ge=-1e5, le=1e5, allow_inf_nan=False)]

XY: TypeAlias = tuple[Coordinate, Coordinate]


class Document(BaseModel):
    """What all documents have in common: they are values."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Scribble(Document):
    """A stroke that says which pixels are on the object, or beside it."""

    kind: Literal["scribble"] = "scribble"
    points: Annotated[tuple[XY, ...], Field(min_length=1, max_length=MAX_POINTS)]
    width: Annotated[float, Field(gt=0, le=2000, allow_inf_nan=False)]
    positive: bool = True


class Point(Document):
    """A click on the object, or beside it."""

    kind: Literal["point"] = "point"
    xy: XY
    positive: bool = True


class Box(Document):
    """A box around the object, which nothing of it leaves: ``x0 < x1`` and ``y0 < y1``."""

    kind: Literal["box"] = "box"
    x0: Coordinate
    y0: Coordinate
    x1: Coordinate
    y1: Coordinate


Prompt: TypeAlias = Annotated[Scribble | Point | Box, Field(discriminator="kind")]
"""What a person draws to show the object."""


class BrushStroke(Document):
    """A stroke that adds pixels to a mask, or takes them away."""

    points: Annotated[tuple[XY, ...], Field(min_length=1, max_length=MAX_POINTS)]
    width: Annotated[float, Field(gt=0, le=2000, allow_inf_nan=False)]
    add: bool


class ProjectDocument(Document):
    """``project``: what holds for all of it."""

    name: Name
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    automatic: bool = True
    """Match the targets again by itself whenever the references change."""


class ClassDocument(Document):
    """``class/<class>``: a kind of object. ``order`` sorts the list and gives the shortcut."""

    name: Name
    colour: Colour
    order: int
    phrase: Annotated[str, StringConstraints(max_length=300)] | None = None
    """Text prompt, where the engine has a model for it."""


class ImageDocument(Document):
    """``image/<image>``: a picture. ``accepted`` holds the accepted rasters by class while it is accepted."""

    name: Name
    digest: Digest
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    order: int
    status: Literal["open", "accepted", "rejected"] = "open"
    accepted: dict[Identity, Digest] | None = None


class LayerDocument(Document):
    """``layer/<image>/<class>``: what a person made of one class on one picture.

    The mask that is shown there is the first of these that applies: on an accepted picture the accepted one,
    or none; ``painted``; where there are prompts, what they complete to (``mask/<image>/<class>``), and until
    that is there their ``base``; what matching found (``found/<image>``).
    """

    reference: bool = False
    """The shown mask is an example of the class for all other pictures."""
    base: Digest | None = None
    """The raster that was shown when the first prompt was drawn, which the prompts correct; None for none."""
    painted: Digest | None = None
    """The raster as brushed or promoted, which nothing derived replaces."""


class PromptDocument(Document):
    """``prompt/<image>/<class>/<prompt>``: one prompt, in the order of ``order``."""

    order: int
    prompt: Prompt

    @cached_property
    def checksum(self) -> Digest:
        """Names what was drawn. Kept: all prompts of the references decide what is found on every target."""
        return digest_of_json(self.prompt.model_dump(mode="json"))


class MaskDocument(Document):
    """``mask/<image>/<class>``, derived: what the prompts of a layer complete to."""

    basis: Digest
    raster: Digest | None
    area: int = 0
    error: str | None = None
    seconds: float = 0.0


class FoundClass(Document):
    """What matching found of one class on one picture."""

    raster: Digest | None
    absent: bool
    reason: str | None
    score: float
    resemblance: float
    log_evidence: float
    instances: int
    heat: Digest | None
    """The match map, ``uint8 [h, w]`` on the grid of patches or a reduced picture."""


class FoundDocument(Document):
    """``found/<image>``, derived: what matching found. ``uncertainty`` in ``[0, 1]`` sorts the gallery."""

    basis: Digest
    classes: dict[Identity, FoundClass]
    uncertainty: float
    error: str | None = None
    seconds: float = 0.0


ANY: dict[str, type[Document]] = {
    "project": ProjectDocument,
    "class": ClassDocument,
    "image": ImageDocument,
    "layer": LayerDocument,
    "prompt": PromptDocument,
    "mask": MaskDocument,
    "found": FoundDocument,
}
"""The type of a document by the first word of its key."""

DERIVED = ("mask", "found")
"""Kinds that the engine writes and undoing leaves alone."""


def digest_of_json(value: object) -> Digest:
    """SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def kind_of(key: str) -> str:
    """The first word of a key."""
    return key.partition("/")[0]


def parse(key: str, document: object) -> Document:
    """The document under a key, checked.

    Raises:
        pydantic.ValidationError: It is not of the kind that the key says.
    """
    return ANY[kind_of(key)].model_validate(document)
