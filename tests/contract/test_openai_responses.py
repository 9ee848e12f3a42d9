"""OpenAI's Responses API on the wire, through the real SDK. Its errors are those of `test_openai_errors.py`."""

from __future__ import annotations

import json

import pytest

from gateway.errors import (
    AuthRejected,
    ContentRefused,
    ContextTooLong,
    MalformedCompletion,
    OutputTruncated,
    QuotaExhausted,
    ServerError,
    Throttled,
    Timeout,
)
from gateway.messages import FinishReason, Message, Usage

SCHEMA = {"type": "object", "additionalProperties": False, "required": ["a"], "properties": {"a": {"type": "string"}}}


def part(text):
    return {"type": "output_text", "text": text, "annotations": []}


def response(*parts, **changes):
    said = parts or (part("hello"),)
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": "gpt-served",
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "role": "assistant", "content": list(said)},
        ],
        "usage": {
            "input_tokens": 20,
            "input_tokens_details": {"cached_tokens": 16, "cache_write_tokens": 3},
            "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 2},
        },
    } | changes


@pytest.fixture
def provider(wire, build):
    return build(dialect="openai_responses", base_url=wire.url)


def streams(wire, *events):
    async def answer(request):
        await request.start_stream()
        for event in events:
            await request.send_event(json.dumps(event))
        request.close()

    wire.handler = answer


async def collected(stream):
    return [piece async for piece in stream]


def delta(text):
    return {"type": "response.output_text.delta", "delta": text}


async def test_the_body_is_the_responses_one_and_nothing_is_stored(wire, provider, ask):
    wire.answers(body=response())
    await provider.complete(
        ask(
            temperature=0.25, schema=SCHEMA, schema_name="skills", extra_body={"reasoning_effort": "low", "store": True}
        )
    )
    [request] = wire.requests
    assert (request.method, request.path) == ("POST", "/v1/responses")
    assert request.body == {
        "reasoning": {"effort": "low"},
        "model": "gpt-4o",
        "instructions": "Be short.",
        "input": [{"role": "user", "content": "Say hello."}],
        "max_output_tokens": 100,
        "temperature": 0.25,
        "store": False,
        "text": {"format": {"type": "json_schema", "name": "skills", "strict": True, "schema": SCHEMA}},
    }


async def test_what_is_unset_is_left_out_and_verbosity_stands_beside_the_format(wire, build, ask):
    wire.answers(body=response())
    provider = build(
        dialect="openai_responses", base_url=wire.url, options={"extra_body": {"text": {"verbosity": "low"}}}
    )
    await provider.complete(ask(messages=(Message("user", "Hi."),)))
    await provider.complete(ask(messages=(Message("user", "Hi."),), schema=SCHEMA))
    first, second = (request.body for request in wire.requests)
    assert first.keys() == {"model", "input", "max_output_tokens", "store", "text"}
    assert second["text"].keys() == {"verbosity", "format"}


async def test_text_usage_model_and_id(wire, provider, ask):
    wire.answers(
        body=response(part("hel"), part("lo")), headers={"x-request-id": "req_1", "x-ratelimit-limit-tokens": "9"}
    )
    completion = await provider.complete(ask())
    assert (completion.text, completion.finish_reason) == ("hello", FinishReason.STOP)
    assert completion.usage == Usage(20, 7, 16, 3)
    assert (completion.model, completion.provider_request_id) == ("gpt-served", "req_1")
    assert completion.headers == {"x-request-id": "req_1", "x-ratelimit-limit-tokens": "9"}


async def test_commentary_is_no_part_of_the_answer(wire, provider, ask):
    thinking = {"type": "message", "id": "msg_1", "phase": "commentary", "content": [part("Let me see. ")]}
    answering = {"type": "message", "id": "msg_2", "phase": "final_answer", "content": [part("hello")]}
    wire.answers(body=response(output=[thinking, answering]))
    assert (await provider.complete(ask())).text == "hello"
    streams(
        wire,
        {"type": "response.output_item.added", "item": thinking | {"content": []}},
        delta("Let me see. ") | {"item_id": "msg_1"},
        {"type": "response.output_item.added", "item": answering | {"content": []}},
        delta("hello") | {"item_id": "msg_2"},
        {"type": "response.completed", "response": response(output=[thinking, answering])},
    )
    assert await collected(provider.stream(ask())) == ["hello"]


