"""Weights from the network: a snapshot of the hub, or one file by its address.

A failure is one sentence and comes within seconds; nothing half-written stays under its final name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import secrets
import shutil
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from softmatch_jax._checks import InputError
from softmatch_jax.models.checkpoint_files import conversion
from softmatch_jax.models.optional import require

Report: TypeAlias = Callable[[int, int | None], None]
"""Told, after every piece, how many bytes have come and how many there are."""

_PATTERNS = (
    "config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
)
_TIMEOUT = 5.0  # seconds until a server that says nothing counts as absent
_CHUNK = 1 << 20  # bytes
_BROKEN = (ConnectionError, TimeoutError, http.client.HTTPException, ssl.SSLError)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXT = os.strerror(errno.ENOSPC)  # the hub's transfer library gives no number


def unreported(done: int, total: int | None) -> None:
    """Tells nobody."""


def file_md5(path: Path) -> str:
    """The md5 checksum of a file, in hexadecimal; it tells damage, not forgery.

    Raises:
        InputError: The file cannot be read.
    """
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its permissions.") from None
    return digest.hexdigest()


def download_snapshot(name: str, revision: str | None, cache: Path) -> Path:
    """Fetches what is used of a model on the hub; files that are cached already are not fetched again.

    Args:
        name: ``owner/name``.
        revision: Branch, tag or commit; ``None`` for ``main``.
        cache: The hub's cache folder.

    Returns:
        The folder of the snapshot, called like its commit.

    Raises:
        InputError: There is no such model or revision, it has no safetensors, access is refused, the
            network or the server fails, or the files cannot be written.
    """
    hub = require("huggingface_hub")
    with _hub_sentences(name, revision, cache), _bars_in_terminals_only():
        # Asked first, because this one question gives up after a few seconds and is not repeated.
        info = hub.HfApi().model_info(name, revision=revision, timeout=_TIMEOUT)
        _check_listing(name, {file.rfilename for file in info.siblings or ()})
        folder = hub.snapshot_download(
            name,
            revision=revision,
            cache_dir=cache,
            allow_patterns=list(_PATTERNS),
            etag_timeout=_TIMEOUT,
        )
    return Path(folder)


def _check_listing(name: str, files: set[str]) -> None:
    if "config.json" not in files:
        raise InputError(f"{name} on the hub has no config.json; expected a model of transformers.")
    if not files & {"model.safetensors", "model.safetensors.index.json"}:
        raise InputError(
            f"{name} on the hub has no model.safetensors; give a revision that has it, or {conversion(name)}."
        )


@contextmanager
def _bars_in_terminals_only() -> Iterator[None]:
    """No progress bars of the hub's client inside the block where standard error is no terminal."""
    utils = require("huggingface_hub.utils")
    visible = sys.stderr is not None and sys.stderr.isatty()
    if visible or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


@contextmanager
def _hub_sentences(name: str, revision: str | None, cache: Path) -> Iterator[None]:
    """Turns what the hub's client raises into one ``InputError``."""
    errors = require("huggingface_hub.errors")
    try:
        yield
    except InputError:
        raise
    except errors.OfflineModeIsEnabled:
        raise InputError(
            f"{name} cannot be fetched because HF_HUB_OFFLINE is set; unset it, or give a local folder."
        ) from None
    except errors.GatedRepoError:
        raise InputError(
            f"{name} is gated; accept its terms on its page of the hub, and log in with hf auth login."
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{name} has no revision {revision}; check the branch, tag or commit.") from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"{name} does not exist on the hub, or is private; check the spelling (softmatch models "
            "list), or log in with hf auth login."
        ) from None
    except errors.HFValidationError as error:
        raise InputError(f"{name} is not a valid hub id ({error}); expected owner/name.") from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        raise InputError(f"{name} cannot be fetched: the hub answered {status}; {_access(status)}.") from None
    except Exception as error:
        if not _is_network(error):
            if isinstance(error, OSError) or _FULL_TEXT in str(error):
                raise InputError(_unwritable(name, cache, error)) from None
            raise
        raise InputError(
            f"{name} cannot be fetched: the hub cannot be reached ({_reason(error)}); check the network, run "
            f"softmatch models fetch {name} on a connected machine, or give a local folder."
        ) from None


def _access(status: Any) -> str:
    return "log in with hf auth login" if status in (401, 403) else "try again later"


def _is_network(error: BaseException) -> bool:
    """Whether an error of the hub's client is about the connection; its HTTP library has changed twice."""
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, _BROKEN) or library in (
        "httpcore",
        "httpcore2",
        "httpx",
        "httpx2",
        "requests",
        "urllib3",
        "huggingface_hub",
    )


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _unwritable(name: str, folder: Path, error: Exception) -> str:
    if getattr(error, "errno", None) in _FULL or _FULL_TEXT in str(error):
        return f"{name} does not fit on the disk of {folder}; free some space, or set another cache folder."
    reason = getattr(error, "strerror", None) or error
    return f"{name} cannot be written to {folder} ({reason}); check the folder's permissions."


def download_file(url: str, path: Path, *, md5: str, report: Report = unreported) -> None:
    """Fetches one file, checks it, and only then gives it its name.

    Args:
        url: Where it is.
        path: What it is called here; its folder is made if it does not exist.
        md5: Beginning of the checksum that the content must have, in hexadecimal.
        report: Called as bytes come.

    Raises:
        InputError: The server or the network fails, the transfer ends early, the checksum differs, or
            the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open(url) as answer:
            length = answer.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            _check_space(path, total)
            digest = _store(answer, temporary, url, total, report)
        if not digest.startswith(md5):
            raise InputError(
                f"{url} gave a file with the md5 checksum {digest}; expected {md5}, so nothing was kept "
                "(fetch it again)."
            )
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(_unwritable(path.name, path.parent, error)) from None
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            os.unlink(temporary)


def _check_space(path: Path, total: int | None) -> None:
    free = shutil.disk_usage(path.parent).free
    if total is not None and total > free:
        raise InputError(
            f"{path.name} has {total:,} bytes but {path.parent} has {free:,} free; free some space, or set "
            "SOFTMATCH_CACHE to another folder."
        )


def _store(answer: Any, temporary: Path, url: str, total: int | None, report: Report) -> str:
    """Writes the answer's body to a new file, synced; returns its md5 checksum."""
    digest, done = hashlib.md5(usedforsecurity=False), 0
    with open(temporary, "xb") as file:
        while chunk := _read(answer, url):
            digest.update(chunk)
            file.write(chunk)
            done += len(chunk)
            report(done, total)
        if total is not None and done < total:
            raise InputError(f"{url} ended after {done:,} of {total:,} bytes; fetch it again.")
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _open(url: str) -> Any:
    with _url_sentences(url):
        return urllib.request.urlopen(url, timeout=2 * _TIMEOUT)


def _read(answer: Any, url: str) -> bytes:
    # One piece at a time, so that the disk's errors are not taken for the network's.
    with _url_sentences(url):
        return bytes(answer.read(_CHUNK))


@contextmanager
def _url_sentences(url: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise InputError(
            f"{url} cannot be fetched: the server answered {error.code} {error.reason}."
        ) from None
    except urllib.error.URLError as error:
        raise InputError(f"{url} cannot be fetched ({error.reason}); check the network.") from None
    except (OSError, http.client.HTTPException) as error:
        raise InputError(
            f"{url} broke off ({_reason(error)}); check the network and fetch it again."
        ) from None
