"""What a provider says of its limits comes through, over the wire and the real SDKs, whatever becomes of the call."""

from __future__ import annotations

import json
import pickle

import pytest

from gateway.errors import MalformedCompletion, OutputTruncated, ProviderError, ServerError, Throttled
from gateway.limits.kinds import LimitKind
from gateway.limits.told import ToldLimit, ToldLimits

DATE = {"Date": "Sat, 21 Nov 2026 03:00:00 GMT"}
AT = 1_795_230_000.0

OPENAI_HEADERS = {
    "X-RateLimit-Limit-Requests": "60",
    "X-RateLimit-Remaining-Requests": "59",
    "X-RateLimit-Reset-Requests": "1s",
    "X-RateLimit-Limit-Tokens": "150000",
    "X-RateLimit-Remaining-Tokens": "149984",
    "X-RateLimit-Reset-Tokens": "6m0s",
}
OPENAI_LIMITS = {LimitKind.REQUESTS: ToldLimit(59, 60, 1.0), LimitKind.TOKENS: ToldLimit(149_984, 150_000, 360.0)}

ANTHROPIC_HEADERS = {
    f"Anthropic-RateLimit-{word}-{what}": text
    for word in ("Requests", "Input-Tokens", "Output-Tokens", "Tokens")
    for what, text in (("Limit", "50"), ("Remaining", "49"), ("Reset", "2026-11-21T03:00:02Z"))
}
ANTHROPIC_LIMITS = dict.fromkeys(LimitKind, ToldLimit(49, 50, 2.0))


def chat(reason="stop"):
    choice = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": reason}
    return {"choices": [choice], "usage": {"prompt_tokens": 20, "completion_tokens": 7}}


def response(reason="stop"):
    ended = {"status": "completed"} if reason == "stop" else {"status": "incomplete"}
    part = {"type": "output_text", "text": "hello"}
    return ended | {
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [{"type": "message", "content": [part]}],
        "usage": {"input_tokens": 20, "output_tokens": 7},
    }


def message(reason="stop"):
    return {
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": {"stop": "end_turn", "length": "max_tokens"}[reason],
        "usage": {"input_tokens": 20, "output_tokens": 7},
    }


def ollama(reason="stop"):
    said = {"message": {"role": "assistant", "content": "hello"}, "done": True, "done_reason": reason}
    return said | {"prompt_eval_count": 20, "eval_count": 7}


def described(reason="stop"):
    return {"output": "hello", "why": reason, "in": 20, "out": 7}


DESCRIBED = {
    "path": "/v1/generate",
    "body": {"prompt": "{prompt}", "max_tokens": "{max_tokens}"},
    "answer": "/output",
    "usage": {"input": "/in", "output": "/out"},
    "finish": {"at": "/why", "stop": ["stop"], "length": ["length"]},
    "stream": {"text": "/output", "finish": "/why"},
}

PROVIDERS = {
    # dialect:           the good answer, its headers, what they tell, options, whether /v1 is part of the base URL
    "openai_compatible": (chat, OPENAI_HEADERS, OPENAI_LIMITS, {}, True),
    "openai_responses": (response, OPENAI_HEADERS, OPENAI_LIMITS, {}, True),
    "anthropic": (message, ANTHROPIC_HEADERS, ANTHROPIC_LIMITS, {}, False),
    "ollama": (ollama, OPENAI_HEADERS, OPENAI_LIMITS, {}, False),
    "http": (described, OPENAI_HEADERS, OPENAI_LIMITS, DESCRIBED, False),
}


@pytest.fixture(params=PROVIDERS)
def told_by(request, wire, build):
    """Each dialect whose servers tell limits: its adapter, its answer, the headers, what they tell."""
    answer, headers, limits, options, versioned = PROVIDERS[request.param]
    url = wire.url if versioned else wire.url.removesuffix("/v1")
    return build(dialect=request.param, base_url=url, options=options), answer, headers, limits


async def failed(awaitable, expected):
    with pytest.raises(expected) as caught:
        await awaitable
    assert type(caught.value) is expected
    assert pickle.loads(pickle.dumps(caught.value)).told == caught.value.told
    return caught.value.told


async def collected(stream):
    return [piece async for piece in stream]


async def test_with_an_answer(wire, told_by, ask):
    provider, answer, headers, limits = told_by
    wire.answers(body=answer(), headers=headers | DATE)
    completion = await provider.complete(ask())
    assert (completion.text, completion.told) == ("hello", ToldLimits(limits, AT))


