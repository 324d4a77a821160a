"""Which derived documents are out of date, kept up with as documents change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from softmatch_jax.serve.asking import ExampleSet, example_set
from softmatch_jax.serve.project.documents import FoundDocument, ImageDocument, MaskDocument, kind_of
from softmatch_jax.serve.project.showing import found_basis, layer_basis

if TYPE_CHECKING:
    from softmatch_jax.serve.project.state import State

Layer = tuple[str, str]

_DECIDES_EXAMPLES = frozenset({"project", "class", "image", "layer", "prompt", "mask"})


class Outdated:
    """What has to be made again. Only what a change may concern is looked at.

    Attributes:
        masks: Basis of the mask that each layer lacks, by how long it has lacked one.
        found: Basis of the finding that each picture lacks.
        pointless: Keys of derived documents that nothing decides any longer, with their basis.
        examples: The references, once looked.
    """

    def __init__(self) -> None:
        self.masks: dict[Layer, str] = {}
        self.found: dict[str, str] = {}
        self.pointless: dict[str, str] = {}
        self.examples: ExampleSet | None = None
        self._model: str | None = None

    def look(self, state: State, model: str, changed: Iterable[str] | None) -> None:
        """Takes in changes.

        Args:
            state: The documents, at least as new as the changes.
            model: What the engine's answers depend on.
            changed: Keys that may have changed; None: any.
        """
        everything = changed is None or model != self._model
        keys = set(state.docs) if everything or changed is None else set(changed)
        self._model = model
        if everything:
            self.masks, self.found, self.pointless = {}, {}, {}
        kinds = {kind_of(key) for key in keys}
        all_pictures = everything
        if everything or kinds & _DECIDES_EXAMPLES:
            before, self.examples = self.examples, example_set(state, model)
            all_pictures = all_pictures or before is None or before != self.examples
        for layer in sorted(_layers(state, keys)):
            self._look_at_layer(state, layer, model)
        pictures = state.of("image") if all_pictures else keys
        gone = set(self.found) if all_pictures else set()
        for iid in {key.split("/")[1] for key in pictures if "/" in key} | gone:
            self._look_at_picture(state, iid, model)

    def answered(self, key: str, basis: str) -> None:
        """Takes in that a derived document is as it would be made again."""
        outdated: dict[Any, str] = self.masks if kind_of(key) == "mask" else self.found
        _, iid, *cid = key.split("/")
        place = (iid, *cid) if cid else iid
        if outdated.get(place) == basis:
            del outdated[place]

    def again(self, state: State) -> None:
        """Counts documents that tell of a failure as out of date, if it is that of what is there now."""
        for key, mask in state.of("mask").items():
            _, iid, cid = key.split("/")
            if isinstance(mask, MaskDocument) and mask.error is not None:
                _note(self.masks, (iid, cid), layer_basis(state, iid, cid, self._model or ""), None)
        for key, found in state.of("found").items():
            iid = key.partition("/")[2]
            if isinstance(found, FoundDocument) and found.error is not None:
                _note(self.found, iid, found_basis(state, iid, self._model or ""), None)

    def _look_at_layer(self, state: State, layer: Layer, model: str) -> None:
        iid, cid = layer
        key = f"mask/{iid}/{cid}"
        document = state.get(key)
        there = document.basis if isinstance(document, MaskDocument) else None
        wanted = layer_basis(state, iid, cid, model) if _exists(state, iid, cid) else None
        _note(self.masks, layer, wanted, there)
        # Behind paint, and on a picture that is not open, it stays, and is right again once that is undone.
        _note(self.pointless, key, None if state.prompts(iid, cid) else there, None)

    def _look_at_picture(self, state: State, iid: str, model: str) -> None:
        if not iid.startswith("i"):
            return
        key = f"found/{iid}"
        document = state.get(key)
        there = document.basis if isinstance(document, FoundDocument) else None
        wanted = found_basis(state, iid, model) if state.get(f"image/{iid}") is not None else None
        _note(self.found, iid, wanted, there)
        image = state.get(f"image/{iid}")
        # What lies behind an accepted or rejected picture stays until that is opened again.
        stays = wanted is not None or not isinstance(image, ImageDocument) or image.status != "open"
        _note(self.pointless, key, None if stays else there, None)


def _note(outdated: dict[Any, str], key: object, wanted: str | None, there: str | None) -> None:
    if wanted is None or wanted == there:
        outdated.pop(key, None)
    else:
        outdated[key] = wanted


def _exists(state: State, iid: str, cid: str) -> bool:
    return state.get(f"image/{iid}") is not None and state.get(f"class/{cid}") is not None


def _layers(state: State, keys: set[str]) -> set[Layer]:
    """The layers that documents under these keys may concern."""
    layers: set[Layer] = set()
    pictures, classes = set(), set()
    for key in keys:
        kind, *rest = key.split("/")
        if kind in ("layer", "prompt", "mask"):
            layers.add((rest[0], rest[1]))
        elif kind == "image":
            pictures.add(rest[0])
        elif kind == "class":
            classes.add(rest[0])
    if pictures or classes:
        for kind in ("prompt", "layer", "mask"):
            for key in state.of(kind):
                _, iid, cid, *_ = key.split("/")
                if iid in pictures or cid in classes:
                    layers.add((iid, cid))
    return layers
