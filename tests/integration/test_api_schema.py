"""The OpenAPI document is true: Schemathesis sends what it allows and what it forbids, and finds nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import schemathesis
from apiworld import KEY, Api, mirror_into, served
from schemathesis.engine import events, from_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
OPERATIONS = 23
LEAST_CASES = 600
"""Fewer would mean that the search was cut off, not that nothing is wrong. It makes about a thousand."""

CONFIG: dict[str, Any] = {
    "seed": 1,
    "continue-on-failure": True,
    "headers": AUTHORIZED,
    "generation": {"mode": "all", "max-examples": 14, "database": "none", "deterministic": True},
    "checks": {
        # A body may fit the schema and be refused all the same: the catalog, a prompt's variables or the clock say so.
        "positive_data_acceptance": {"expected-statuses": ["2xx", "401", "404", "409", "413", "422"]},
    },
}


@pytest.fixture
def api(database_url: str, redis_url: str) -> Iterator[Api]:
    mirror_into(database_url)
    with served(database_url, redis_url) as running:
        running.settle(running.enqueue(tenant="acme", subject="ann", tags=["a"]))
        running.services.ends.stop()  # no request waits: a minute of `wait` is another test's
        yield running


def test_no_answer_is_other_than_described(api: Api) -> None:
    schema = schemathesis.openapi.from_url(
        f"{api.url}/openapi.json", headers=AUTHORIZED, config=schemathesis.Config.from_dict(CONFIG)
    )
    found: list[str] = []
    cases: Counter[str] = Counter()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            cases[event.recorder.label] += len(event.recorder.cases)
            for checks in event.recorder.checks.values():
                found += [_told(event.recorder.label, check) for check in checks if check.failure_info is not None]
        elif isinstance(event, (events.NonFatalError, events.FatalError)):
            found.append(f"{type(event).__name__}: {getattr(event, 'value', getattr(event, 'exception', ''))!r}")
    assert "\n\n".join(dict.fromkeys(found)) == ""
    assert len({label for label in cases if label.startswith(("GET ", "POST ", "DELETE "))}) == OPERATIONS
    assert sum(cases.values()) > LEAST_CASES


BODIES = {
    "/v1/jobs": {"analysis": "code_quality", "content": "x = 1"},
    "/v1/cancellations": {"all": True},
    "/v1/replays": {"all": True},
}
PLACES = {"id": str(UUID(int=0)), "name": "code_quality", "analysis": "code_quality", "version": "v1"}


WISHES = {"kind": "tenant", "name": "acme"}
"""For the parameters of queries that must be there."""


def _is_wanted(parameter: dict[str, Any]) -> bool:
    return bool(parameter["in"] == "query" and parameter.get("required"))


def test_a_parameter_that_is_not_described_is_refused_everywhere(api: Api) -> None:
    """A wish that is passed over silently (`?dry_run=true`, `?tenant=acme`) would be done otherwise, and paid for."""
    api.link.execute("UPDATE assayline.jobs SET state = 'failed'")
    described = api.call("GET", "/openapi.json").json["paths"]
    routes = [(path, method, operation) for path, item in described.items() for method, operation in item.items()]
    assert len(routes) == OPERATIONS
    for path, method, operation in [*routes, ("/openapi.json", "get", {})]:
        parameters = operation.get("parameters", [])
        known = {one["name"] for one in parameters}
        asked = "".join(f"&{one['name']}={WISHES[one['name']]}" for one in parameters if _is_wanted(one))
        for name in {"dry_run", "tenant", "unheard_of"} - known:
            said = api.call(method.upper(), f"{path.format_map(PLACES)}?{name}=true{asked}", BODIES.get(path))
            assert (said.problem(), said.json["field"]) == ((422, "invalid"), name), (method, path)
    [left] = api.link.execute(
        "SELECT (SELECT count(*) FROM assayline.jobs) AS jobs, count(*) AS replays FROM assayline.replays"
    )
    assert left == {"jobs": 1, "replays": 0}


def _told(label: str, check: Any) -> str:
    failure = check.failure_info.failure
    return f"{label}: {check.name}: {failure.title}: {failure.message}\n{check.failure_info.code_sample}"
