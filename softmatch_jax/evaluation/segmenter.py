"""What an evaluation asks of a method: find one class in a target, given annotated references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax

from softmatch_jax._types import Image, Mask
from softmatch_jax.prompting import Annotation


class Answer(Protocol):
    """What a method found."""

    @property
    def mask(self) -> Mask:
        """``bool [H, W]``, of the target's size; empty where the class seems absent."""

    @property
    def absent(self) -> bool:
        """Whether the class seems absent."""

    @property
    def reason(self) -> str | None:
        """Why it seems absent."""


class Segmenter(Protocol):
    """A method, with its models and its settings."""

    @property
    def name(self) -> str:
        """What the method is called in tables."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides its answers, as JSON can hold it."""

    def __call__(
        self, target: Image, references: Sequence[tuple[Image, Annotation]], *, key: jax.Array
    ) -> Answer:
        """Finds the class of the references in the target; the same key gives the same answer."""
