"""What the engine is asked, put together from the documents of a project."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softmatch_jax._types import Labels
from softmatch_jax.serve.engine.requests import (
    Completed,
    Completion,
    Example,
    Examples,
    Matched,
    MatchedClass,
    Matching,
    Picture,
)
from softmatch_jax.serve.project.documents import FoundClass, FoundDocument, MaskDocument
from softmatch_jax.serve.project.errors import NotFoundError
from softmatch_jax.serve.project.showing import examples_basis, references

if TYPE_CHECKING:
    from softmatch_jax.serve.project.pictures import Pictures
    from softmatch_jax.serve.project.state import State
    from softmatch_jax.serve.project.store import Store

MOST_UNCERTAIN = 1.0
"""Uncertainty of a picture that could not be matched: a person has to look at it."""


@dataclass(frozen=True, kw_only=True)
class ExampleSet:
    """The references of a project at one moment.

    Attributes:
        digest: Names them with all that decides how they match; empty where there are none.
        seed: What the draws of matching start from.
        items: Picture, class and raster of each.
    """

    digest: str
    seed: int
    items: tuple[tuple[str, str, str], ...]


def example_set(state: State, model: str) -> ExampleSet:
    """The references as they are now. Linear in what was drawn on them."""
    return ExampleSet(
        digest=examples_basis(state, model) or "", seed=state.project().seed, items=tuple(references(state))
    )


class Asking:
    """Makes requests and documents. Not thread-safe: the conductor's thread owns it.

    Args:
        store: Where rasters are.
        pictures: Where the files of pictures are.
    """

    def __init__(self, store: Store, pictures: Pictures) -> None:
        self._store, self._pictures = store, pictures
        self._examples: Examples | None = None
        self._labels: dict[str, Labels] = {}

    def picture(self, state: State, iid: str) -> Picture:
        """A picture's file.

        Raises:
            NotFoundError: It is not there.
        """
        image = state.image(iid)
        try:
            return Picture(image.digest, self._pictures.path(image.digest))
        except NotFoundError as error:
            raise NotFoundError(f"{image.name}: {error}") from None

    def told(self, sentence: str) -> str:
        """A sentence without the path of the project's folder, which is the server's alone."""
        folder = self._pictures.folder
        if not folder.is_absolute():
            return sentence
        return sentence.replace(f"{folder}{os.sep}", "").replace(str(folder), folder.name)

    def completion(self, state: State, iid: str, cid: str) -> Completion:
        """Asks what the prompts of a layer mean."""
        base = state.layer(iid, cid).base
        return Completion(
            picture=self.picture(state, iid),
            prompts=tuple(document.prompt for document in state.prompts(iid, cid)),
            base=None if base is None else self._store.raster(base),
        )

    def matching(self, state: State, iid: str, chosen: ExampleSet) -> Matching:
        """Asks what of the references is on a picture."""
        return Matching(
            picture=self.picture(state, iid),
            examples=self._examples_of(state, chosen),
            seed=chosen.seed,
        )

    def _examples_of(self, state: State, chosen: ExampleSet) -> Examples:
        if self._examples is not None and self._examples.digest == chosen.digest:
            return self._examples
        # Rasters of the set before are mostly those of this one.
        self._labels = {
            raster: self._labels[raster] if raster in self._labels else self._store.raster(raster)
            for _, _, raster in chosen.items
        }
        made = tuple(
            Example(
                picture=self.picture(state, iid),
                class_id=cid,
                labels=self._labels[raster],
                prompts=tuple(document.prompt for document in state.prompts(iid, cid)),
            )
            for iid, cid, raster in chosen.items
        )
        classes = {cid for _, cid, _ in chosen.items}
        phrases = {cid: phrase for cid in sorted(classes) if (phrase := state.class_(cid).phrase)}
        self._examples = Examples(digest=chosen.digest, references=made, phrases=phrases)
        return self._examples

    def mask(self, basis: str, answer: Completed) -> MaskDocument:
        """The document of a completed mask; its raster is kept."""
        return MaskDocument(
            basis=basis,
            raster=self._store.put_raster(answer.labels),
            area=int(np.count_nonzero(answer.labels)),
            seconds=answer.seconds,
        )

    def found(self, basis: str, answer: Matched) -> FoundDocument:
        """The document of what was found; its rasters and match maps are kept."""
        return FoundDocument(
            basis=basis,
            classes={cid: self._found_class(found) for cid, found in answer.classes.items()},
            uncertainty=answer.uncertainty,
            seconds=answer.seconds,
        )

    def _found_class(self, found: MatchedClass) -> FoundClass:
        return FoundClass(
            raster=None if found.labels is None else self._store.put_raster(found.labels),
            absent=found.absent,
            reason=found.reason,
            score=found.score,
            resemblance=found.resemblance,
            log_evidence=found.log_evidence,
            instances=found.instances,
            heat=self._store.put_heat(found.heat),
        )


def failed_mask(basis: str, sentence: str) -> MaskDocument:
    """The document of prompts that could not be completed."""
    return MaskDocument(basis=basis, raster=None, error=sentence)


def failed_found(basis: str, sentence: str) -> FoundDocument:
    """The document of a picture that could not be matched."""
    return FoundDocument(basis=basis, classes={}, uncertainty=MOST_UNCERTAIN, error=sentence)
