"""``softmatch export``: the masks of a project as files of other tools."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro import conf

from softmatch_jax._checks import InputError

if TYPE_CHECKING:
    from softmatch_jax.data.formats import Sink


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Writes the masks of a project of softmatch serve for other tools; the project stays as it is.

    Attributes:
        project: The project's folder.
        output: A new folder, or a file ending in .zip.
        format: coco: one JSON file; indexed: a PNG of class indices for each picture; yolo: text files of
            outlines; labelme: a JSON file for each picture; label_studio: tasks in JSON; cvat: XML, as
            "CVAT for images 1.1".
        which: accepted: pictures that were accepted; shown: all that have been matched or annotated.
        images: Write the pictures too.
        polygons: Outlines in place of exact masks, where the format has both.
        overwrite: Replace the zip file, or files of the same names in the folder.
    """

    project: Annotated[Path, conf.Positional, conf.arg(metavar="PROJECT")]
    output: Annotated[Path, conf.arg(aliases=("-o",), metavar="PATH")]
    format: Literal["coco", "indexed", "yolo", "labelme", "label_studio", "cvat"] = "coco"
    which: Literal["accepted", "shown"] = "accepted"
    images: bool = True
    polygons: Annotated[bool, conf.FlagCreatePairsOff, conf.arg(help_behavior_hint="")] = False
    overwrite: Annotated[bool, conf.FlagCreatePairsOff, conf.arg(help_behavior_hint="")] = False


def run_export(words: Sequence[str]) -> int:
    """Runs what follows ``softmatch export``.

    Returns:
        0.

    Raises:
        InputError: There is no such project, nothing is to be exported, or the output is there already or
            cannot be written.
        SystemExit: Help was asked for, or a word cannot be parsed.
    """
    config = tyro.cli(ExportConfig, prog="softmatch export", args=list(words))
    if not config.project.is_dir():
        raise InputError(f"{config.project} is not a folder; expected that of a project of softmatch serve.")
    if config.project.resolve() in (config.output.resolve(), *config.output.resolve().parents):
        raise InputError(
            f"The output {config.output} lies in the project's folder; expected another place (-o)."
        )
    _check_installed()
    from softmatch_jax.data.formats import FORMATS, ExportOptions
    from softmatch_jax.serve.project.exporting import export_project
    from softmatch_jax.serve.project.pictures import Pictures
    from softmatch_jax.serve.project.store import Store

    store = Store.open(config.project, read_only=True)
    try:
        if not any(_is_wanted(document, config.which) for document in store.state().of("image").values()):
            raise InputError(
                f"The project in {config.project} has no {'accepted ' if config.which == 'accepted' else ''}"
                "pictures; accept some, or give --which shown."
            )
        with _sink(config) as sink:
            report = export_project(
                store,
                Pictures(config.project),
                FORMATS[config.format],
                sink,
                which=config.which,
                images=config.images,
                options=ExportOptions(polygons=config.polygons),
            )
    finally:
        store.close()
    for warning in report.warnings:
        print(f"note: {warning}")
    print(f"{report.pictures} pictures with {report.objects} objects: {config.output}")
    return 0


def _check_installed() -> None:
    """Raises ``InputError`` where the parts that projects need are not installed."""
    try:
        import pydantic  # noqa: F401
    except ModuleNotFoundError:
        raise InputError(
            "The package pydantic is not installed, which projects need; install it with "
            "pip install 'softmatch-jax[serve]'."
        ) from None


def _is_wanted(document: object, which: str) -> bool:
    status = getattr(document, "status", None)
    return status == "accepted" if which == "accepted" else status != "rejected"


@contextlib.contextmanager
def _sink(config: ExportConfig) -> Iterator[Sink]:
    """Where to write: the folder, or a zip file that is at its place only when it is whole."""
    from softmatch_jax.data.formats import FolderSink, ZipSink

    output = config.output
    if output.suffix.lower() != ".zip":
        yield FolderSink(output, overwrite=config.overwrite)
        return
    if output.is_dir() or (output.exists() and not config.overwrite):
        raise InputError(
            f"{output} is there already; expected another name, or --overwrite to replace a file."
        )
    temporary = output.with_name(f".{output.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as file:
            with ZipSink(file) as sink:
                yield sink
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, output)
    except OSError as error:
        raise InputError(
            f"{output} cannot be written ({error.strerror}); check its folder, permissions and free space."
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
