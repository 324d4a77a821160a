"""Requests that the description allows, and others: no fault, and no answer that is not declared."""

from __future__ import annotations

import os
import zlib
from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import checks
from schemathesis.generation import GenerationMode
from serving_client import TOKEN, running_server
from serving_fakes import new_id, png

from softmatch_jax.serve.config import LimitsConfig

CHECKS = [
    checks.content_type_conformance,
    checks.not_a_server_error,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.status_code_conformance,
]
OPERATIONS = [
    "info",
    "state",
    "events",
    "run",
    "undo",
    "redo",
    "log",
    "add_image",
    "image_file",
    "image_preview",
]
OPERATIONS += ["raster", "heat", "view", "matching", "export", "export_losses", "import_masks"]
OPERATIONS += ["healthz", "readyz", "metrics"]
LIMITS = LimitsConfig(rate=1e6, burst=10**7)


HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("fuzz") / "project", limits=LIMITS) as running:
        with running.client() as client:
            for number in range(3):
                params = {"name": f"{number}.png", "id": new_id()}
                assert client.post("/api/images", params=params, content=png(number)).status_code == 201
            command = {"do": "add_class", "name": "duck"}
            assert client.post("/api/commands", json={"id": new_id(), "command": command}).status_code == 200
        # Streams would go on for ever: each ends after what it has to say at once.
        running.app.state.services.hub.end()
        yield running


@pytest.fixture(scope="module")
def operations(fuzzed):
    url = f"http://127.0.0.1:{fuzzed.port}/api/openapi.json"
    schema = schemathesis.openapi.from_url(url, headers=HEADERS)
    return {one.ok().definition.raw["operationId"]: one.ok() for one in schema.get_all_operations()}


def on_what_is_there(case):
    """Lets three of four requests name pictures and classes of the project, else few would reach anything."""
    key = zlib.crc32(repr((case.path_parameters, case.body)).encode())
    if key % 4 == 0:
        return
    if isinstance(case.path_parameters, dict) and "image" in case.path_parameters:
        case.path_parameters["image"] = f"i{key % 5}"
    command = case.body.get("command") if isinstance(case.body, dict) else None
    if isinstance(command, dict):
        for name, value in (("image", f"i{key % 5}"), ("class", f"c{key % 3}")):
            if name in command:
                command[name] = value


def fuzz(operations, fuzzed, name, examples):
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        @given(case=operations[name].as_strategy(generation_mode=mode))
        def ask(case):
            on_what_is_there(case)
            response = case.call(headers=HEADERS)
            assert response.status_code < 500 or response.status_code == 503, case.as_curl_command()
            case.validate_response(response, checks=CHECKS)

        with suppress(Unsatisfiable):  # what takes nothing cannot be given anything wrong
            ask()
    assert fuzzed.store.check() == []


def test_all_operations_are_fuzzed(operations):
    assert sorted(operations) == sorted(OPERATIONS)


@pytest.mark.parametrize("name", ["events", "run", "log", "add_image", "image_preview", "view"])
def test_a_few_of_some(operations, fuzzed, name):
    fuzz(operations, fuzzed, name, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_many_of_each(operations, fuzzed, name):
    fuzz(operations, fuzzed, name, int(os.environ.get("SOFTMATCH_FUZZ_EXAMPLES", "100")))