async def test_an_answer_without_them_tells_nothing(wire, told_by, ask):
    provider, answer, _, _ = told_by
    wire.answers(body=answer(), headers=DATE)
    assert (await provider.complete(ask())).told is None


@pytest.mark.parametrize("text", ["-1", "9" * 400, "NaN", "inf", "soon", "", "\xff"])
async def test_unreadable_headers_break_no_answer_and_no_refusal(wire, told_by, ask, text):
    provider, answer, headers, _ = told_by

    async def handler(request):
        names = [*headers, "Date", "Retry-After", "Retry-After-Ms"]
        raw = json.dumps(answer()).encode()
        status = "200 OK" if len(wire.requests) == 1 else "429 Too Many Requests"
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(raw)}", *(f"{name}: {text}" for name in names)]
        await request.send_raw(("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + raw)

    wire.handler = handler
    completion = await provider.complete(ask())
    assert (completion.text, completion.told) == ("hello", None)
    assert await failed(provider.complete(ask()), Throttled) is None


async def test_with_a_refusal(wire, told_by, ask):
    provider, _, headers, limits = told_by
    refusal = {"error": {"type": "rate_limit_error", "message": "slow down"}}
    wire.answers(429, refusal, headers | DATE | {"Retry-After": "7"})
    assert await failed(provider.complete(ask()), Throttled) == ToldLimits(limits, AT, 7.0)
    assert await failed(collected(provider.stream(ask())), Throttled) == ToldLimits(limits, AT, 7.0)


async def test_with_a_wait_until_a_date(wire, told_by, ask):
    provider, _, _, _ = told_by
    wire.answers(429, {}, DATE | {"Retry-After": "Sat, 21 Nov 2026 03:00:34 GMT"})
    assert await failed(provider.complete(ask()), Throttled) == ToldLimits({}, AT, 34.0)


async def test_with_a_failure_that_is_none_of_limits(wire, told_by, ask):
    provider, _, headers, limits = told_by
    wire.answers(500, b"<html>", headers | DATE)
    assert await failed(provider.complete(ask()), ServerError) == ToldLimits(limits, AT)


async def test_with_an_answer_that_was_cut(wire, told_by, ask):
    provider, answer, headers, limits = told_by
    wire.answers(body=answer("length"), headers=headers | DATE)
    assert await failed(provider.complete(ask()), OutputTruncated) == ToldLimits(limits, AT)


@pytest.mark.parametrize("body", [{}, b"no JSON", []])
async def test_with_an_answer_that_is_none(wire, told_by, ask, body):
    provider, _, headers, limits = told_by
    wire.answers(body=body, headers=headers | DATE)
    assert await failed(provider.complete(ask()), MalformedCompletion) == ToldLimits(limits, AT)


@pytest.mark.parametrize("event", ["{}", '{"error": {"type": "overloaded_error", "message": "no"}}', "no JSON"])
async def test_with_a_stream_that_fails_on_its_way(wire, told_by, ask, event):
    provider, _, headers, limits = told_by
    body = f"event: content_block_delta\ndata: {event}\n\n".encode()
    wire.answers(body=body, headers=headers | DATE | {"content-type": "text/event-stream"})
    with pytest.raises(ProviderError) as caught:
        await collected(provider.stream(ask()))
    assert caught.value.told == ToldLimits(limits, AT)


async def test_gemini_tells_a_wait_and_nothing_else(wire, build, ask):
    gemini = build(dialect="gemini", base_url=wire.url.removesuffix("/v1"))
    candidate = {"content": {"parts": [{"text": "hello"}]}, "finishReason": "STOP"}
    counts = {"promptTokenCount": 20, "candidatesTokenCount": 7}
    wire.answers(body={"candidates": [candidate], "usageMetadata": counts}, headers=DATE)
    assert (await gemini.complete(ask())).told is None
    delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}
    refusal = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "no", "details": [delay]}}
    wire.answers(429, refusal, DATE)
    assert await failed(gemini.complete(ask()), Throttled) == ToldLimits({}, AT, 34.0)
    assert await failed(collected(gemini.stream(ask())), Throttled) == ToldLimits({}, AT, 34.0)
    wire.answers(200, refusal, {"Retry-After": "7"})
    assert await failed(gemini.complete(ask()), Throttled) == ToldLimits({}, None, 34.0)
    wire.answers(200, {}, {"Retry-After": "7"})
    assert await failed(gemini.complete(ask()), MalformedCompletion) == ToldLimits({}, None, 7.0)
