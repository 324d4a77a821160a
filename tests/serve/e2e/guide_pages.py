"""What the guide shows: photographs cut into pictures, its screenshots, its table of keys."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

GUIDE = Path(__file__).parents[3] / "docs" / "guide.md"
LARGEST = 120_000
"""Bytes of the largest screenshot."""
FOLDER = os.environ.get("SOFTMATCH_SCREENSHOTS")
_KEYS = re.compile(
    r"(?<=<!-- keys: written by the tests from keys\.js -->\n).*(?=<!-- end of keys -->)", re.DOTALL
)


def cut(
    photograph: np.ndarray, corners: Mapping[str, tuple[int, int, int, int]], scale: int
) -> dict[str, bytes]:
    """Parts of a photograph as PNG files, enlarged; ``corners`` are ``(x0, y0, x1, y1)`` by name."""
    files = {}
    for name, (x0, y0, x1, y1) in corners.items():
        part = Image.fromarray(photograph[y0:y1, x0:x1])
        part = part.resize((part.width * scale, part.height * scale), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        part.save(file, "PNG")
        files[name] = file.getvalue()
    return files


def keep(page: Any, name: str) -> None:
    """Keeps a screenshot for the guide in the folder of ``SOFTMATCH_SCREENSHOTS``, where that is set."""
    if FOLDER is None:
        return
    # Colours fade from one state to the next.
    page.wait_for_timeout(500)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for quality in range(90, 20, -4):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, subsampling=0, optimize=True)
        if file.tell() <= LARGEST:
            break
    Path(FOLDER).mkdir(parents=True, exist_ok=True)
    (Path(FOLDER) / f"{name}.jpg").write_bytes(file.getvalue())


def keys_table(page: Any) -> str:
    """The table of keys in Markdown, from the sheet that the page itself shows."""
    groups = page.evaluate("import('/page/keys.js').then(module => module.SHORTCUTS)")
    lines = ["| key | what it does |", "|---|---|"]
    for title, rows in groups:
        lines.append(f"| **{title}** | |")
        for keys, what in rows:
            words = " ".join(key if key == "…" else f"`{key}`" for key in keys.split(" "))
            lines.append(f"| {words} | {what} |")
    return "\n".join(lines) + "\n"


def keys_in_guide() -> str:
    """The table of keys as the guide has it."""
    found = _KEYS.search(GUIDE.read_text())
    assert found is not None, "the guide has no place for the table of keys"
    return found[0]


def write_keys(table: str) -> None:
    """Puts the table of keys into the guide, where screenshots are made for it."""
    if FOLDER is not None:
        GUIDE.write_text(_KEYS.sub(lambda _: table, GUIDE.read_text()))
