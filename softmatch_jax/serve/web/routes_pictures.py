"""Routes of files: pictures, rasters, match maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from uuid import UUID

import anyio
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import FileResponse

from softmatch_jax.serve.project.documents import Digest, Identity, ImageDocument, Name
from softmatch_jax.serve.project.errors import ConflictError, NotFoundError
from softmatch_jax.serve.web.bodies import in_pieces, raw_only
from softmatch_jax.serve.web.encoding import entry_json
from softmatch_jax.serve.web.problems import Problem
from softmatch_jax.serve.web.schemas import ImageReply
from softmatch_jax.serve.web.services import Services, With, check_writable

router = APIRouter(tags=["pictures"])
_FOREVER = "private, max-age=31536000, immutable"
# Another project on the same port has other pictures under the same names.
_CHECKED = "private, no-cache"
Wanted = Annotated[
    Digest | None, Query(description="The picture's digest: the answer can then be kept for good.")
]
_RAW = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_KINDS = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG", "image/png"),
    (b"RIFF", "image/webp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"BM", "image/bmp"),
)


def _declared(*kinds: str) -> dict[int | str, dict[str, object]]:
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds}
    return {200: {"content": content}, 304: {"description": "What the client has is right."}}


@router.post(
    "/api/images",
    operation_id="add_image",
    status_code=201,
    response_model=ImageReply,
    dependencies=[Depends(raw_only)],
    openapi_extra=_RAW,
)
async def add_image(
    request: Request,
    services: With,
    name: Annotated[Name, Query(description="Its file's name.")],
    id: Annotated[UUID, Query(description="Made by the page; sending it again is safe.")],
) -> Response:
    """Adds a picture: the body is the file. One that is there already is named in the 409."""
    check_writable(services)
    incoming = services.pictures.incoming()
    file = await services.work(incoming.__enter__)
    try:
        await in_pieces(request, services, file.write)
        picture = await services.transfer(file.finish)
    finally:
        # Even a server that is stopped leaves no half of a picture.
        with anyio.CancelScope(shield=True):
            await services.work(incoming.__exit__, None, None, None)
    try:
        entry = await services.write(services.store.add_image, name, picture, id=str(id))
    except ConflictError as error:
        members = {} if error.image is None else {"image": error.image}
        raise Problem(409, str(error), None, **members) from None
    keys = [key for key in entry.changes if key.startswith("image/")]
    if len(keys) != 1:
        raise Problem(409, f"The id {id} belongs to another request; make a new one.")
    content = entry_json(entry)[:-1] + b',"image":"' + keys[0].partition("/")[2].encode() + b'"}'
    return Response(content, 201, media_type="application/json")


@router.get(
    "/api/images/{image}/file",
    operation_id="image_file",
    response_class=Response,
    responses=_declared(*sorted({kind for _, kind in _KINDS}), "application/octet-stream"),
)
async def image_file(request: Request, services: With, image: Identity, digest: Wanted = None) -> Response:
    """The file as it was added."""
    document = await _document(services, image, digest)
    headers = _lasting(document.digest, forever=digest is not None)
    with _naming(document):
        path = await services.work(services.pictures.path, document.digest)
    if _is_known(request, headers):
        return Response(status_code=304, headers=headers)
    kind = await services.work(_kind, path)
    return FileResponse(path, headers=headers, media_type=kind)


@router.get(
    "/api/images/{image}/preview",
    operation_id="image_preview",
    response_class=Response,
    responses=_declared("image/jpeg"),
)
async def image_preview(
    request: Request,
    services: With,
    image: Identity,
    side: Annotated[int, Query(ge=16, le=4096)] = 1600,
    digest: Wanted = None,
) -> Response:
    """A JPEG of the upright picture, its longer side at most ``side`` pixels."""
    document = await _document(services, image, digest)
    headers = _lasting(f"{document.digest}-{side}", forever=digest is not None)
    if _is_known(request, headers):
        return Response(status_code=304, headers=headers)
    with _naming(document):
        content = await services.transfer(services.pictures.preview, document.digest, side)
    return Response(content, headers=headers, media_type="image/jpeg")


@router.get(
    "/api/rasters/{digest}",
    operation_id="raster",
    response_class=Response,
    responses=_declared("image/png"),
)
async def raster(request: Request, services: With, digest: Digest) -> Response:
    """A mask as a PNG with a palette: 0 is transparent, each object has an index of its own."""
    return await _png(request, services, digest, lambda: services.store.raster_png(digest))


@router.get(
    "/api/heat/{digest}",
    operation_id="heat",
    response_class=Response,
    responses=_declared("image/png"),
)
async def heat(request: Request, services: With, digest: Digest) -> Response:
    """A match map as a grey PNG."""
    return await _png(request, services, digest, lambda: services.store.heat_png(digest))


async def _document(services: Services, image: str, digest: str | None) -> ImageDocument:
    """A picture; raises ``NotFoundError`` where its file is not the one that is wanted."""
    document = await services.work(lambda: services.store.state().image(image))
    if digest not in (None, document.digest):
        raise NotFoundError(f"{image} is another picture here; ask for the state again.")
    return document


@contextmanager
def _naming(document: ImageDocument) -> Iterator[None]:
    """Puts the picture's name before what is said of its file."""
    try:
        yield
    except NotFoundError as error:
        raise NotFoundError(f"{document.name}: {error}") from None


async def _png(request: Request, services: Services, digest: str, draw: Callable[[], bytes]) -> Response:
    headers = _lasting(digest)
    if _is_known(request, headers):
        return Response(status_code=304, headers=headers)
    return Response(await services.work(draw), headers=headers, media_type="image/png")


def _lasting(tag: str, *, forever: bool = True) -> dict[str, str]:
    """Headers of what never changes; ``forever`` where its address says which it is."""
    return {"Cache-Control": _FOREVER if forever else _CHECKED, "ETag": f'"{tag}"'}


def _is_known(request: Request, headers: dict[str, str]) -> bool:
    given = request.headers.get("if-none-match", "")
    return headers["ETag"] in [tag.strip().removeprefix("W/") for tag in given.split(",")]


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(8)
    return next((kind for start, kind in _KINDS if head.startswith(start)), "application/octet-stream")
