"""What all readers have in common: finding files, fields of JSON, sizes of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from softmatch_jax._checks import InputError
from softmatch_jax._types import Size
from softmatch_jax.data.folder_coco import HEAD, shows_keys
from softmatch_jax.data.formats.sources import Source
from softmatch_jax.imaging import image_size


def looks_like(source: Source, name: str, keys: Sequence[str]) -> bool:
    """Whether one of ``keys`` occurs as a key near the beginning of a JSON file."""
    return shows_keys(source.head(name, HEAD), keys)


def only(source: Source, found: Sequence[str], what: str) -> str:
    """The only one of ``found``; raises ``InputError`` if there is none or several."""
    if len(found) != 1:
        listed = f"has {len(found)} ({', '.join(found[:3])})" if found else "has none"
        raise InputError(f"{source.title} {listed}; expected one {what}.")
    return found[0]


def field(entry: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """A field of a JSON object; raises ``InputError`` unless it is there and of ``kind``."""
    value = entry.get(key) if isinstance(entry, dict) else None
    # JSON's true is an int to Python.
    if isinstance(value, bool) or not isinstance(value, kind):
        names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise InputError(f"{where} has {key} = {value!r:.40}; expected {names}.")
    return value


def size_of(source: Source, entry: str) -> Size:
    """``(H, W)`` of a picture in a source, upright; raises ``InputError`` if it cannot be read."""
    with source.local(entry) as path, renamed(source, path, entry):
        return image_size(path)


def check_said(source: Source, entry: str | None, size: Size, where: str) -> None:
    """Raises ``InputError`` if the picture is in the source and not of the size that a file says."""
    actual = size if entry is None else size_of(source, entry)
    if actual != size:
        raise InputError(
            f"{where} says that {entry} is {size[1]}x{size[0]} pixels but it is {actual[1]}x{actual[0]}; "
            "expected annotations made on this picture at this size (export both again, upright)."
        )


@contextmanager
def renamed(source: Source, path: Path, name: str) -> Iterator[None]:
    """Lets errors about ``path``, which may be a passing copy, name the file in the source instead."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(str(path), f"{source.title}: {name}")) from None
