"""``softmatch models``: list, fetch and verify the weights of public models."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro import conf

from softmatch_jax._checks import InputError
from softmatch_jax.cli.names import printable

if TYPE_CHECKING:
    from softmatch_jax.models.checkpoints import Checkpoint
    from softmatch_jax.models.downloading import Report
    from softmatch_jax.models.verification import Finding

_USAGE = """\
usage: softmatch models [-h] {list,fetch,verify} ...

Weights of public models: DINOv2 and CLIP for features, SAM for masks. They are kept in the cache of the
Hugging Face hub (HF_HOME, HF_HUB_CACHE) and, for .pth files, in SOFTMATCH_CACHE.

  list       What there is, how large it is, under which licence, and whether it is here.
  fetch      Download models, so that they work without a network from then on.
  verify     Read models from end to end: checksums, formats, values.

softmatch models fetch facebook/dinov2-small facebook/sam-vit-base

For the options: softmatch models fetch --help
"""
_HEADINGS = ("model", "for", "parameters", "download", "licence", "cached")

_Flag = Annotated[bool, conf.arg(help_behavior_hint="")]
_Text = Annotated[str | None, conf.DisallowNone, conf.arg(help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """Lists public models, and where they are cached.

    Attributes:
        json: Print JSON, and nothing else, on standard output.
    """

    json: _Flag = False


@dataclass(frozen=True, kw_only=True)
class FetchConfig:
    """Downloads models into the cache.

    Attributes:
        names: Ids on the Hugging Face hub (owner/name), or .pth files named by softmatch models list.
        revision: Branch, tag or commit of the hub ids.
    """

    names: Annotated[
        tuple[str, ...], conf.Positional, conf.arg(metavar="NAME...", help_behavior_hint="(required)")
    ]
    revision: _Text = None


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Reads models from end to end, and says what is damaged; never uses the network.

    Attributes:
        names: Folders, .pth files, or names as for fetch.
        all_cached: Verify every public model that is cached.
        revision: Branch, tag or commit of the hub ids.
        json: Print JSON, and nothing else, on standard output.
    """

    names: Annotated[
        tuple[str, ...], conf.Positional, conf.arg(metavar="NAME...", help_behavior_hint="")
    ] = ()
    all_cached: _Flag = False
    revision: _Text = None
    json: _Flag = False


def run_models(words: Sequence[str]) -> int:
    """Runs what follows ``softmatch models``.

    Returns:
        0, or 1 where something that was verified is damaged.

    Raises:
        InputError: No such command or model, or it cannot be fetched.
        SystemExit: Help was asked for, or a word cannot be parsed.
    """
    command, rest = (words[0], words[1:]) if words else ("--help", [])
    if command in ("-h", "--help"):
        print(_USAGE, end="")
        return 0
    if command == "list":
        return _list(_parse(ListConfig, command, rest))
    if command == "fetch":
        return _fetch(_parse(FetchConfig, command, rest))
    if command == "verify":
        return _verify(_parse(VerifyConfig, command, rest))
    raise InputError(
        f"{command!r} is not a command; expected list, fetch or verify (see softmatch models --help)."
    )


def _parse(kind: Any, command: str, words: Sequence[str]) -> Any:
    return tyro.cli(kind, prog=f"softmatch models {command}", args=words, config=(conf.FlagCreatePairsOff,))


def _list(config: ListConfig) -> int:
    from softmatch_jax.models.catalogue import CATALOGUE
    from softmatch_jax.models.checkpoints import checkpoint_cache, hub_cache

    entries = [
        {
            "name": name,
            "role": model.role,
            "dim": model.dim,
            "patch": model.patch,
            "parameters": model.parameters,
            "bytes": model.size,
            "licence": model.licence,
            "home": model.home,
            **_cached(name, model.revision),
        }
        for name, model in CATALOGUE.items()
    ]
    caches = {"hub": printable(hub_cache()), "checkpoints": printable(checkpoint_cache())}
    if config.json:
        print(json.dumps({"caches": caches, "models": entries}, indent=2))
        return 0
    rows = [
        (
            entry["name"],
            entry["role"],
            f"{entry['parameters'] / 1e6:,.0f} M",
            _size(entry["bytes"]),
            entry["licence"],
            {None: "no", True: "", False: "in part: "}[entry["complete"]] + (entry["path"] or ""),
        )
        for entry in entries
    ]
    print(_table([_HEADINGS, *rows]), end="")
    print(f"\nModels of the hub are cached in {caches['hub']}, .pth files in {caches['checkpoints']}.")
    return 0


