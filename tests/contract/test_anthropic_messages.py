"""Anthropic's Messages API on the wire, through the real SDK: the question, the answer, the stream."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.errors import (
    ContentRefused,
    ContextTooLong,
    MalformedCompletion,
    OutputTruncated,
    Overloaded,
    Timeout,
    Unreachable,
)
from gateway.messages import FinishReason, Message, Usage

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["tags"],
    "properties": {"tags": {"type": "object", "additionalProperties": {"type": "string"}}},
}
"""With a map: the SDK's own transformer would make an empty closed object of it."""


def message(text="hello", **changes):
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-served",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 20, "output_tokens": 7},
    } | changes


def sse(*events):
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()


def text_delta(text):
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def end(reason, **delta):
    return {"type": "message_delta", "delta": {"stop_reason": reason, **delta}, "usage": {"output_tokens": 7}}


START = {"type": "message_start", "message": message(content=[], stop_reason=None)}
STOP = {"type": "message_stop"}


@pytest.fixture
def claude(wire, build):
    """The adapter, pointed at the double; its options by keyword."""
    root = wire.url.removesuffix("/v1")
    return lambda **options: build(dialect="anthropic", base_url=root, options=options)


def streams(wire, *events, close=True):
    async def answer(request):
        await request.start_stream()
        await request.send_raw(sse(*events))
        if close:
            request.close()
        else:
            await request.until_client_is_gone()

    wire.handler = answer


async def collected(stream):
    return [piece async for piece in stream]


# The question


async def test_the_body_is_the_messages_one(wire, claude, ask):
    wire.answers(body=message())
    turns = (Message("system", "Be short."), Message("user", "Hi."), Message("system", "Be kind."))
    await claude().complete(ask(model="claude-x", messages=turns, temperature=0.25, schema=SCHEMA))
    [request] = wire.requests
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.body == {
        "model": "claude-x",
        "max_tokens": 100,
        "system": "Be short.\n\nBe kind.",
        "messages": [{"role": "user", "content": "Hi."}],
        "temperature": 0.25,
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    }
    assert request.headers["anthropic-version"]


async def test_what_is_unset_is_left_out(wire, claude, ask):
    wire.answers(body=message())
    await claude().complete(ask(messages=(Message("user", "Hi."),)))
    assert wire.requests[0].body.keys() == {"model", "max_tokens", "messages"}


async def test_neighbours_of_one_role_are_one_turn(wire, claude, ask):
    wire.answers(body=message())
    turns = [("user", "a"), ("user", "b"), ("assistant", "c"), ("user", "d")]
    await claude().complete(ask(messages=tuple(Message(*turn) for turn in turns)))
    told = [(turn["role"], turn["content"]) for turn in wire.requests[0].body["messages"]]
    assert told == [("user", "a\n\nb"), ("assistant", "c"), ("user", "d")]


