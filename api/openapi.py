"""The OpenAPI document: each route says what it answers, and what every route may answer is added here.

FastAPI writes the rest from the code. Its own validation answers are left out: ours are problem documents.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from api.guard import OPEN
from api.limits import MAX_BODY_BYTES, MAX_IN_FLIGHT
from api.problems import (
    BUSY,
    FAULT,
    KINDS,
    MEDIA_TYPE,
    NOT_MIGRATED,
    STOPPING,
    STORE_AWAY,
    TOO_LARGE,
    TOO_SLOW,
    UNAUTHORIZED,
    Kind,
    ProblemDocument,
)
from api.requests import CancellationRequest, JobRequest
from tasks.replay.request import ReplayRequest

Json = dict[str, Any]

COMPONENTS = "#/components/schemas/"
SCHEME = "key"


def _header(description: str, schema: Json) -> Json:
    return {"description": description, "schema": schema}


REQUEST_ID = {
    "X-Request-ID": _header(
        "The request's own id if it sent one of up to 64 letters, digits, `.`, `_` and `-`; else a new one",
        {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    )
}
LOCATION = {"Location": {**_header("The job's address", {"type": "string"}), "required": True}}
REPLAY_LOCATION = {"Location": {**_header("The replay's address", {"type": "string"}), "required": True}}
MAYBE_REPLAY_LOCATION = {"Location": _header("The replay's address, where there is one", {"type": "string"})}
LINK = {"Link": _header('The next page, `rel="next"`, where there is one', {"type": "string"})}
OF_STATUS: Mapping[int, Json] = {
    401: {"WWW-Authenticate": {**_header("Bearer", {"type": "string"}), "required": True}},
    503: {"Retry-After": _header("Seconds to wait", {"type": "integer", "minimum": 1})},
}
"""Headers that come with a status."""

BODIES: tuple[type[BaseModel], ...] = (JobRequest, CancellationRequest, ReplayRequest)
"""Request bodies, which `api.door` reads and FastAPI does not know of."""


def body(model: type[BaseModel]) -> Json:
    """What a route says of its request body, one of `BODIES`."""
    schema = {"$ref": f"{COMPONENTS}{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


ALL = (FAULT,)
"""What any request may meet."""

WITH_KEY = (UNAUTHORIZED, BUSY, STOPPING, TOO_SLOW, TOO_LARGE)
"""And what any request that needs the key may meet."""

WITH_STORE = (STORE_AWAY, NOT_MIGRATED)
STORED = ("/v1/jobs", "/v1/cancellations", "/v1/replays", "/v1/calls", "/metrics")
"""Beginnings of the addresses that ask Postgres, and may meet these."""

ABOUT = f"""Hands LLM analysis jobs to Assayline and tells what became of them.

Everything but `/health` and `/health/ready` needs the key: `Authorization: Bearer <key>`.
A body has at most {MAX_BODY_BYTES} bytes; at most {MAX_IN_FLIGHT} requests are answered at once.

Errors are problem documents (RFC 9457). Their types:

| type | status | title |
|---|---|---|
{chr(10).join(f"| `{kind.type}` | {kind.status} | {kind.title} |" for kind in KINDS)}
"""


def answers(successes: Mapping[int, tuple[Any, ...]], *kinds: Kind) -> dict[int | str, Json]:
    """What a route says of its answers: (model, description, headers) by status, and the problems of its own."""
    found: dict[int | str, Json] = {}
    for status, (model, description, *headers) in successes.items():
        found[status] = {"model": model, "description": description, "headers": headers[0] if headers else {}}
    return {**found, **_problems(kinds)}


def _problems(kinds: tuple[Kind, ...]) -> dict[int | str, Json]:
    by_status: defaultdict[int, list[Kind]] = defaultdict(list)
    for kind in kinds:
        by_status[kind.status].append(kind)
    return {status: _problem(status, group) for status, group in by_status.items()}


def _problem(status: int, kinds: list[Kind]) -> Json:
    return {
        "description": "; ".join(f"{kind.title} (`{kind.name}`)" for kind in kinds),
        "headers": dict(OF_STATUS.get(status, {})),
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"{COMPONENTS}Problem"}}},
    }


def document(app: FastAPI) -> Json:
    """Write the document once, and keep it."""
    if app.openapi_schema is None:
        written = get_openapi(
            title=app.title, version=app.version, openapi_version="3.1.0", description=ABOUT, routes=app.routes
        )
        for path, item in written["paths"].items():
            for operation in item.values():
                _complete(path, operation)
        _add_components(written["components"])
        app.openapi_schema = written
    return app.openapi_schema


def _complete(path: str, operation: Json) -> None:
    """Add to an operation what holds for all: the common problems, the request's id, the key."""
    responses = operation["responses"]
    if path not in OPEN:
        operation["security"] = [{SCHEME: []}]
    common = (*ALL, *(() if path in OPEN else WITH_KEY), *(WITH_STORE if path.startswith(STORED) else ()))
    for status, problem in _problems(common).items():
        kept = responses.get(str(status))
        if kept is None:
            responses[str(status)] = problem
        else:
            kept["description"] += f"; {problem['description']}"
    for response in responses.values():
        response["headers"] = {**response.get("headers", {}), **REQUEST_ID}


def _add_components(components: Json) -> None:
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    named: dict[str, type[BaseModel]] = {"Problem": ProblemDocument, **{body.__name__: body for body in BODIES}}
    for name, model in named.items():
        schema = model.model_json_schema(ref_template=COMPONENTS + "{model}", mode="serialization")
        schemas.update(schema.pop("$defs", {}))
        schemas[name] = schema
    components["securitySchemes"] = {SCHEME: {"type": "http", "scheme": "bearer", "description": "ASSAYLINE_API_KEY"}}
