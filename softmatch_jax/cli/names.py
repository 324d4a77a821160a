"""Names of output files: unique, the same every time, and safe on every file system."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

_LONGEST_TARGET = 120  # bytes; most file systems allow 255, and suffixes follow
_LONGEST_CLASS = 60


def file_slug(text: str, longest: int, *, dots: bool) -> str:
    """Makes part of a file name of ``text``: letters and digits of any script, ``-``, ``_``, and dots.

    All else, path separators among it, becomes ``_``; dots at the ends go, so that nothing is hidden
    or means a folder.

    Args:
        text: Any text.
        longest: Most bytes in UTF-8.
        dots: Whether dots may stay.
    """
    allowed = "-_." if dots else "-_"
    composed = unicodedata.normalize("NFC", text.strip())
    slug = "".join(c if c.isalnum() or c in allowed else "_" for c in composed).strip(".")
    return slug.encode()[:longest].decode(errors="ignore") or "_"


def name_targets(paths: Sequence[Path]) -> list[str]:
    """One name for each target: its stem, with its suffix or folder where stems are shared.

    Args:
        paths: Distinct paths.

    Returns:
        Names that differ even where case does not count, in the order of ``paths``.
    """
    queues = [_candidates(path) for path in paths]
    names = [next(queue) for queue in queues]
    while True:
        counts = Counter(name.casefold() for name in names)
        if len(counts) == len(names):
            return names
        # The last candidate holds a checksum of the path, so this ends.
        names = [
            next(queue, name) if counts[name.casefold()] > 1 else name
            for name, queue in zip(names, queues, strict=True)
        ]


def _candidates(path: Path) -> Iterator[str]:
    suffix = path.suffix.lstrip(".")
    parents = [part for part in path.parts[:-1] if part not in (path.anchor, "..")]
    texts = [path.stem, f"{path.stem}-{suffix}"]
    for depth in range(1, len(parents) + 1):
        above = "-".join(parents[-depth:])
        texts += [f"{above}-{path.stem}", f"{above}-{path.stem}-{suffix}"]
    for text in texts:
        yield file_slug(text, _LONGEST_TARGET, dots=True)
    checksum = hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:12]
    yield f"{file_slug(path.stem, _LONGEST_TARGET - 13, dots=True)}-{checksum}"


def name_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """One slug without dots for each class, numbered where slugs would be the same."""
    slugs: list[str] = []
    taken: set[str] = set()
    for name in classes:
        slug = base = file_slug(name, _LONGEST_CLASS, dots=False)
        number = 1
        while slug.casefold() in taken:
            number += 1
            slug = f"{base}-{number}"
        taken.add(slug.casefold())
        slugs.append(slug)
    return tuple(slugs)


def printable(path: Path | str) -> str:
    """A path as text that can be written as UTF-8, whatever bytes are in it."""
    return str(path).encode(errors="surrogateescape").decode(errors="replace")