async def test_what_a_failed_response_has_used_is_kept(wire, provider, ask):
    failed = response(status="failed", error={"code": "server_error", "message": "boom"})
    for_good = {"type": "response.failed", "response": failed}
    wire.answers(body=failed)
    with pytest.raises(ServerError, match="boom") as caught:
        await provider.complete(ask())
    assert (caught.value.usage, caught.value.provider_request_id) == (Usage(20, 7, 16, 3), "resp_1")
    streams(wire, delta("half"), for_good)
    with pytest.raises(ServerError, match="boom") as caught:
        await collected(provider.stream(ask()))
    assert caught.value.usage == Usage(20, 7, 16, 3)


async def test_a_key_that_comes_back_in_a_stream_is_cut_out(wire, build, ask):
    provider = build(dialect="openai_responses", base_url=wire.url, api_key="plain-secret-words")
    streams(wire, {"type": "error", "code": "invalid_api_key", "message": "bad key plain-secret-words"})
    with pytest.raises(AuthRejected) as caught:
        await collected(provider.stream(ask()))
    assert "plain-secret-words" not in str(caught.value)


def incomplete(reason):
    return {"status": "incomplete", "incomplete_details": {"reason": reason}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (response(**incomplete("max_output_tokens")), OutputTruncated),
        (response(**incomplete("content_filter")), ContentRefused),
        (response(**incomplete("max_messages")), MalformedCompletion),
        (response({"type": "refusal", "refusal": "no"}), ContentRefused),
        (response(status="in_progress"), MalformedCompletion),
        (
            response(status="failed", error={"code": "server_error", "type": "server_error", "message": "x"}),
            ServerError,
        ),
        (response(status="failed", error={"code": "rate_limit_exceeded", "message": "slow"}), Throttled),
        (response(status="failed", error={"code": "server_error", "message": "x", "type": None}), ServerError),
        (response(status="failed", error={"code": "bio_policy", "message": "no"}), ContentRefused),
        (response(status="failed", error=None), MalformedCompletion),
        (response(output=[{"type": "reasoning", "id": "rs_1", "summary": []}]), MalformedCompletion),
        (response(output=[{"type": "message", "content": 5}]), MalformedCompletion),
        (response(usage=None), MalformedCompletion),
        (response(usage={"input_tokens": 1, "output_tokens": -1}), MalformedCompletion),
        (response(output=None), MalformedCompletion),
        (response({"type": "output_text", "text": None}), MalformedCompletion),
        ([], MalformedCompletion),
    ],
)
async def test_an_answer_that_did_not_end_well_is_an_error(wire, provider, ask, body, expected):
    wire.answers(body=body)
    with pytest.raises(expected) as caught:
        await provider.complete(ask())
    assert type(caught.value) is expected


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "context_length_exceeded", ContextTooLong),
        (401, "invalid_api_key", AuthRejected),
        (429, "rate_limit_exceeded", Throttled),
        (429, "insufficient_quota", QuotaExhausted),
        (500, None, ServerError),
    ],
)
async def test_statuses_and_codes_mean_what_they_mean_in_chat(wire, provider, ask, status, code, expected):
    wire.answers(status, {"error": {"code": code, "message": "said so"}})
    with pytest.raises(expected):
        await provider.complete(ask())
    assert len(wire.requests) == 1


async def test_a_stream_yields_text_and_ends_when_it_is_completed(wire, provider, ask):
    streams(
        wire,
        {"type": "response.created"},
        delta("hel"),
        delta("lo"),
        {"type": "response.completed", "response": response()},
    )
    assert await collected(provider.stream(ask())) == ["hel", "lo"]
    assert wire.requests[0].body["stream"] is True


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (None, MalformedCompletion),
        ({"type": "response.incomplete", "response": response(**incomplete("max_output_tokens"))}, OutputTruncated),
        ({"type": "response.refusal.delta", "delta": "no"}, ContentRefused),
        ({"type": "response.completed", "response": response({"type": "refusal", "refusal": "no"})}, ContentRefused),
        (
            {"type": "response.failed", "response": {"error": {"code": "server_error", "type": "server_error"}}},
            ServerError,
        ),
        ({"type": "error", "code": "rate_limit_exceeded", "message": "slow"}, Throttled),
        ({"type": "error", "code": "server_error", "message": "boom"}, ServerError),
        (delta(None), MalformedCompletion),
    ],
)
async def test_a_stream_that_does_not_end_well_says_so(wire, provider, ask, last, expected):
    streams(wire, delta("half"), *([last] if last else []))
    stream = provider.stream(ask())
    assert await anext(stream) == "half"
    with pytest.raises(expected):
        await anext(stream)


async def test_a_server_that_hangs_times_out(wire, provider, ask):
    async def hang(request):
        await request.until_client_is_gone()

    wire.handler = hang
    with pytest.raises(Timeout):
        await provider.complete(ask(timeout_s=0.25))
