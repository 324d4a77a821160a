"""What is asked of an engine, and what it answers: plain values that also travel to another process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from softmatch_jax._types import Labels
from softmatch_jax.serve.project.documents import Prompt


@dataclass(frozen=True)
class Picture:
    """A picture of the project: its file, and the SHA-256 of the file, by which it is remembered."""

    digest: str
    path: Path


@dataclass(frozen=True, eq=False, kw_only=True)
class Completion:
    """Asks for the mask that prompts mean.

    Attributes:
        picture: Where they were drawn.
        prompts: In the order in which they were drawn.
        base: The mask that they correct, or None.
    """

    picture: Picture
    prompts: tuple[Prompt, ...]
    base: Labels | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Completed:
    """The mask that prompts mean; ``seconds`` is what it took, waiting aside."""

    labels: Labels
    seconds: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Example:
    """A reference.

    Attributes:
        picture: What it is on.
        class_id: Class that it is an example of.
        labels: Its mask.
        prompts: What was drawn there; strokes beside the object say what it is not.
    """

    picture: Picture
    class_id: str
    labels: Labels
    prompts: tuple[Prompt, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Examples:
    """All references of a run; ``digest`` names the set, by which it is remembered.

    Attributes:
        digest: SHA-256 of all that decides them.
        references: At least one.
        phrases: Text prompts by class, where the engine has a model for them.
    """

    digest: str
    references: tuple[Example, ...]
    phrases: Mapping[str, str]


@dataclass(frozen=True, eq=False, kw_only=True)
class Matching:
    """Asks for what the examples' classes are on a target. The same seed gives the same answer."""

    picture: Picture
    examples: Examples
    seed: int


@dataclass(frozen=True, eq=False, kw_only=True)
class MatchedClass:
    """What was found of one class; the fields are those of ``ClassSegmentation``.

    Attributes:
        labels: Mask with objects told apart; None where the class is absent.
        heat: The match map, rounded to ``[0, 255]``, its longer side at most 256.
    """

    labels: Labels | None
    absent: bool
    reason: str | None
    score: float
    resemblance: float
    log_evidence: float
    instances: int
    heat: UInt8[np.ndarray, "h w"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Matched:
    """What was found on a target, by class, and how unsure that is, in ``[0, 1]``."""

    classes: Mapping[str, MatchedClass]
    uncertainty: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """What the engine is: ``model`` names all that decides its answers, and goes into every basis."""

    backend: str
    model: str
    texts: bool


def uninterrupted() -> None:
    """Nothing is done between the stages of a matching."""


class Models(Protocol):
    """The work itself, on one thread or in one replica; nothing here may be called from two threads."""

    @property
    def info(self) -> EngineInfo:
        """What the models are."""

    def warm_up(self) -> None:
        """Compiles what first requests would wait for."""

    def encode(self, picture: Picture) -> None:
        """Encodes a picture ahead of need.

        Raises:
            InputError: Its file cannot be read.
        """

    def complete(self, request: Completion) -> Completed:
        """Raises ``InputError`` where the file cannot be read or the prompts mark nothing or everything."""

    def match(
        self, requests: list[Matching], *, between: Callable[[], None] = uninterrupted
    ) -> list[Matched | Exception]:
        """Answers requests with the same examples and seed; one that fails does not stop the others.

        Args:
            requests: What is asked.
            between: Called between the stages of a matching, and may call these models. What it raises is
                the answer to the request at hand.
        """