async def test_effort_stands_beside_the_format_and_nothing_of_ours_is_overridden(wire, claude, ask):
    wire.answers(body=message())
    extra = {"output_config": {"effort": "low", "format": "never"}, "model": "never"}
    await claude(extra_body={"thinking": {"type": "adaptive"}}).complete(ask(schema=SCHEMA, extra_body=extra))
    body = wire.requests[0].body
    assert body["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}
    assert (body["thinking"], body["model"]) == ({"type": "adaptive"}, "gpt-4o")


async def test_nothing_of_the_environment_is_sent(wire, build, ask, monkeypatch, tmp_path):
    """Neither another key, nor a profile of the SDK's command line, nor headers."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "default.json").write_text('{"base_url": "http://127.0.0.1:1", "auth_token": "somebody"}')
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.setenv(name, "of-somebody")
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Somebody: of-somebody")
    wire.answers(body=message())
    root = wire.url.removesuffix("/v1")
    await build(dialect="anthropic", base_url=root, api_key="sk-ant-mine").complete(ask())
    await build(dialect="anthropic", base_url=root, api_key=None).complete(ask())
    assert [request.headers["authorization"] for request in wire.requests] == ["Bearer sk-ant-mine", "Bearer none"]
    assert not any("somebody" in str(request.headers) for request in wire.requests)


async def test_betas_are_a_header(wire, claude, ask):
    wire.answers(body=message())
    await claude(betas=["one-2026", "two-2026"]).complete(ask())
    assert wire.requests[0].headers["anthropic-beta"] == "one-2026,two-2026"


# The answer


async def test_text_model_id_and_rate_limits_are_kept(wire, claude, ask):
    headers = {"request-id": "req_1", "anthropic-ratelimit-requests-remaining": "49", "set-cookie": "a=b"}
    blocks = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "hel"}]
    wire.answers(body=message(content=[*blocks, {"type": "text", "text": "lo"}]), headers=headers)
    completion = await claude().complete(ask())
    assert (completion.text, completion.finish_reason) == ("hello", FinishReason.STOP)
    assert (completion.model, completion.provider_request_id) == ("claude-served", "req_1")
    assert completion.headers == {"request-id": "req_1", "anthropic-ratelimit-requests-remaining": "49"}


async def test_input_counts_what_the_cache_gave_and_took(wire, claude, ask):
    counts = {
        "input_tokens": 20,
        "output_tokens": 7,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 30,
    }
    wire.answers(body=message(usage=counts))
    assert (await claude().complete(ask())).usage == Usage(150, 7, cached_tokens=100, cache_write_tokens=30)
    wire.answers(body=message(usage=counts | dict.fromkeys(list(counts)[2:])))
    assert (await claude().complete(ask())).usage == Usage(20, 7)


@pytest.mark.parametrize(
    ("changes", "expected", "says"),
    [
        ({"stop_reason": "max_tokens"}, OutputTruncated, "max_tokens"),
        ({"stop_reason": "refusal"}, ContentRefused, "declined"),
        ({"stop_reason": "refusal", "stop_details": {"type": "refusal", "category": "cyber"}}, ContentRefused, "cyber"),
        ({"stop_reason": "model_context_window_exceeded"}, ContextTooLong, "window"),
        ({"stop_reason": "tool_use"}, MalformedCompletion, "tool_use"),
        ({"stop_reason": "pause_turn"}, MalformedCompletion, "pause_turn"),
        ({"stop_reason": None}, MalformedCompletion, "None"),
    ],
)
async def test_an_answer_that_did_not_end_well_is_an_error_that_was_paid_for(
    wire, claude, ask, changes, expected, says
):
    wire.answers(body=message("half", **changes), headers={"request-id": "req_1"})
    with pytest.raises(expected, match=says) as caught:
        await claude().complete(ask())
    assert type(caught.value) is expected
    assert (caught.value.usage, caught.value.raw_text) == (Usage(20, 7), "half")
    assert caught.value.provider_request_id == "req_1"


async def test_a_stop_sequence_is_an_ordinary_end(wire, claude, ask):
    wire.answers(body=message(stop_reason="stop_sequence"))
    assert (await claude().complete(ask())).finish_reason is FinishReason.STOP


@pytest.mark.parametrize(
    "usage", [None, {}, {"input_tokens": 1}, {"input_tokens": -1, "output_tokens": 1}, {"input_tokens": "1"}, []]
)
async def test_an_answer_without_a_usable_count_is_malformed_and_keeps_its_text(wire, claude, ask, usage):
    wire.answers(body=message(usage=usage))
    with pytest.raises(MalformedCompletion, match="usage") as caught:
        await claude().complete(ask())
    assert caught.value.raw_text == "hello"


@pytest.mark.parametrize(
    "body",
    [b"no json", b"[]", b"{}", json.dumps(message(content="x")).encode(), json.dumps(message(content=[1])).encode()],
)
async def test_what_is_no_message_is_malformed(wire, claude, ask, body):
    wire.answers(body=body)
    with pytest.raises(MalformedCompletion):
        await claude().complete(ask())


async def test_an_error_object_under_a_200_is_an_error(wire, claude, ask):
    wire.answers(body={"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})
    with pytest.raises(Overloaded, match="busy"):
        await claude().complete(ask())


# The stream


async def test_a_stream_yields_text_and_no_thinking(wire, claude, ask):
    thinking = {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}
    streams(wire, START, {"type": "ping"}, thinking, text_delta("hel"), text_delta("lo"), end("end_turn"), STOP)
    assert await collected(claude().stream(ask())) == ["hel", "lo"]
    assert wire.requests[0].body["stream"] is True


async def test_a_stream_that_ends_without_a_reason_is_malformed(wire, claude, ask):
    streams(wire, START, text_delta("hel"))
    stream = claude().stream(ask())
    assert await anext(stream) == "hel"
    with pytest.raises(MalformedCompletion, match="without a finish reason"):
        await anext(stream)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (end("max_tokens"), OutputTruncated),
        (end("refusal"), ContentRefused),
        (end("refusal", stop_details={"type": "refusal", "category": "bio"}), ContentRefused),
        (end("model_context_window_exceeded"), ContextTooLong),
        (end("tool_use"), MalformedCompletion),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, Overloaded),
    ],
)
async def test_a_stream_that_does_not_end_well_says_so(wire, claude, ask, last, expected):
    streams(wire, START, text_delta("half"), last, STOP)
    stream = claude().stream(ask())
    assert await anext(stream) == "half"
    with pytest.raises(expected):
        await anext(stream)


async def test_a_stream_that_stalls_ends_at_the_deadline(wire, claude, ask):
    streams(wire, START, text_delta("first"), close=False)
    stream = claude().stream(ask(timeout_s=0.5))
    assert await anext(stream) == "first"
    with pytest.raises(Timeout, match=r"within 0\.5 s"):
        await anext(stream)


async def test_leaving_a_stream_early_closes_its_connection(wire, claude, ask):
    gone = asyncio.Event()

    async def stall(request):
        await request.start_stream()
        await request.send_raw(sse(START, text_delta("first")))
        await request.until_client_is_gone()
        gone.set()

    wire.handler = stall
    stream = claude().stream(ask())
    assert await anext(stream) == "first"
    await stream.aclose()
    async with asyncio.timeout(20):
        await gone.wait()


async def test_a_stream_whose_connection_breaks_is_unreachable(wire, claude, ask):
    async def drop(request):
        part = sse(START, text_delta("first"))
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        await request.send_raw(head + b"%x\r\n%b\r\n" % (len(part), part))
        request.reset()

    wire.handler = drop
    with pytest.raises(Unreachable):
        await collected(claude().stream(ask()))


async def test_is_available_asks_for_the_models(wire, claude):
    wire.answers(body={"data": []})
    assert await claude().is_available()
    assert (wire.requests[0].method, wire.requests[0].path) == ("GET", "/v1/models")
