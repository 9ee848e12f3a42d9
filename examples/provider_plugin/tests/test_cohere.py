"""The adapter over the wire, against a double of the API: what every provider promises, and Cohere's own errors.

Run by `pytest` in this folder, wherever assayline and this package are installed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from gateway.errors import MalformedCompletion, OutputTruncated, Overloaded, ProviderError, ServerError
from gateway.messages import CompletionRequest, Message
from gateway.providers.base import Provider, ProviderConfig
from gateway.providers.promises import PROMISES, REFUSALS, Promise
from gateway.providers.registry import create

REQUEST = CompletionRequest("command-a", (Message("user", "What is new?"),), max_tokens=50, timeout_s=10)


def body(text: str = "all is well", **changes: Any) -> dict[str, Any]:
    usage = {"billed_units": {"input_tokens": 20.0, "output_tokens": 4}}
    message = {"role": "assistant", "content": [{"type": "thinking", "thinking": "…"}, {"type": "text", "text": text}]}
    return {"id": "c-1", "finish_reason": "COMPLETE", "message": message, "usage": usage} | changes


def events(*pieces: str, end: str | None = "COMPLETE") -> str:
    said = [{"type": "content-delta", "delta": {"message": {"content": {"text": piece}}}} for piece in pieces]
    said += [{"type": "message-end", "delta": {"finish_reason": end}}] if end else []
    return "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in said)


@pytest.fixture
def double() -> dict[str, Any]:
    """What the API answers next; a test may change it."""
    return {"status": 200, "body": body(), "events": events("all is ", "well"), "headers": {}, "asked": []}


@pytest.fixture
async def provider(double: dict[str, Any]) -> AsyncIterator[Provider]:
    async def chat(request: web.Request) -> web.Response:
        asked = await request.json()
        double["asked"].append(asked)
        if asked["stream"] and double["status"] == 200:
            return web.Response(text=double["events"], content_type="text/event-stream")
        return web.json_response(double["body"], status=double["status"], headers=double["headers"])

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"models": []})

    app = web.Application()
    app.router.add_post("/v2/chat", chat)
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    made = create(ProviderConfig("mine", "cohere", base_url=url, api_key="co-0123456789", options={}))
    yield made
    await made.aclose()
    await runner.cleanup()


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_promise(promise: Promise, provider: Provider) -> None:
    await promise(provider, REQUEST)


@pytest.mark.parametrize(("status", "expected"), REFUSALS.items())
async def test_a_refusal(
    provider: Provider, double: dict[str, Any], status: int, expected: type[ProviderError]
) -> None:
    double |= {"status": status, "body": {"message": "no, co-0123456789"}, "headers": {"retry-after": "7"}}
    with pytest.raises(expected, match=rf"HTTP {status}: no, \[key\]") as caught:
        await provider.complete(REQUEST)
    assert caught.value.retry_after_s == 7
    with pytest.raises(expected):
        await anext(provider.stream(REQUEST))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (body(finish_reason="MAX_TOKENS"), OutputTruncated),
        (body(finish_reason="ERROR"), ServerError),
        (body(finish_reason="TIMEOUT"), Overloaded),
        (body(finish_reason="TOOL_CALL"), MalformedCompletion),
        (body(usage={}), MalformedCompletion),
        (body(usage={"billed_units": {"input_tokens": 1.5, "output_tokens": 4}}), MalformedCompletion),
        (body(message={"content": []}), MalformedCompletion),
        ([], MalformedCompletion),
    ],
)
async def test_an_answer_that_did_not_end_well(
    provider: Provider, double: dict[str, Any], answer: Any, expected: type[ProviderError]
) -> None:
    double["body"] = answer
    with pytest.raises(expected):
        await provider.complete(REQUEST)


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (events("half", end=None), MalformedCompletion),
        (events("half", end="MAX_TOKENS"), OutputTruncated),
        (events("half", end="ERROR"), ServerError),
        (events("half")[:-20], MalformedCompletion),
    ],
)
async def test_a_stream_that_did_not_end_well(
    provider: Provider, double: dict[str, Any], stream: str, expected: type[ProviderError]
) -> None:
    double["events"] = stream
    with pytest.raises(expected):
        [_ async for _ in provider.stream(REQUEST)]


async def test_the_body(provider: Provider, double: dict[str, Any]) -> None:
    schema = {"type": "object"}
    await provider.complete(CompletionRequest("command-a", REQUEST.messages, 50, 0.5, schema))
    assert double["asked"] == [
        {
            "model": "command-a",
            "messages": [{"role": "user", "content": "What is new?"}],
            "max_tokens": 50,
            "stream": False,
            "temperature": 0.5,
            "response_format": {"type": "json_object", "json_schema": schema},
        }
    ]
