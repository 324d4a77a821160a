"""The OpenAPI description: every operation says which errors it answers with."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from softmatch_jax import __version__
from softmatch_jax.serve.web.problems import MEDIA_TYPE
from softmatch_jax.serve.web.schemas import ProblemBody
from softmatch_jax.serve.web.security import OPEN_PATHS

_SCHEMA = "ProblemBody"
_ALWAYS = (400, 413, 421, 500, 503)
_WITH_TOKEN = (401, 403, 429)
_CHANGES = (408, 409, 415, 507)
_NAMED = (404, 422)
_RETRY = {"Retry-After": {"description": "Seconds until it may go.", "schema": {"type": "integer"}}}


def install(app: FastAPI) -> None:
    """Gives an application a description with the errors in it."""

    def description() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = describe(app)
        return app.openapi_schema

    app.openapi = description  # type: ignore[method-assign]


def describe(app: FastAPI) -> dict[str, Any]:
    """The description of an application."""
    schema = get_openapi(
        title="softmatch",
        version=__version__,
        description="Visual-prompt segmentation: scribble on one picture, match all others, correct, export.",
        routes=app.routes,
    )
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas[_SCHEMA] = ProblemBody.model_json_schema()
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"},
    }
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            _declare(path, method, operation)
    return schema


def _declare(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    statuses = set(_ALWAYS)
    if path not in OPEN_PATHS:
        statuses |= set(_WITH_TOKEN)
        operation["security"] = [{"token": []}]
    if method != "get":
        statuses |= set(_CHANGES)
    if operation.get("parameters") or "requestBody" in operation:
        statuses |= set(_NAMED)
    for status in sorted(statuses):
        response = {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{_SCHEMA}"}}},
        }
        if status == 429:
            response["headers"] = _RETRY
        if str(status) not in responses or status == 422:
            responses[str(status)] = response
