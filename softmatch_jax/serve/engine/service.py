"""The models at work on requests, and what they remember from one to the next."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import jax
import numpy as np

from softmatch_jax import __version__
from softmatch_jax._checks import InputError
from softmatch_jax._types import Image, Labels
from softmatch_jax.imaging import DEFAULT_MAX_PIXELS, fit_longest, read_image, resize_map, resize_mask
from softmatch_jax.models import Storable
from softmatch_jax.pipelines import ClassSegmentation, Encoded, Reference, Softmatcher
from softmatch_jax.pipelines.completing import complete_mask
from softmatch_jax.pipelines.correcting import correct_labels
from softmatch_jax.pipelines.merging import split_groups
from softmatch_jax.pipelines.reference import make_reference
from softmatch_jax.pipelines.reference_set import ReferenceSet
from softmatch_jax.prompting import Seeds
from softmatch_jax.serve.engine.marking import marked_pixels, objects_of, pixels_of
from softmatch_jax.serve.engine.recent import Recent
from softmatch_jax.serve.engine.requests import (
    Completed,
    Completion,
    EngineInfo,
    Example,
    Examples,
    Matched,
    MatchedClass,
    Matching,
    Picture,
    uninterrupted,
)
from softmatch_jax.serve.engine.uncertainty import class_uncertainty, target_uncertainty
from softmatch_jax.serve.engine.warming import remember_programs, warm_up
from softmatch_jax.serve.project import documents
from softmatch_jax.serve.project.documents import Prompt

HEAT_SIDE = 256
"""Longer side of a heat map."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """How much is remembered, in bytes of arrays.

    Attributes:
        pictures: What the models made of pictures.
        references: Examples as references, and sets of them.
        masks: Steps of corrections.
    """

    pictures: int = 1 << 30
    references: int = 1 << 28
    masks: int = 1 << 27


class Pauses:
    """Calls something between stages, and counts the seconds that it took."""

    def __init__(self, between: Callable[[], None]) -> None:
        self.seconds = 0.0
        self._between = between

    def __call__(self) -> None:
        """Pauses once."""
        started = time.perf_counter()
        try:
            self._between()
        finally:
            self.seconds += time.perf_counter() - started


class ModelService:
    """A pipeline as :class:`~softmatch_jax.serve.engine.requests.Models`; for one thread.

    What it remembers changes no answer: the same request has the same one, whatever came before.
    """

    def __init__(
        self,
        matcher: Softmatcher,
        *,
        backend: str = "embedded",
        memory: Memory | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        programs: Path | None = None,
    ) -> None:
        """Takes the pipeline.

        Args:
            matcher: Models and settings.
            backend: What they are called in short.
            memory: How much is remembered.
            max_pixels: Pictures of more are refused.
            programs: Folder that keeps what is compiled for the next start.
        """
        memory = memory or Memory()
        self.matcher, self.backend, self.max_pixels = matcher, backend, max_pixels
        self._programs = programs
        self._pictures: Recent[Encoded] = Recent(memory.pictures)
        self._references: Recent[Reference] = Recent(memory.references)
        self._sets: Recent[ReferenceSet] = Recent(memory.references)
        self._steps: Recent[Labels] = Recent(memory.masks)

    @cached_property
    def info(self) -> EngineInfo:
        """What the models are: version, models, and a checksum of the settings."""
        matcher = self.matcher
        settings = json.dumps(asdict(matcher.config), sort_keys=True, default=str)
        names = {
            "softmatch-jax": __version__,
            "features": matcher.features.name,
            "masks": matcher.masks.name,
            "embedding": matcher.masks.embedding_name if isinstance(matcher.masks, Storable) else "",
            "text": "" if matcher.text is None else matcher.text.name,
            "settings": hashlib.sha256(settings.encode()).hexdigest()[:16],
        }
        model = "; ".join(f"{name} {value}" for name, value in names.items() if value)
        return EngineInfo(backend=self.backend, model=model, texts=matcher.text is not None)

    def warm_up(self) -> None:
        """Compiles what first requests would wait for, on a made-up picture."""
        if self._programs is not None:
            remember_programs(self._programs)
        warm_up(self.matcher)

    def encode(self, picture: Picture) -> None:
        """Encodes a picture ahead of need.

        Raises:
            InputError: Its file cannot be read.
        """
        self._encoded(picture)

    def complete(self, request: Completion) -> Completed:
        """The mask that prompts mean, or the mask that they correct made better.

        Without a mask to correct the parts of the object that lie apart are told apart where they are of
        like size, as the pipeline does. A corrected mask may be empty.

        Raises:
            InputError: The file cannot be read, the prompts mark nothing or everything, or lie outside the
                picture.
        """
        started = time.perf_counter()
        if not request.prompts:
            raise InputError("There are no prompts; expected at least one that marks the object.")
        encoded = self._encoded(request.picture)
        if request.base is None:
            labels = self._completed(encoded, request.prompts)
        else:
            labels = self._corrected(encoded, request.picture, request.prompts, request.base)
        return Completed(labels=labels, seconds=time.perf_counter() - started)

    def match(
        self, requests: list[Matching], *, between: Callable[[], None] = uninterrupted
    ) -> list[Matched | Exception]:
        """Answers requests with the same examples and seed; one that fails does not stop the others.

        ``between`` is called between the stages of a matching, and may call this service; what it raises is
        the answer to the request at hand.
        """
        answers: list[Matched | Exception] = []
        for request in requests:
            try:
                answers.append(self._matched(request, Pauses(between)))
            except Exception as error:
                answers.append(error)
        return answers

    def _encoded(self, picture: Picture) -> Encoded:
        return self._pictures.get_or_make(
            picture.digest, lambda: self.matcher.encode(self._read(picture.path))
        )

    def _read(self, path: Path) -> Image:
        return read_image(path, max_pixels=self.max_pixels)

    def _completed(self, encoded: Encoded, prompts: tuple[Prompt, ...]) -> Labels:
        matcher, pieces = self.matcher, np.zeros(encoded.image_size, np.int32)
        for number, marked in enumerate(objects_of(prompts, encoded.image_size), start=1):
            mask = complete_mask(encoded, marked, matcher.masks, matcher.config)
            pieces[mask & (pieces == 0)] = number
        return split_groups(pieces).astype(np.uint16)

    def _corrected(
        self, encoded: Encoded, picture: Picture, prompts: tuple[Prompt, ...], base: Labels
    ) -> Labels:
        """The mask corrected by one prompt after the other; all steps but new ones are remembered."""
        start = picture.digest, _checksum(base)
        labels, known = np.asarray(base, np.uint16), 0
        for count in range(len(prompts), 0, -1):
            step = self._steps.get((*start, prompts[:count]))
            if step is not None:
                labels, known = step, count
                break
        for count in range(known + 1, len(prompts) + 1):
            labels = self._step(encoded, labels, prompts[:count])
            self._steps.put((*start, prompts[:count]), labels)
        return labels

    def _step(self, encoded: Encoded, labels: Labels, prompts: tuple[Prompt, ...]) -> Labels:
        """The last of some prompts, applied."""
        *earlier, last = prompts
        size, positive = encoded.image_size, isinstance(last, documents.Box) or last.positive
        stroke, region = pixels_of(last, size)
        on, off = marked_pixels(earlier, size)
        other = (off if positive else on) & ~stroke
        marked = Seeds(stroke, other if region is None else other | ~region, region)
        matcher = self.matcher
        return correct_labels(encoded, labels, marked, matcher.masks, matcher.config, positive=positive)

    def _matched(self, request: Matching, pauses: Pauses) -> Matched:
        started = time.perf_counter()
        joined = self._sets.get_or_make(request.examples.digest, lambda: self._joined(request.examples))
        pauses()
        target = self._encoded(request.picture)
        pauses()
        phrases = {name: text for name, text in request.examples.phrases.items() if name in joined.names}
        texts = phrases if self.matcher.text is not None else None
        key = jax.random.key(request.seed)
        found = self.matcher.segment(target, joined, key=key, texts=texts, between=pauses)
        bar = self.matcher.config.decision.min_resemblance
        made = {entry.name: _class_answer(entry, bar) for entry in found.classes}
        return Matched(
            classes={name: answer for name, (answer, _) in made.items()},
            uncertainty=target_uncertainty(doubt for _, doubt in made.values()),
            seconds=time.perf_counter() - started - pauses.seconds,
        )

    def _joined(self, examples: Examples) -> ReferenceSet:
        if not examples.references:
            raise InputError("There are no examples; expected at least one reference to match with.")
        return self.matcher.join([self._reference(example) for example in examples.references])

    def _reference(self, example: Example) -> Reference:
        key = example.picture.digest, example.class_id, _checksum(example.labels), example.prompts
        return self._references.get_or_make(key, lambda: self._referred(example))

    def _referred(self, example: Example) -> Reference:
        """An example as a reference; what was marked beside the object counts as its surroundings."""
        encoded, mask = self._encoded(example.picture), example.labels > 0
        if mask.shape != encoded.image_size:
            raise InputError(
                f"The mask of an example is {mask.shape[1]}x{mask.shape[0]} pixels but its picture is "
                f"{encoded.image_size[1]}x{encoded.image_size[0]}; expected the same size."
            )
        _, off = marked_pixels(example.prompts, encoded.image_size)
        off &= ~mask
        marked = Seeds(mask, off if off.any() else ~mask, exact=not off.any())
        return make_reference(example.class_id, mask, marked, encoded)


def _checksum(labels: Labels) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(labels).data, digest_size=16).digest()


def _class_answer(found: ClassSegmentation, bar: float) -> tuple[MatchedClass, float]:
    """What was found of a class, and how unsure that is."""
    size = fit_longest(found.match_map.shape, HEAT_SIDE, enlarge=False)
    small = resize_map(found.match_map, size)
    mask = None if found.absent else resize_mask(found.mask, size)
    doubt = class_uncertainty(found.resemblance, bar, small, mask)
    answer = MatchedClass(
        labels=None if found.absent else found.instance_labels.astype(np.uint16),
        absent=found.absent,
        reason=found.reason,
        score=found.score,
        resemblance=found.resemblance,
        log_evidence=found.log_evidence,
        instances=len(found.instances),
        heat=np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8),
    )
    return answer, doubt


def embedded_service(memory: Memory | None = None, programs: Path | None = None) -> ModelService:
    """The models that come with the package, as the app uses them: descriptor features, the small SAM."""
    return ModelService(Softmatcher.embedded(masks="tiny"), memory=memory, programs=programs)
