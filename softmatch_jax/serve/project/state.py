"""What a project is at one moment: an immutable snapshot, sharing with the one before what stayed equal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias, cast

from softmatch_jax.serve.project.documents import (
    ClassDocument,
    Digest,
    Document,
    FoundDocument,
    ImageDocument,
    LayerDocument,
    MaskDocument,
    ProjectDocument,
    PromptDocument,
    kind_of,
)
from softmatch_jax.serve.project.errors import NotFoundError

Changes: TypeAlias = dict[str, Document | None]
"""Documents that take the place of those under their keys; None takes one away."""

_NO_LAYER = LayerDocument()


class Documents(Mapping[str, Document]):
    """All documents by key; immutable.

    They lie in groups, one for each kind and one for the prompts of each layer, so that a change copies the
    groups that it touches and not the thousands of others.
    """

    def __init__(self, documents: Mapping[str, Document] = MappingProxyType({})) -> None:
        groups: dict[str, dict[str, Document]] = {}
        for key, document in documents.items():
            groups.setdefault(_group_of(key), {})[key] = document
        self._groups = groups

    def changed(self, changes: Mapping[str, Document | None]) -> Documents:
        """The documents after ``changes``."""
        groups = dict(self._groups)
        copied: set[str] = set()
        for key, document in changes.items():
            group = _group_of(key)
            if group not in copied:
                groups[group] = dict(groups.get(group, {}))
                copied.add(group)
            if document is None:
                groups[group].pop(key, None)
            else:
                groups[group][key] = document
        for group in copied:
            if not groups[group]:
                del groups[group]
        changed = Documents()
        changed._groups = groups
        return changed

    def group(self, name: str) -> Mapping[str, Document]:
        """The documents of a kind, or the prompts of a layer: ``prompt/<image>/<class>``."""
        return MappingProxyType(self._groups.get(name, {}))

    def prompt_groups(self) -> list[str]:
        """``prompt/<image>/<class>`` of the layers that have prompts."""
        return [name for name in self._groups if name.startswith("prompt/")]

    def __getitem__(self, key: str) -> Document:
        return self._groups.get(_group_of(key), {})[key]

    def __iter__(self) -> Iterator[str]:
        for group in self._groups.values():
            yield from group

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))


@dataclass(frozen=True, eq=False)
class State:
    """A project at one moment.

    Attributes:
        seq: Number of the last entry of the log that it holds.
        boot: Which opening of the project it belongs to; after another, numbers may have been given anew.
        docs: All documents by key.
        undo: ``do`` of what undoing would undo.
        redo: ``do`` of what redoing would do again.
    """

    seq: int
    boot: str
    docs: Mapping[str, Document]
    undo: str | None = None
    redo: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.docs, Documents):
            object.__setattr__(self, "docs", Documents(self.docs))

    @property
    def documents(self) -> Documents:
        """``docs`` by its own type."""
        return cast(Documents, self.docs)

    def get(self, key: str) -> Document | None:
        """The document under a key."""
        return self.docs.get(key)

    def of(self, kind: str) -> Mapping[str, Document]:
        """The documents of a kind by key."""
        if kind != "prompt":
            return self.documents.group(kind)
        groups = (self.documents.group(name) for name in self.documents.prompt_groups())
        return MappingProxyType({key: document for group in groups for key, document in group.items()})

    def project(self) -> ProjectDocument:
        """What holds for all of it."""
        return cast(ProjectDocument, self.docs["project"])

    def image(self, iid: str) -> ImageDocument:
        """A picture; raises ``NotFoundError`` where there is none of that name."""
        image = self.docs.get(f"image/{iid}")
        if image is None:
            raise NotFoundError(f"There is no picture {iid} in the project; it may have been deleted.")
        return cast(ImageDocument, image)

    def class_(self, cid: str) -> ClassDocument:
        """A class; raises ``NotFoundError`` where there is none of that name."""
        document = self.docs.get(f"class/{cid}")
        if document is None:
            raise NotFoundError(f"There is no class {cid} in the project; it may have been deleted.")
        return cast(ClassDocument, document)

    def layer(self, iid: str, cid: str) -> LayerDocument:
        """What a person made of a class on a picture; an empty one where there is nothing."""
        return cast(LayerDocument, self.docs.get(f"layer/{iid}/{cid}", _NO_LAYER))

    def prompts(self, iid: str, cid: str) -> tuple[PromptDocument, ...]:
        """The prompts of a layer in the order in which they were drawn."""
        prompts = self.documents.group(f"prompt/{iid}/{cid}").values()
        return tuple(sorted(cast("list[PromptDocument]", list(prompts)), key=lambda prompt: prompt.order))


def all_rasters(documents: Iterable[Document]) -> set[Digest]:
    """The rasters that documents name."""
    return {digest for document in documents for digest in _rasters(document) if digest is not None}


def all_heats(documents: Iterable[Document]) -> set[Digest]:
    """The match maps that documents name."""
    found = (document for document in documents if isinstance(document, FoundDocument))
    classes = (found_class for document in found for found_class in document.classes.values())
    return {found_class.heat for found_class in classes if found_class.heat is not None}


def _rasters(document: Document) -> Iterable[Digest | None]:
    if isinstance(document, ImageDocument):
        return (document.accepted or {}).values()
    if isinstance(document, LayerDocument):
        return (document.base, document.painted)
    if isinstance(document, MaskDocument):
        return (document.raster,)
    if isinstance(document, FoundDocument):
        return (found.raster for found in document.classes.values())
    return ()


def _group_of(key: str) -> str:
    return key.rpartition("/")[0] if key.startswith("prompt/") else kind_of(key)
