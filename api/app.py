"""The application: routes, and what their exceptions become. Everything around them is `api.guard`'s business."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.exceptions import HTTPException
from starlette.routing import Route

from api import calls, cancellations, health, jobs, metrics, providers, reference, replays
from api.guard import Guard
from api.openapi import document
from api.problems import (
    CONFLICT,
    FAULT,
    NO_SUCH_JOB,
    NO_SUCH_PAGE,
    NOT_MIGRATED,
    STORE_AWAY,
    TOO_LARGE,
    UNKNOWN_ANALYSIS,
    UNKNOWN_MODEL,
    WRONG_METHOD,
    Problem,
    found_invalid,
    later,
    refused,
)
from api.services import Services, no_parameters
from tasks.producer import errors as producer

log = logging.getLogger(__name__)

ROUTERS = (
    jobs.router,
    cancellations.router,
    replays.router,
    calls.router,
    reference.router,
    providers.router,
    health.router,
    metrics.router,
)

Translate = Callable[[Request, Exception], Problem]


def create_app(services: Services) -> FastAPI:
    """Build the application of one process, without its guard."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with services.running():
            yield

    app = FastAPI(
        title="Assayline",
        version=version("assayline"),
        lifespan=lifespan,
        redirect_slashes=False,
        # Their pages load scripts from elsewhere; the document itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.services, app.state.readiness = services, health.Readiness()
    for router in ROUTERS:
        app.include_router(router)
    app.add_api_route(
        "/openapi.json", lambda: document(app), include_in_schema=False, dependencies=[Depends(no_parameters)]
    )
    for kind, translate in TRANSLATIONS.items():
        app.add_exception_handler(kind, _handler(translate))
    return app


def guarded(services: Services, key: str) -> Guard:
    """Build the whole service, as it is served."""
    return Guard(create_app(services), key)


def _handler(translate: Translate) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(request: Request, error: Exception) -> Response:
        problem = translate(request, error)
        return problem.response(request.scope["path"], request.scope.get("request_id", ""))

    return handle


def _as_it_is(_: Request, error: Exception) -> Problem:
    assert isinstance(error, Problem)
    return error


def _found_invalid(_: Request, error: Exception) -> Problem:
    assert isinstance(error, RequestValidationError)
    return found_invalid(error.errors(), without=1)  # the first part says where: query, path, header


def _no_route(request: Request, error: Exception) -> Problem:
    """What the router refuses: no such path, or not this method."""
    assert isinstance(error, HTTPException)
    allowed = sorted(_methods(request))
    if not allowed:
        return Problem(NO_SUCH_PAGE, "GET /openapi.json says what there is")
    methods = ", ".join(allowed)
    return Problem(WRONG_METHOD, f"it takes {methods}", headers={"Allow": methods})


def _methods(request: Request) -> set[str]:
    """The methods that a path takes, over all its routes: the router itself knows only those of the first."""
    path = request.scope["path"]
    routes = (route for owner in (request.app, *ROUTERS) for route in owner.routes if isinstance(route, Route))
    return {method for route in routes if route.path_regex.match(path) for method in route.methods or ()}


def _invalid_job(_: Request, error: Exception) -> Problem:
    assert isinstance(error, producer.InvalidJob)
    kinds = {producer.UnknownAnalysis: UNKNOWN_ANALYSIS, producer.UnknownModel: UNKNOWN_MODEL}
    kind = kinds.get(type(error))
    if isinstance(error, producer.TooLarge) and error.limit == producer.MAX_BYTES:
        kind = TOO_LARGE
    return refused(error.field, error.problem, kind) if kind else refused(error.field, error.problem)


def _conflict(_: Request, error: Exception) -> Problem:
    assert isinstance(error, producer.IdempotencyConflict)
    problem = str(error).partition(": ")[2]
    job_id = None if error.job_id is None else str(error.job_id)
    return Problem(CONFLICT, errors=[("idempotency_key", problem)], job_id=job_id)


def _no_job(_: Request, error: Exception) -> Problem:
    return Problem(NO_SUCH_JOB, str(error))


def _not_migrated(_: Request, error: Exception) -> Problem:
    log.error("the database has no Assayline: %s", error)
    return later(NOT_MIGRATED, "run `assayline migrate` against it")


def _away(_: Request, error: Exception) -> Problem:
    log.warning("Postgres is away (%s)", type(getattr(error, "orig", None) or error).__name__)
    return later(STORE_AWAY, "nothing was enqueued or changed, as far as is known; an idempotency key makes it sure")


def _statement_failed(request: Request, error: Exception) -> Problem:
    """A broken connection may come as any of the driver's exceptions; the rest are faults of ours."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return _away(request, error)
    raise error


def _fault(_: Request, __: Exception) -> Problem:
    """Nobody expected it: the caller learns that it was, the log what it was (`api.guard` writes it there)."""
    return Problem(FAULT, "it is in the log under this request_id")


TRANSLATIONS: Mapping[type[Exception], Translate] = {
    Problem: _as_it_is,
    RequestValidationError: _found_invalid,
    HTTPException: _no_route,
    producer.InvalidJob: _invalid_job,
    producer.IdempotencyConflict: _conflict,
    producer.JobNotFound: _no_job,
    producer.NotMigrated: _not_migrated,
    OperationalError: _away,
    InterfaceError: _away,
    NoConnection: _away,
    TimeoutError: _away,
    DBAPIError: _statement_failed,
    Exception: _fault,
}
"""What each exception is to the caller; the nearest base counts."""
