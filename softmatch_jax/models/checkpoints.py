"""From the name of a model to its files on this machine.

A name is a folder or file, the id of a model on the Hugging Face hub (``facebook/dinov2-small``), or
the file name of a published Segment Anything checkpoint (``sam_vit_b_01ec64.pth``). What exists on
the disk wins; then come the caches; the network is last, and never used where the caller or the
environment says offline.
"""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from pathlib import Path

from softmatch_jax._checks import InputError
from softmatch_jax.models.catalogue import CATALOGUE
from softmatch_jax.models.checkpoint_files import (
    PICKLED,
    Checkpoint,
    LocalCheckpoint,
    check_folder,
    read_config,
    read_tensors,
)
from softmatch_jax.models.downloading import Report, download_file, download_snapshot, file_md5, unreported
from softmatch_jax.models.pretrained import load_pretrained

__all__ = [
    "Checkpoint",
    "cached",
    "checkpoint_cache",
    "fetch",
    "hub_cache",
    "load_pretrained",
    "locate",
    "read_config",
    "read_tensors",
]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Names of branches, tags and commits that stay within the folder they are joined to.
_REVISION = re.compile(r"[\w-][\w.+-]*(/[\w-][\w.+-]*)*")
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_TRUE = ("1", "ON", "TRUE", "YES")


def locate(name: str | Path, *, revision: str | None = None, offline: bool | None = None) -> Checkpoint:
    """Finds a checkpoint on the disk or in a cache, and else fetches it from the hub.

    Args:
        name: A folder or ``.pth`` file; else a hub id ``owner/name``; or the file name of a Segment
            Anything checkpoint that ``softmatch models fetch`` has stored.
        revision: Branch, tag or commit of a hub id; the default is the one in the catalogue, else
            ``main``.
        offline: Whether the network may not be used; by default as ``HF_HUB_OFFLINE`` and
            ``TRANSFORMERS_OFFLINE`` say.

    Raises:
        InputError: There is no such checkpoint, it is not complete, or it cannot be fetched; the
            message says where it looked and what to do.
    """
    text = os.fspath(name)
    path = _expanded(text)
    if text and os.path.exists(path):
        if revision is not None:
            raise InputError(
                f"{text} is on this disk, where there are no revisions; leave out the revision {revision}."
            )
        return _local(text, path)
    if text in CATALOGUE and CATALOGUE[text].url is not None:
        return _published_file(text)
    if _looks_like_path(text):
        raise InputError(f"{text} was not found; looked at {path.absolute()} (check the spelling).")
    if not _HUB_ID.fullmatch(text):
        raise InputError(
            f"{text!r} names no model{_similar(text)}; expected a folder, a .pth file or a hub id such as "
            "facebook/dinov2-small (softmatch models list shows more)."
        )
    return _from_hub(text, revision or default_revision(text), _is_offline(offline))


def fetch(name: str, *, revision: str | None = None, report: Report = unreported) -> Checkpoint:
    """Fetches a hub id or a published ``.pth`` file into its cache, or what is missing of it.

    A hub id is compared with the hub, so that a branch that has moved is fetched anew. A ``.pth`` file
    in the cache is kept if its checksum is the published one.

    Args:
        name: A hub id, or the name of a file in the catalogue.
        revision: As in :func:`locate`.
        report: Told how far a ``.pth`` file is; the hub's client shows its own progress in a terminal.

    Raises:
        InputError: The name is neither, or the environment says offline, or the network, the server or
            the disk fails.
    """
    model = CATALOGUE.get(name)
    if model is not None and model.url is not None and model.md5 is not None:
        if revision is not None:
            raise InputError(f"{name} has no revisions; leave out the revision {revision}.")
        path = checkpoint_cache() / name
        if not (path.is_file() and file_md5(path) == model.md5):
            _check_online(name)
            download_file(model.url, path, md5=model.md5, report=report)
        return LocalCheckpoint(name=name, path=path, kind="segment_anything")
    if not _HUB_ID.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be fetched{_similar(name)}; expected a hub id such as facebook/dinov2-small, "
            "or a file name from softmatch models list."
        )
    _check_online(name)
    revision = revision or default_revision(name)
    return _snapshot(name, download_snapshot(name, revision, hub_cache()))


def default_revision(name: str) -> str | None:
    """The revision of a hub id that is taken when none is given; ``None`` for ``main``."""
    return CATALOGUE[name].revision if name in CATALOGUE else None


