"""One way to call every method: annotated references and a target in, one mask out."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Protocol, TypeVar

import jax

from softmatch_jax._checks import InputError, check_image
from softmatch_jax._types import Image, Mask
from softmatch_jax.pipelines.config import WHITENED, SoftmatcherConfig
from softmatch_jax.pipelines.feature_cache import FeatureCache, content_key
from softmatch_jax.pipelines.one_class_names import BASELINES, MATCHING_METHODS, ONE_CLASS_METHODS
from softmatch_jax.pipelines.reference import Encoded
from softmatch_jax.pipelines.softmatcher import Softmatcher
from softmatch_jax.prompting import Annotation

Referred = TypeVar("Referred")

CLASS = "object"
"""The name of the one class; points are drawn by it, so it is the same for all."""


class Found(NamedTuple):
    """What a method found of the class in the target.

    Attributes:
        mask: ``bool [H, W]``, of the target's size; empty where the class seems absent.
        absent: Whether it seems absent.
        reason: Why, or None.
    """

    mask: Mask
    absent: bool
    reason: str | None


class OneClass(Protocol):
    """Finds one class in a target, given annotated references (one-way, k-shot)."""

    @property
    def name(self) -> str:
        """What the method is called in tables."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that decides its results, models among it, as JSON can hold it."""

    def __call__(
        self, target: Image, references: Sequence[tuple[Image, Annotation]], *, key: jax.Array
    ) -> Found:
        """Finds the class of the references in the target; the same key gives the same result.

        Args:
            target: ``uint8 [H, W, 3]``.
            references: One or more pictures with the object on each. One may be there twice.
            key: Random key.

        Raises:
            InputError: A picture is none, there are no references, or an annotation cannot be used.
        """


class Encodes(Protocol):
    """A pipeline that encodes pictures."""

    @property
    def cache(self) -> FeatureCache | None:
        """What remembers them by itself, if anything does."""

    def encode(self, image: Image) -> Encoded:
        """What the models make of a picture."""


@dataclass(eq=False)
class Encodings:
    """Encodes pictures, and remembers the last few by their content.

    In an evaluation a picture is a target once and a reference at times. A pipeline with a cache remembers
    by itself; then nothing is kept here.

    Attributes:
        matcher: Whose models encode.
        pictures: Most pictures that are kept.
    """

    matcher: Encodes
    pictures: int = 16
    _kept: OrderedDict[str, Encoded] = field(default_factory=OrderedDict, init=False, repr=False)

    def encode(self, image: Image) -> Encoded:
        """What the models make of a picture.

        Raises:
            InputError: ``image`` is not ``uint8 [H, W, 3]``.
        """
        check_image("image", image)
        if self.matcher.cache is not None or self.pictures < 1:
            return self.matcher.encode(image)
        key = content_key(image, "one class")
        encoded = self._kept.pop(key, None)
        self._kept[key] = self.matcher.encode(image) if encoded is None else encoded
        while len(self._kept) > self.pictures:
            self._kept.popitem(last=False)
        return self._kept[key]

    def references(
        self, references: Sequence[tuple[Image, Annotation]], refer: Callable[..., Referred], **options: Any
    ) -> list[Referred]:
        """The references encoded.

        Args:
            references: Pictures with their annotations.
            refer: The pipeline's own ``reference``.
            options: For it, too.

        Raises:
            InputError: There are none, or one cannot be used.
        """
        if not references:
            raise InputError("There are no references; expected at least one picture with its annotation.")
        return [
            refer(self.encode(image), annotation, class_name=CLASS, **options)
            for image, annotation in references
        ]


def settings_of(matcher: Softmatcher, own: Mapping[str, Any]) -> dict[str, Any]:
    """Models, and a method's own settings, with what only Python tells apart made plain (tuples are lists).

    Args:
        matcher: Holds the models.
        own: Settings of the method.
    """
    models = {"features": matcher.features.name, "masks": matcher.masks.name}
    plain: dict[str, Any] = json.loads(json.dumps({**models, **own}))
    return plain


@dataclass(frozen=True, eq=False)
class SoftmatcherOneClass:
    """Our pipeline as an :class:`OneClass`.

    Attributes:
        matcher: The pipeline.
        given_name: What it is called; its matching method when left out.
        encodings: Remembers pictures.
    """

    matcher: Softmatcher
    given_name: str = ""
    encodings: Encodings = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "encodings", Encodings(self.matcher))

    @property
    def name(self) -> str:
        """As given, or the matching method."""
        return self.given_name or self.matcher.config.matching.method

    @property
    def settings(self) -> Mapping[str, Any]:
        """Models and all settings of the pipeline."""
        return settings_of(self.matcher, asdict(self.matcher.config))

    def __call__(
        self, target: Image, references: Sequence[tuple[Image, Annotation]], *, key: jax.Array
    ) -> Found:
        """See :class:`OneClass`."""
        chosen = self.encodings.references(references, self.matcher.reference)
        found = self.matcher.segment(self.encodings.encode(target), chosen, key=key)[CLASS]
        return Found(found.mask, found.absent, found.reason)


def with_method(config: SoftmatcherConfig, method: str) -> SoftmatcherConfig:
    """The settings with another matching method; whitening is turned off where it does not go with it."""
    matching = config.matching
    whiten = matching.whiten and method in WHITENED
    return replace(config, matching=replace(matching, method=method, whiten=whiten))  # type: ignore[arg-type]


def one_class(method: str, matcher: Softmatcher) -> OneClass:
    """A method over the models of a pipeline.

    Args:
        method: One of :data:`~softmatch_jax.pipelines.one_class_names.ONE_CLASS_METHODS`.
        matcher: Its models, and the settings that the method leaves as they are.

    Raises:
        InputError: The method is unknown.
    """
    if method in MATCHING_METHODS:
        return SoftmatcherOneClass(replace(matcher, config=with_method(matcher.config, method)))
    if method not in BASELINES:
        *most, last = (repr(name) for name in ONE_CLASS_METHODS)
        raise InputError(f"method is {method!r}; expected {', '.join(most)} or {last}.")
    # The baselines stand on this file, which they take the calling convention from.
    from softmatch_jax.pipelines.baselines import GfSam, Matcher, PerSam

    made: dict[str, type[Matcher | PerSam | GfSam]] = {"matcher": Matcher, "persam": PerSam, "gf-sam": GfSam}
    return made[method](matcher)
