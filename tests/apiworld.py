"""The HTTP API served by uvicorn on a thread, over real stores, and a plain HTTP caller of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
from nodes.waiting import eventually
from psycopg.rows import dict_row

from api.app import create_app
from api.guard import Guard
from api.server import Address, Server, bound, config_of, url_of
from api.services import build_services
from gateway.analyses.registry import load_analyses
from gateway.catalog import load_catalog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.services import Services

KEY = "a-key-for-tests-0123456789"
ENV = {"ASSAYLINE_FAKE": "1"}
MODEL = "fake/scripted"
ANALYSES = ("code_quality", "skill_extraction", "text_classification", "completion")


@dataclass(frozen=True, slots=True)
class Said:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self) -> tuple[int, str]:
        """Status and kind, once the document has been found whole."""
        assert self.headers["content-type"] == "application/problem+json"
        said = self.json
        assert {"type", "title", "status", "detail", "instance", "request_id"} <= set(said)
        assert said["status"] == self.status
        assert said["request_id"] == self.headers["x-request-id"]
        return self.status, said["type"].removeprefix("urn:assayline:problem:")


@dataclass(slots=True)
class Api:
    """A running API and its stores."""

    url: str
    services: Services
    server: Server
    link: psycopg.Connection[dict[str, Any]]
    thread: threading.Thread
    open: list[HTTPConnection] = field(default_factory=list)

    def start(self, method: str, path: str, body: Any = None, key: str | None = KEY, **headers: str) -> HTTPConnection:
        """Send a request; its answer is read with `answer`."""
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        self.open.append(connection)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent.setdefault("Authorization", f"Bearer {key}")
        if body is not None and not isinstance(body, (bytes, Iterator)):
            body = json.dumps(body).encode()
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        connection.request(method, path, body, sent)
        return connection

    @staticmethod
    def answer(connection: HTTPConnection) -> Said:
        with connection.getresponse() as response:
            names = {name.lower(): value for name, value in response.getheaders()}
            return Said(response.status, names, response.read())

    def call(self, method: str, path: str, body: Any = None, key: str | None = KEY, **headers: str) -> Said:
        connection = self.start(method, path, body, key, **headers)
        try:
            return self.answer(connection)
        finally:
            connection.close()

    def enqueue(self, analysis: str = "code_quality", content: str = "x = 1", **fields: Any) -> str:
        said = self.call("POST", "/v1/jobs", {"analysis": analysis, "content": content, **fields})
        assert said.status == 202, said.body
        return str(said.json["id"])

    def settle(self, job_id: str, state: str = "succeeded") -> None:
        """End a job as a worker does, a call and a result included; nobody is told."""
        self.link.execute(
            "INSERT INTO assayline.results (job_id, data, raw_text, repaired, provider, model, prompt_version,"
            " input_tokens, cached_tokens, output_tokens, cost_usd, latency_s, calls, created_at)"
            " SELECT id, '{\"a\": 1}', NULL, false, provider, model, 'v1', 9, 0, 20, 0.000120, 1.5, 1, now()"
            " FROM assayline.jobs WHERE id = %s",
            (job_id,),
        )
        self.link.execute(
            "INSERT INTO assayline.calls (job_id, claim_no, call_no, kind, outcome, tenant, analysis, provider,"
            " account, model, incarnation, started_at) SELECT id, 1, 1, 'answer', 'succeeded', tenant, analysis,"
            " provider, 'main', model, id, now() FROM assayline.jobs WHERE id = %s",
            (job_id,),
        )
        self.link.execute("UPDATE assayline.jobs SET state = %s, finished_at = now() WHERE id = %s", (state, job_id))

    def stop(self) -> None:
        """Stop as SIGTERM does, and wait for the end."""
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()


def mirror_into(database_url: str) -> None:
    """What a dispatcher leaves behind: a catalog of which this process's is a part."""
    with psycopg.connect(database_url, autocommit=True) as link:
        link.execute("INSERT INTO assayline.catalog_models VALUES (%s)", (MODEL,))
        for name in ANALYSES:
            link.execute("INSERT INTO assayline.catalog_analyses VALUES (%s, %s, 'bulk', 4)", (name, [MODEL]))


@contextmanager
def served(
    database_url: str,
    redis_url: str,
    *,
    env: Mapping[str, str] = ENV,
    revision: str | None = None,
    **guard: Any,
) -> Iterator[Api]:
    """The API on a free port; `guard`: bounds of `api.guard.Guard` to set otherwise."""
    services = build_services(database_url, redis_url, load_catalog(None, env), load_analyses(), env, revision)
    listener = bound(Address(port=0))
    server = Server(config_of(Guard(create_app(services), KEY, **guard)), services.ends)
    thread = threading.Thread(target=server.run, args=([listener],))
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as link:
        api = Api(url_of(listener), services, server, link, thread)
        thread.start()
        try:
            eventually(lambda: server.started)
            yield api
        finally:
            for connection in api.open:
                connection.close()
            api.stop()
