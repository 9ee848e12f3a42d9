"""The OpenAPI document is true: Schemathesis sends what it allows and what it forbids, and finds nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from apiworld import KEY, Api, mirror_into, served
from schemathesis.engine import events, from_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
OPERATIONS = 20
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
    assert len({label for label in cases if label.startswith(("GET ", "POST "))}) == OPERATIONS
    assert sum(cases.values()) > LEAST_CASES


def _told(label: str, check: Any) -> str:
    failure = check.failure_info.failure
    return f"{label}: {check.name}: {failure.title}: {failure.message}\n{check.failure_info.code_sample}"
