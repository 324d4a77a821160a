"""Routes of exports and imports."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Depends, Query, Request, Response

from softmatch_jax.serve.project.errors import NotFoundError
from softmatch_jax.serve.project.failing import writing
from softmatch_jax.serve.web.bodies import in_pieces, raw_only
from softmatch_jax.serve.web.schemas import ImportReply, WarningsReply
from softmatch_jax.serve.web.services import With, check_writable
from softmatch_jax.serve.web.zipping import ZipStream

router = APIRouter(tags=["transfer"])
_RAW = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_ZIP: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}
}
Which = Annotated[Literal["accepted", "shown"], Query(description="Masks of accepted pictures, or all.")]


@router.get("/api/exports/{format}", operation_id="export", response_class=Response, responses=_ZIP)
async def export(
    services: With,
    format: str,
    which: Which = "accepted",
    images: Annotated[bool, Query(description="The pictures' files too.")] = True,
    polygons: Annotated[bool, Query(description="Outlines, where the format has both.")] = False,
) -> Response:
    """A zip file, written while it is sent."""
    from softmatch_jax.data.formats import ExportOptions, ZipSink
    from softmatch_jax.serve.project.exporting import export_project

    chosen = _format(format)
    options = ExportOptions(polygons=polygons, images=images)

    def write(stream: Any) -> None:
        with ZipSink(stream) as sink:
            export_project(
                services.store, services.pictures, chosen, sink, which=which, images=images, options=options
            )

    stream = ZipStream(write, services.transfers)
    # Whatever is wrong from the start is told as an error, not as half a file.
    await stream.begin()
    name = f"{services.config.project.resolve().name}-{chosen.name}.zip"
    return stream.response(name)


@router.get("/api/exports/{format}/losses", operation_id="export_losses")
async def export_losses(
    services: With, format: str, which: Which = "accepted", images: bool = True, polygons: bool = False
) -> WarningsReply:
    """What the format cannot hold of this project."""
    from softmatch_jax.data.formats import ExportOptions
    from softmatch_jax.serve.project.exporting import labelled_classes

    chosen = _format(format)
    options = ExportOptions(polygons=polygons, images=images)
    classes = await services.work(lambda: labelled_classes(services.store.state()))
    return WarningsReply(warnings=chosen.losses(classes, options))


@router.post(
    "/api/imports",
    operation_id="import_masks",
    dependencies=[Depends(raw_only)],
    openapi_extra=_RAW,
)
async def import_masks(
    request: Request,
    services: With,
    format: Annotated[str | None, Query(description="By default found out.")] = None,
    accept: Annotated[bool, Query(description="Accept the pictures that get masks.")] = False,
) -> ImportReply:
    """Takes masks from a zip file that another program, or an export, wrote."""
    from softmatch_jax.data.formats import ZipSource
    from softmatch_jax.serve.project.importing import import_project

    chosen = None if format is None else _format(format)
    check_writable(services)
    file = await services.work(_temporary, services.config.project)
    try:
        await in_pieces(request, services, file.write)

        def read() -> Any:
            with ZipSource(file, "The import") as source:
                return import_project(services.store, services.pictures, source, chosen, accept=accept)

        report = await services.transfer(read)
    finally:
        with anyio.CancelScope(shield=True):
            await services.work(file.close)
    return ImportReply(pictures=report.pictures, masks=report.masks, warnings=list(report.warnings))


def _temporary(folder: Path) -> IO[bytes]:
    """A file without a name beside the project, so that nothing of it outlives the process."""
    with writing(folder):
        return tempfile.TemporaryFile(dir=folder)


def _format(name: str) -> Any:
    from softmatch_jax.data.formats import FORMATS

    if name not in FORMATS:
        raise NotFoundError(f"There is no format {name[:60]!r}; expected one of {', '.join(FORMATS)}.")
    return FORMATS[name]
