"""A file imports only from its own folder or from a lower floor."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "softmatch_jax"
ROOT = Path(__file__).resolve().parents[1] / PACKAGE
FLOORS = {
    "_types": 0,
    "_checks": 0,
    "_clustering": 0.5,  # stands on the checks; matching and prompting both stand on it
    "matching": 1,
    "prompting": 1,
    "imaging": 1,
    "models": 2,
    "data": 2,
    "pipelines": 3,
    "training": 3,
    "evaluation": 3,
    "studies": 3,
    "serve": 4,
    "cli": 5,
}
# The front doors: they hand out names from everywhere, and what is inside takes only the version there.
EXEMPT = {"__init__", "__main__"}
VERSION = f"{PACKAGE}.__version__"


def imports(tree: ast.AST, package: list[str]) -> Iterator[tuple[int, str]]:
    """Every module that a file asks for, inside functions and conditions too: ``(line, dotted name)``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # `from softmatch_jax import models` names the folder; elsewhere the base says enough.
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield node.lineno, str(node.args[0].value)


def violations(root: Path) -> list[str]:
    """One sentence for each import that climbs."""
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        room = parts[0]
        if room in EXEMPT:
            continue
        where = path.relative_to(root)
        if room not in FLOORS:
            found.append(f"{where}: {room} is on no floor")
            continue
        for line, name in imports(ast.parse(path.read_text("utf-8")), [PACKAGE, *parts[:-1]]):
            head, _, rest = name.partition(".")
            if head != PACKAGE or name == VERSION:
                continue
            other = rest.partition(".")[0]
            if other not in FLOORS:
                found.append(f"{where}:{line}: imports {name}, which is on no floor")
            elif other != room and FLOORS[other] >= FLOORS[room]:
                found.append(f"{where}:{line}: {room} ({FLOORS[room]}) imports {other} ({FLOORS[other]})")
    return found


def test_imports_go_down():
    assert violations(ROOT) == []


def test_every_folder_has_a_floor():
    rooms = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert rooms - EXEMPT <= FLOORS.keys()


def test_nothing_is_called_utils():
    assert [path for path in ROOT.rglob("*.py") if path.stem.strip("_") in ("utils", "util", "helpers")] == []


@pytest.mark.parametrize(
    ("file", "source", "caught"),
    [
        ("matching/a.py", "from softmatch_jax.matching.b import c", False),
        ("matching/a.py", "from softmatch_jax._checks import InputError\nimport numpy", False),
        ("matching/a.py", "import softmatch_jax.models.x", True),
        ("matching/a.py", "from softmatch_jax import models", True),
        ("matching/a.py", "from softmatch_jax import matching", False),
        ("matching/a.py", "from softmatch_jax.imaging import read_image", True),  # beside, not below
        ("matching/a.py", "def f():\n    from softmatch_jax.data import folder", True),
        ("matching/a.py", "if True:\n    import softmatch_jax.serve", True),
        ("matching/a.py", "import importlib\nimportlib.import_module('softmatch_jax.cli')", True),
        ("models/deep/a.py", "from ...pipelines import x", True),
        ("models/deep/a.py", "from ..protocols import x\nfrom ...imaging import y", False),
        ("pipelines/a.py", "from softmatch_jax.training import x", True),
        ("serve/a.py", "from softmatch_jax import Softmatcher", True),  # through the front door
        ("cli/a.py", "from softmatch_jax.serve import app", False),
        ("cli/a.py", "from softmatch_jax import __version__", False),
        ("_checks.py", "from softmatch_jax import _types", True),
        ("cellar/a.py", "", True),
        ("__init__.py", "from softmatch_jax.cli import main", False),
    ],
)
def test_the_walk_sees(tmp_path, file, source, caught):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    assert bool(violations(tmp_path)) is caught
