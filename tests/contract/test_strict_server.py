"""The strict endpoint over the wire, as our adapters see it: answers, refusals, what it tells of its limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest

from gateway.errors import OutputTruncated, Throttled
from gateway.messages import CompletionRequest, FinishReason
from gateway.providers.base import Provider
from ops.bench.strict.loads import Load
from ops.bench.strict.server import Account, Connection

DIALECTS = {"openai": ("openai_compatible", "/v1"), "anthropic": ("anthropic", "")}


@pytest.fixture
async def serving() -> AsyncIterator[Callable[..., Any]]:
    """Serve an account of two calls a minute, each of 40 tokens in 10 ms; its URL."""
    servers: list[asyncio.Server] = []

    async def serve(provider: str) -> tuple[Account, str]:
        limits = {"requests": 2, "tokens": 10_000} if provider == "openai" else {"requests": 2, "output_tokens": 10_000}
        account = Account(Load("test", provider, limits, "requests", 40, 1, 0.01, 0.01, 0.0, 0.0))
        server = await asyncio.get_running_loop().create_server(lambda: Connection(account), "127.0.0.1", 0)
        servers.append(server)
        host, port = server.sockets[0].getsockname()
        return account, f"http://{host}:{port}"

    yield serve
    for server in servers:
        server.close()


@pytest.mark.parametrize("name", DIALECTS)
async def test_two_calls_are_answered_and_the_third_is_refused(
    name: str, serving: Callable[..., Any], build: Callable[..., Provider], ask: Callable[..., CompletionRequest]
) -> None:
    dialect, path = DIALECTS[name]
    account, url = await serving(name)
    provider = build(dialect=dialect, base_url=url + path)
    whole = await provider.complete(ask(max_tokens=100))
    assert (whole.usage.output_tokens, whole.finish_reason) == (40, FinishReason.STOP)
    assert json.loads(whole.text)["label"]
    remaining = "x-ratelimit-remaining-requests" if name == "openai" else "anthropic-ratelimit-requests-remaining"
    assert whole.headers[remaining] == "1"
    assert "date" in whole.headers
    with pytest.raises(OutputTruncated) as cut:
        await provider.complete(ask(max_tokens=30))
    assert cut.value.usage.output_tokens == 30
    with pytest.raises(Throttled, match="limit of 2 requests per minute") as refused:
        await provider.complete(ask())
    assert 55 < refused.value.retry_after_s <= 60
    assert account.state() == {"calls": 3, "answered": 2, "open": 0}


async def test_its_record_is_read_and_begun_anew_over_http(serving: Callable[..., Any]) -> None:
    _, url = await serving("openai")
    async with httpx2.AsyncClient(base_url=url) as client:
        for _ in range(3):
            await client.post("/v1/chat/completions", json={"max_tokens": 50})
        record = (await client.get("/control/record")).json()
        assert record["refused_for"] == {"requests": 1, "tokens": 0}
        assert record["highest_minute"]["requests"] == 2
        state = (await client.get("/control/start")).json()
        assert state["calls"] == 3
        assert (await client.get("/control/record")).json()["refused_for"] == {"requests": 0, "tokens": 0}
        assert (await client.post("/v1/chat/completions", json={"max_completion_tokens": 50})).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/completions", b"{}", 404),
        ("/v1/messages", b"{}", 400),
        ("/v1/messages", b"[1]", 400),
        ("/v1/chat/completions", b'{"max_tokens": 0}', 400),
        ("/v1/chat/completions", b"no JSON", 400),
    ],
)
async def test_what_is_no_request_is_told_so(path: str, body: bytes, status: int, serving: Callable[..., Any]) -> None:
    account, url = await serving("openai")
    async with httpx2.AsyncClient(base_url=url) as client:
        answer = await client.post(path, content=body)
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert account.calls == 0
