"""Folders, text and JSON on disk; what is not there or not readable is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from softmatch_jax._checks import InputError


def check_folder(path: Path, expected: str = "a folder") -> None:
    """Raises ``InputError`` unless ``path`` is a folder; ``expected`` says of what."""
    if not path.is_dir():
        state = "is not a folder" if path.exists() else "does not exist"
        raise InputError(f"{path} {state}; expected {expected} (check the path).")


def make_folder(path: Path) -> Path:
    """Makes a folder and those above it.

    Raises:
        InputError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be made ({error.strerror}); give a folder that can be written to."
        ) from None
    return path


def list_folders(root: Path) -> tuple[str, ...]:
    """Names of the folders in ``root``, sorted, hidden ones left out.

    Raises:
        InputError: ``root`` is not a folder.
    """
    check_folder(root)
    return tuple(sorted(path.name for path in root.iterdir() if path.is_dir() and path.name[0] != "."))


def files_by_stem(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    """The files of a folder that end so, by their name without the ending, sorted.

    Hidden ones, which file managers leave behind, do not count.

    Raises:
        InputError: The folder is missing, or two such files differ by their ending alone.
    """
    check_folder(folder)
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in found:
            raise InputError(
                f"{folder} holds both {found[path.stem].name} and {path.name}; expected one file of the name "
                f"{path.stem!r} (remove the other)."
            )
        found[path.stem] = path
    return found


def read_text(path: Path, expected: str = "a text file") -> str:
    """Reads UTF-8, with or without its mark.

    Args:
        path: The file.
        expected: What should be there, for the message.

    Raises:
        InputError: The file cannot be read, or is of another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); expected {expected} (check that it is there and may "
            "be read)."
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text in UTF-8; expected {expected} (save it in UTF-8).") from None


def read_json(path: Path, expected: str = "a JSON file") -> Any:
    """Reads JSON.

    Raises:
        InputError: As :func:`read_text`; or the file is not valid JSON.
    """
    try:
        return json.loads(read_text(path, expected))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} is not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}; it may be "
            "cut short (export or copy it again, or mend it there)."
        ) from None
    except (RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is nested too deeply or holds an endless number; mend it.") from None
