"""A pytree of arrays in a folder, written by Orbax; every file's checksum is kept, so that damage is seen."""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import absl.logging
import jax
import orbax.checkpoint as ocp

_CLOSED = "Event loop is closed"


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves by their path, such as ``.trained['head']['bias']``."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def describe_leaves(tree: Any) -> dict[str, list[Any]]:
    """Type and shape of each leaf by its path, as JSON can hold them."""
    return {name: [str(leaf.dtype), *leaf.shape] for name, leaf in named_leaves(tree).items()}


def write_arrays(folder: Path, tree: Any) -> dict[str, str]:
    """Writes the leaves of ``tree`` into ``folder``, which must not exist; all is on the disk afterwards.

    Returns:
        The SHA-256 of each file by its name within ``folder``.

    Raises:
        OSError: The files cannot be written.
    """
    # Orbax refuses arrays without elements, of which the shape says everything.
    leaves = {name: leaf for name, leaf in named_leaves(tree).items() if leaf.size}
    _attempt(lambda orbax: orbax.save(folder, args=ocp.args.StandardSave(leaves)))
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    return digests(folder)


def read_arrays(folder: Path, like: Any) -> Any:
    """Reads what :func:`write_arrays` wrote.

    Args:
        folder: The folder.
        like: A tree of the same structure whose leaves have the types, shapes and shardings to read.

    Raises:
        OSError: The files cannot be read.
    """
    leaves = named_leaves(like)
    wanted = {
        name: jax.ShapeDtypeStruct(  # type: ignore[no-untyped-call]
            leaf.shape, leaf.dtype, sharding=leaf.sharding
        )
        for name, leaf in leaves.items()
        if leaf.size
    }
    leaves |= _attempt(lambda orbax: orbax.restore(folder, args=ocp.args.StandardRestore(wanted)))
    return jax.tree.unflatten(jax.tree.structure(like), list(leaves.values()))


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file in ``folder`` by its name within it."""
    found = {}
    for path in _files(folder):
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _attempt(action: Callable[[Any], Any]) -> Any:
    """What ``action`` makes of Orbax; a failure is an ``OSError``, and nothing else is said of it.

    Orbax logs a failure from each of its threads, and writes that were under way report theirs to an event
    loop that the first has closed.
    """
    loggers = (absl.logging.get_absl_logger(), logging.getLogger("asyncio"))
    levels, hook = [logger.level for logger in loggers], sys.unraisablehook
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = lambda info: None if str(info.exc_value) == _CLOSED else hook(info)
    try:
        try:
            with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as orbax:
                return action(orbax)
        # TensorStore says everything with ValueError, a full disk too.
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = _reason(error)
        # The error is gone by now, and with it what holds its futures; the last of them speak here.
        time.sleep(0.3)
        gc.collect()
        raise OSError(reason)
    finally:
        sys.unraisablehook = hook
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: Exception) -> str:
    """The cause without the addresses and operation names around it."""
    for reason in ("No space left on device", "File too large", "Disk quota exceeded", "Permission denied"):
        if reason in str(error):
            return reason
    return str(error).partition("\n")[0]
