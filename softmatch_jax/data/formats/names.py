"""Names of files inside an archive, and which are refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from softmatch_jax._checks import InputError
from softmatch_jax.imaging import IMAGE_SUFFIXES

_LONGEST = 1000
_PART = 255  # bytes: the longest name of a file that common file systems take


def check_inside(name: str, where: str) -> str:
    """A relative name with ``/`` between its parts that cannot lead out of its folder.

    Raises:
        InputError: It is absolute, climbs with ``..``, names a drive, or holds what no file name may.
    """
    parts = name.split("/")
    reason = None
    if (
        not name
        or len(name) > _LONGEST
        or any(len(part.encode("utf-8", "replace")) > _PART for part in parts)
    ):
        reason = "is empty or too long"
    elif re.search("[\x00-\x1f\x7f\ud800-\udfff]", name):
        reason = "holds control characters"
    elif name.startswith("/") or "\\" in name or re.match(r"[A-Za-z]:", name):
        reason = "is absolute, names a drive or holds a backslash"
    elif any(part in ("", ".", "..") for part in parts):
        reason = "has an empty part, '.' or '..'"
    if reason is not None:
        raise InputError(
            f"{where} names the file {name!r:.100}, which {reason}; expected a plain path inside it."
        )
    return name


def without_suffix(name: str) -> str:
    """A name without its last ending."""
    return str(PurePosixPath(name).with_suffix(""))


def is_picture(name: str) -> bool:
    """Whether a name ends like that of a picture."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def distinct_names(names: Iterable[str]) -> list[str]:
    """Names that differ even without their endings and in lower case; one that does not gets a number.

    A format that puts ``x.txt`` beside ``x.jpg`` has one file for ``x.jpg`` and ``x.png``.
    """
    wanted = list(names)
    reserved = {without_suffix(name).casefold() for name in wanted}
    taken: set[str] = set()
    found = []
    for name in wanted:
        path, chosen, number = PurePosixPath(name), name, 2
        while (key := without_suffix(chosen).casefold()) in taken or (chosen != name and key in reserved):
            chosen = str(path.with_name(f"{path.stem}_{number}{path.suffix}"))
            number += 1
        taken.add(key)
        found.append(chosen)
    return found


def find_picture(entries: frozenset[str], base: str, name: str) -> str | None:
    """The entry that is the picture ``name``: in ``base``, in its ``images``, or the only one so called."""
    for place in (base + name, f"{base}images/{name}"):
        if place in entries:
            return place
    ends = [entry for entry in entries if entry.endswith("/" + name)]
    return ends[0] if len(ends) == 1 else None
