"""Which mask is shown, which are references, and what derived documents are derived from."""

from __future__ import annotations

import functools
from typing import cast

from softmatch_jax.serve.project.documents import (
    Digest,
    FoundDocument,
    ImageDocument,
    LayerDocument,
    MaskDocument,
    digest_of_json,
)
from softmatch_jax.serve.project.state import State

_VERSION = 1
"""Counts changes to what a basis is made of: a new one makes all derived documents out of date."""


def shown(state: State, iid: str, cid: str) -> Digest | None:
    """The raster that is shown of a class on a picture, or None for none.

    On an accepted picture it is the accepted one. Else the first of these that there is: what was painted;
    on a layer with prompts what they complete to and, until that is there, what they correct; on a layer
    without prompts what matching found.
    """
    image = cast("ImageDocument | None", state.get(f"image/{iid}"))
    if image is None or state.get(f"class/{cid}") is None:
        return None
    if image.status == "accepted":
        return (image.accepted or {}).get(cid)
    layer = state.layer(iid, cid)
    if layer.painted is not None:
        return layer.painted
    if state.documents.group(f"prompt/{iid}/{cid}"):
        mask = cast("MaskDocument | None", state.get(f"mask/{iid}/{cid}"))
        return layer.base if mask is None or mask.raster is None else mask.raster
    found = cast("FoundDocument | None", state.get(f"found/{iid}"))
    found_class = None if found is None else found.classes.get(cid)
    return None if found_class is None else found_class.raster


def all_shown(state: State, iid: str) -> dict[str, Digest]:
    """The rasters that are shown on a picture, by class."""
    classes = (key.partition("/")[2] for key in state.of("class"))
    pairs = ((cid, shown(state, iid, cid)) for cid in classes)
    return {cid: digest for cid, digest in pairs if digest is not None}


def references(state: State) -> list[tuple[str, str, Digest]]:
    """The references: picture, class and raster, sorted by the layer's key.

    They are the layers marked as such that show a mask, on pictures that are not rejected.
    """
    return list(_references(state))


def layer_basis(state: State, iid: str, cid: str, model: str) -> Digest | None:
    """Names all that decides what the prompts of a layer complete to.

    None where that is not shown, so that nothing is to be derived: there are no prompts, the layer is
    painted, or the picture is not open.
    """
    image = cast("ImageDocument | None", state.get(f"image/{iid}"))
    layer = state.layer(iid, cid)
    prompts = state.prompts(iid, cid)
    if image is None or image.status != "open" or layer.painted is not None or not prompts:
        return None
    drawn = [prompt.checksum for prompt in prompts]
    return digest_of_json(["mask", _VERSION, model, image.digest, layer.base, drawn])


def examples_basis(state: State, model: str) -> Digest | None:
    """Names the references with all that decides how they match; None where there are none."""
    return _examples_basis(state, model)


def found_basis(state: State, iid: str, model: str) -> Digest | None:
    """Names all that decides what matching finds on a picture.

    None where nothing is to be derived: there are no references, the picture is itself a reference of every
    class that has one, or it is not open.
    """
    image = cast("ImageDocument | None", state.get(f"image/{iid}"))
    if image is None or image.status != "open":
        return None
    examples = _examples_basis(state, model)
    if examples is None or _wanted_classes(state) <= _own_references(state).get(iid, frozenset()):
        return None
    return digest_of_json(["found", _VERSION, examples, image.digest, state.project().seed])


# A thousand pictures ask for the references of one state, which only a change makes different.
@functools.lru_cache(maxsize=4)
def _references(state: State) -> tuple[tuple[str, str, Digest], ...]:
    found = []
    for key, layer in state.of("layer").items():
        if not cast(LayerDocument, layer).reference:
            continue
        _, iid, cid = key.split("/")
        image = cast("ImageDocument | None", state.get(f"image/{iid}"))
        digest = shown(state, iid, cid)
        if image is not None and image.status != "rejected" and digest is not None:
            found.append((key, (iid, cid, digest)))
    return tuple(reference for _, reference in sorted(found))


@functools.lru_cache(maxsize=4)
def _examples_basis(state: State, model: str) -> Digest | None:
    if not _references(state):
        return None
    examples = [
        [
            state.image(iid).digest,
            cid,
            raster,
            [prompt.checksum for prompt in state.prompts(iid, cid)],
        ]
        for iid, cid, raster in _references(state)
    ]
    # A class's name decides nothing: engines know it by its identity.
    phrases = {cid: state.class_(cid).phrase for _, cid, _ in _references(state)}
    return digest_of_json(["examples", _VERSION, model, examples, phrases])


@functools.lru_cache(maxsize=4)
def _wanted_classes(state: State) -> frozenset[str]:
    return frozenset(cid for _, cid, _ in _references(state))


@functools.lru_cache(maxsize=4)
def _own_references(state: State) -> dict[str, frozenset[str]]:
    own: dict[str, frozenset[str]] = {}
    for iid, cid, _ in _references(state):
        own[iid] = own.get(iid, frozenset()) | {cid}
    return own
