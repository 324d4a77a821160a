"""The names of classes, from the small files that tools write beside their annotations."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from softmatch_jax._checks import InputError
from softmatch_jax.data.files import read_json, read_text


def read_name_list(path: Path) -> dict[int, str]:
    """Reads one name a line, or a JSON list, or a JSON object of values and names.

    The first line is value 0; of labelme's lists, which begin with ``__ignore__``, the second. Empty lines
    at the end are passed over.

    Raises:
        InputError: The file cannot be read, or names are missing, empty or repeated.
    """
    if path.suffix.lower() == ".json":
        content = read_json(path)
        if isinstance(content, dict):
            return _checked(path, [(_number(path, key), name) for key, name in content.items()])
        if not isinstance(content, list):
            raise InputError(f'{path} holds no names; expected a list, or an object such as {{"1": "cat"}}.')
        return _checked(path, list(enumerate(content)))
    lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
    if lines and lines[0] == "__ignore__":
        lines = lines[1:]
    return _checked(path, list(enumerate(lines)))


def read_yaml_names(path: Path) -> dict[int, str] | None:
    """Reads the ``names`` of a YOLO data file: a list or a map, in one line or in several.

    Only the little YAML that such files are made of is understood.

    Returns:
        The names by class index; ``None`` if the file has no ``names``.

    Raises:
        InputError: The file cannot be read, its names are not understood, or ``nc`` is not their number.
    """
    lines = [_without_comment(line) for line in read_text(path).splitlines()]
    start = next((i for i, line in enumerate(lines) if re.match(r"names\s*:", line)), None)
    if start is None:
        return None
    block = [lines[start].split(":", 1)[1].strip()]
    for line in lines[start + 1 :]:
        if line and not line[0].isspace() and line[0] not in "-]}":
            break
        block.append(line.strip())
    block = [line for line in block if line]
    names = _checked(path, _entries(path, block))
    count = next((m[1] for line in lines if (m := re.match(r"nc\s*:\s*(\d+)\s*$", line))), None)
    if count is not None and int(count) != len(names):
        raise InputError(f"{path} says nc: {count} but has {len(names)} names; expected as many (mend it).")
    return names


def _entries(path: Path, block: list[str]) -> list[tuple[int, Any]]:
    """The index and name of each entry."""
    text = " ".join(block)
    if text[:1] in ("[", "{"):
        if text[-1] != {"[": "]", "{": "}"}[text[0]]:
            raise InputError(f"{path} has names that open with {text[0]} and do not close; mend them.")
        parts = re.findall(r"""(?:[^,"']|"(?:\\.|[^"\\])*"|'(?:''|[^'])*')+""", text[1:-1])
        items = [part.strip() for part in parts if part.strip()]
        pairs = text[0] == "{"
    else:
        pairs = not re.match(r"-\s", text)
        items = block if pairs else [_listed(path, line) for line in block]
    if not pairs:
        return list(enumerate(map(_unquoted, items)))
    split = [item.partition(":") for item in items]
    return [(_number(path, _unquoted(key.strip())), _unquoted(name.strip())) for key, _, name in split]


def _listed(path: Path, line: str) -> str:
    """The entry of a line that begins with a hyphen."""
    if not re.match(r"-\s|-$", line):
        raise InputError(f"{path} has {line!r} in its list of names; expected '- name' in every line.")
    return line[1:].strip()


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))
        except json.JSONDecodeError:
            return text[1:-1]
    return text


def _without_comment(line: str) -> str:
    """A line of YAML up to a ``#`` that stands outside quotes, after a blank."""
    kept = re.match(r"""(?:\s(?!\s*\#)|"(?:\\.|[^"\\])*"|'[^']*'|(?<!\s)\#|[^\s#])*""", line)
    text = kept[0] if kept else line
    return "" if line.lstrip().startswith("#") else text.rstrip()


def _number(path: Path, text: str) -> int:
    if not re.fullmatch(r"\d{1,6}", text.strip()):
        raise InputError(f"{path} has {text!r} where the number of a class should be; expected 0, 1, 2, ...")
    return int(text)


def _checked(path: Path, entries: Sequence[tuple[int, Any]]) -> dict[int, str]:
    if not entries:
        raise InputError(f"{path} holds no names; expected one for each class.")
    names: dict[int, str] = {}
    for number, name in entries:
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"{path} has no name for class {number}; expected a text.")
        if number in names:
            raise InputError(f"{path} names class {number} twice; expected one name.")
        if name.strip() in names.values():
            raise InputError(f"{path} has the name {name.strip()!r} twice; expected different names.")
        names[number] = name.strip()
    return names