def hub_cache() -> Path:
    """The folder in which huggingface_hub and this package keep models, by the environment as it is now."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return _expanded(os.environ[variable])
    home = os.environ.get("HF_HOME") or os.path.join(_user_cache(), "huggingface")
    return _expanded(home) / "hub"


def checkpoint_cache() -> Path:
    """The folder for ``.pth`` files: ``checkpoints`` in ``SOFTMATCH_CACHE``, else in the user's cache."""
    home = os.environ.get("SOFTMATCH_CACHE") or os.path.join(_user_cache(), "softmatch_jax")
    return _expanded(home) / "checkpoints"


def _expanded(path: str) -> Path:
    """``path`` with the user's home for ``~``, or as it is where there is no such user or home."""
    return Path(os.path.expanduser(path))


def _user_cache() -> str:
    return os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")


def cached(name: str, revision: str | None = None) -> Path | None:
    """Where a cache holds a hub id or a published file, complete or not; ``None`` if not at all."""
    if name in CATALOGUE and CATALOGUE[name].url is not None:
        path = checkpoint_cache() / name
        return path if path.is_file() else None
    repository = hub_cache() / ("models--" + name.replace("/", "--"))
    commit = revision or "main"
    if _REVISION.fullmatch(commit) and os.path.isfile(repository / "refs" / commit):
        commit = (repository / "refs" / commit).read_text("utf-8", "replace").strip()
    folder = repository / "snapshots" / commit
    return folder if _REVISION.fullmatch(commit) and os.path.isdir(folder) else None


def _local(name: str, path: Path) -> Checkpoint:
    if path.is_dir():
        check_folder(path)
        return LocalCheckpoint(name=name, path=path, kind="transformers")
    if path.suffix.lower() not in PICKLED:
        raise InputError(
            f"{name} is a file; expected a folder with config.json and model.safetensors, or a .pth file "
            "of Segment Anything."
        )
    return LocalCheckpoint(name=name, path=path, kind="segment_anything")


def _published_file(name: str) -> Checkpoint:
    path = cached(name)
    if path is None:
        raise InputError(
            f"{name} was not found, neither here nor in {checkpoint_cache()}; run softmatch models fetch "
            f"{name}, or give the path of the file."
        )
    return LocalCheckpoint(name=name, path=path, kind="segment_anything")


def _looks_like_path(text: str) -> bool:
    endings = (*PICKLED, ".safetensors", ".bin")
    return (
        text.startswith((".", "~", os.sep)) or text.endswith(endings) or text.count("/") > 1 or "\\" in text
    )


def _similar(text: str) -> str:
    short = {name.rpartition("/")[2]: name for name in CATALOGUE}
    close = get_close_matches(text.rpartition("/")[2], short, n=1, cutoff=0.7)
    return f" (did you mean {short[close[0]]}?)" if close else ""


def _is_offline(offline: bool | None) -> bool:
    if offline is not None:
        return offline
    return _offline_variable() is not None


def _offline_variable() -> str | None:
    """The variable of the environment that forbids the network, as it is now."""
    return next((name for name in _OFFLINE if os.environ.get(name, "").upper() in _TRUE), None)


def _check_online(name: str) -> None:
    """Raises ``InputError`` where the environment forbids the network.

    The hub's client reads the variables once, when it is imported, and other files do not pass by it.
    """
    variable = _offline_variable()
    if variable is not None:
        raise InputError(f"{name} cannot be fetched because {variable} is set; unset it.")


def _from_hub(name: str, revision: str | None, offline: bool) -> Checkpoint:
    folder, lacking = cached(name, revision), f"not in the cache {hub_cache()}"
    if folder is not None:
        try:
            check_folder(folder)
            return _snapshot(name, folder)
        except InputError as error:
            lacking = f"cached only in part: {str(error).rstrip('.')}"
    if offline:
        at = f" at revision {revision}" if revision else ""
        raise InputError(
            f"{name}{at} is {lacking}, and the network is not to be used; run softmatch models fetch {name} "
            "on a connected machine, or give a local folder."
        )
    return _snapshot(name, download_snapshot(name, revision, hub_cache()))


def _snapshot(name: str, folder: Path) -> Checkpoint:
    return Checkpoint(name=name, path=folder, revision=folder.name, kind="transformers")