def _cached(name: str, revision: str | None) -> dict[str, Any]:
    """Where a model is cached and whether all of it is; ``None`` for both where it is not."""
    from softmatch_jax.models.checkpoint_files import check_folder
    from softmatch_jax.models.checkpoints import cached

    path = cached(name, revision)
    if path is None:
        return {"path": None, "complete": None}
    try:
        if path.is_dir():
            check_folder(path)
    except InputError:
        return {"path": printable(path), "complete": False}
    return {"path": printable(path), "complete": True}


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(line.rstrip() + "\n" for line in lines)


def _fetch(config: FetchConfig) -> int:
    from softmatch_jax.models.catalogue import CATALOGUE
    from softmatch_jax.models.checkpoints import fetch

    if not config.names:
        raise InputError("No model was given; expected names, such as facebook/dinov2-small.")
    for name in config.names:
        if name in CATALOGUE and sys.stderr is not None:
            print(f"{name}: about {_size(CATALOGUE[name].size)}", file=sys.stderr, flush=True)
        with _progress() as report:
            checkpoint = fetch(name, revision=config.revision, report=report)
        print(f"{name}: {printable(checkpoint.path)}", flush=True)
    return 0


@contextmanager
def _progress() -> Iterator[Report]:
    """Yields what shows the progress of one file in a terminal, and nothing elsewhere."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


def _verify(config: VerifyConfig) -> int:
    from softmatch_jax.models.verification import verify

    checkpoints = [_stored(name, config.revision) for name in config.names]
    if config.all_cached:
        checkpoints += _all_cached()
    if not checkpoints:
        raise InputError(
            "No cached model was found."
            if config.all_cached
            else "No model was given; expected names, or --all-cached."
        )
    results = [(checkpoint, verify(checkpoint)) for checkpoint in checkpoints]
    if config.json:
        models = [_document(checkpoint, findings) for checkpoint, findings in results]
        print(json.dumps({"models": models}, indent=2))
    else:
        for checkpoint, findings in results:
            print(_report(checkpoint, findings), end="")
    return int(any(finding.problem is not None for _, findings in results for finding in findings))


def _stored(name: str, revision: str | None) -> Checkpoint:
    """As ``locate``, but what is cached only in part is taken too, for the findings to tell."""
    from softmatch_jax.models.checkpoints import Checkpoint, cached, default_revision, locate

    here = os.path.exists(os.path.expanduser(name))
    path = None if here else cached(name, revision or default_revision(name))
    if path is None or path.is_file():
        return locate(name, revision=revision, offline=True)
    return Checkpoint(name=name, path=path, revision=path.name, kind="transformers")


def _all_cached() -> list[Checkpoint]:
    from softmatch_jax.models.catalogue import CATALOGUE
    from softmatch_jax.models.checkpoints import cached

    return [_stored(name, None) for name, model in CATALOGUE.items() if cached(name, model.revision)]


def _document(checkpoint: Checkpoint, findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "name": printable(checkpoint.name),
        "path": printable(checkpoint.path),
        "ok": all(finding.problem is None for finding in findings),
        "findings": [
            {
                "path": printable(finding.path),
                "check": finding.check,
                "problem": None if finding.problem is None else printable(finding.problem),
            }
            for finding in findings
        ],
    }


def _report(checkpoint: Checkpoint, findings: Sequence[Finding]) -> str:
    name = printable(checkpoint.name)
    problems = [printable(finding.problem) for finding in findings if finding.problem is not None]
    if problems:
        return "".join(f"{name}: {problem}\n" for problem in problems)
    checksums = sum(finding.check == "checksum" for finding in findings)
    known = f", {checksums} of them checksums" if checksums else "; no checksum is known"
    return f"{name}: ok ({len(findings)} checks{known})\n"
