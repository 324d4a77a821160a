"""Checksums of files: what a result was made from, and the source of each target's randomness."""

from __future__ import annotations

import hashlib
import os
import zlib
from typing import NamedTuple

from softmatch_jax._checks import InputError

_CHUNK = 1 << 20  # bytes


class Digest(NamedTuple):
    """Checksums of one file's content.

    Attributes:
        sha256: In hexadecimal.
        crc32: Folded into the random key, so that a result depends on the content alone.
    """

    sha256: str
    crc32: int


def file_digest(path: str | os.PathLike[str]) -> Digest:
    """Checksums of a file, read piece by piece.

    Raises:
        InputError: The file cannot be read.
    """
    sha256, crc32 = hashlib.sha256(), 0
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                sha256.update(chunk)
                crc32 = zlib.crc32(chunk, crc32)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the file's permissions.") from None
    return Digest(sha256.hexdigest(), crc32)
