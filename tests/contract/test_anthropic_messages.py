"""Anthropic's Messages API on the wire, through the real SDK: the question, the answer, the stream."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from decimal import Decimal

import pytest

from gateway.calls.call import Caller
from gateway.calls.hop import Hop, Seat
from gateway.calls.terms import Terms
from gateway.catalog_entries import ModelEntry, Price
from gateway.errors import (
    AuthRejected,
    ConfigurationError,
    ContentRefused,
    ContextTooLong,
    InvalidRequest,
    MalformedCompletion,
    OutputTruncated,
    Overloaded,
    QuotaExhausted,
    ServerError,
    Throttled,
    Timeout,
    Unreachable,
)
from gateway.ledger import CallKind, MemoryLedger
from gateway.limits.group import LimitGroup
from gateway.messages import FinishReason, Message, ModelRef, Usage

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


async def test_without_a_base_url_it_is_anthropics_whatever_the_environment_says(build, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    assert build(dialect="anthropic")._client.base_url == "https://api.anthropic.com"


@pytest.mark.parametrize("prefix", ["", "/", "/proxy/claude"])
async def test_base_url_and_path_are_joined(wire, build, ask, prefix):
    wire.answers(body=message())
    await build(dialect="anthropic", base_url=wire.url.removesuffix("/v1") + prefix).complete(ask())
    assert wire.requests[0].path == prefix.rstrip("/") + "/v1/messages"


@pytest.mark.parametrize("options", [{"beta": []}, {"betas": "one"}, {"keepalive_s": 0}, {"extra_body": [1]}])
async def test_an_unusable_option_is_refused_and_named(build, options):
    with pytest.raises(ConfigurationError, match=f"provider 'p': option '{next(iter(options))}'"):
        build(dialect="anthropic", options=options)


async def test_an_unsendable_key_is_refused_without_showing_it(build):
    with pytest.raises(ConfigurationError) as caught:
        build(dialect="anthropic", api_key="sk-secret\n")
    assert "sk-secret" not in str(caught.value)


async def test_any_number_of_calls_can_be_open_and_connections_are_used_again(wire, claude, ask):
    """The bound of aiohttp is 100, the SDK's 1,000; no answer is given before all have arrived."""
    calls, all_arrived = 150, asyncio.Event()

    async def answer_when_all_are_here(request):
        if len(wire.requests) == calls:
            all_arrived.set()
        await all_arrived.wait()
        await request.send(200, message())

    wire.handler = answer_when_all_are_here
    provider = claude()
    async with asyncio.timeout(20):
        await asyncio.gather(*(provider.complete(ask()) for _ in range(calls)))
    assert provider._client._client._transport.client.connector.limit == 0
    await provider.complete(ask())
    assert wire.connections == calls


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


async def test_an_answer_that_filled_the_window_was_paid_for(wire, claude, ask):
    """ContextTooLong costs nothing as a rule: the prompt is turned away. This one was answered."""
    wire.answers(body=message("half", stop_reason="model_context_window_exceeded"))
    entry = ModelEntry(
        context_window=1_000,
        max_output_tokens=100,
        capabilities=frozenset(),
        price=Price(input_per_mtok_usd=Decimal(1), output_per_mtok_usd=Decimal(5)),
        source="test",
        checked=date(2026, 11, 21),
    )
    hop, ledger = (
        Hop(ModelRef("claude", "m"), entry, (Seat(LimitGroup("claude", "default", "default"), claude()),), 20),
        MemoryLedger(),
    )
    with pytest.raises(ContextTooLong):
        await Caller().call(hop, ask(), ledger, CallKind.ANSWER, Terms())
    [written] = ledger.calls
    assert (written.end.cost_usd, written.end.usage) == (Decimal("0.000055"), Usage(20, 7))


async def test_an_id_and_a_models_name_are_bounded(wire, claude, ask):
    wire.answers(body=message(id="i" * 5_000, model="m" * 5_000))
    completion = await claude().complete(ask())
    assert (len(completion.provider_request_id), len(completion.model)) == (200, 200)


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


@pytest.mark.parametrize(
    ("kind", "said", "expected"),
    [
        ("api_error", "boom", ServerError),
        ("overloaded_error", "busy", Overloaded),
        ("rate_limit_error", "slow down", Throttled),
        ("timeout_error", "late", Timeout),
        ("authentication_error", "who", AuthRejected),
        ("billing_error", "pay", QuotaExhausted),
        ("invalid_request_error", "prompt is too long", ContextTooLong),
        ("invalid_request_error", "no", InvalidRequest),
        ("an_error_of_tomorrow", "hm", MalformedCompletion),
    ],
)
async def test_an_error_event_has_no_status_and_is_judged_by_what_it_says(wire, claude, ask, kind, said, expected):
    """The SDK raises it with the stream's own status, 200, which says nothing."""
    event = {"type": "error", "error": {"type": kind, "message": said}}
    wire.answers(body=sse(START, text_delta("half"), event), headers={"request-id": "req_1"})
    stream = claude().stream(ask())
    assert await anext(stream) == "half"
    with pytest.raises(expected, match=said) as caught:
        await anext(stream)
    assert type(caught.value) is expected
    assert caught.value.provider_request_id == "req_1"


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "[" * 100_000,
        "[1]",
        "null",
        json.dumps(text_delta(None)),
        json.dumps({"type": "content_block_delta", "delta": {"type": "text_delta"}}),
    ],
    ids=lambda data: data[:20],
)
async def test_an_event_that_is_none_is_malformed(wire, claude, ask, data):
    bad = f"event: content_block_delta\ndata: {data}\n\n".encode()
    wire.answers(body=bad + sse(end("end_turn"), STOP))
    with pytest.raises(MalformedCompletion):
        await collected(claude().stream(ask()))


async def test_a_body_that_is_no_stream_is_malformed(wire, claude, ask):
    """As a proxy answers that cannot stream, or that drops the events' names."""
    for body in (json.dumps(message()).encode(), f"data: {json.dumps(text_delta('hi'))}\n\n".encode()):
        wire.answers(body=body)
        with pytest.raises(MalformedCompletion, match="without a finish reason"):
            await collected(claude().stream(ask()))


async def test_a_stream_refused_at_the_start_raises_at_the_first_item(wire, claude, ask):
    body = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
    wire.answers(429, body, {"retry-after": "7", "request-id": "req_1"})
    with pytest.raises(Throttled) as caught:
        await anext(claude().stream(ask()))
    assert (caught.value.retry_after_s, caught.value.provider_request_id) == (7, "req_1")


async def test_a_stream_that_stalls_ends_at_the_deadline(wire, claude, ask):
    streams(wire, START, text_delta("first"), close=False)
    stream = claude().stream(ask(timeout_s=0.5))
    assert await anext(stream) == "first"
    async with asyncio.timeout(20):
        with pytest.raises(Timeout, match=r"within 0\.5 s"):
            await anext(stream)


async def test_the_deadline_never_cuts_the_consumers_own_work_short(wire, claude, ask):
    """It passes while the consumer is busy with the first piece; only the next wait for the provider ends."""
    streams(wire, START, text_delta("first"), close=False)
    stream = claude().stream(ask(timeout_s=0.2))
    assert await anext(stream) == "first"
    await asyncio.sleep(0.25)  # the consumer's own work; there is nothing to wait for
    with pytest.raises(Timeout):
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


@pytest.mark.parametrize(("status", "expected"), [(401, False), (403, False), (404, True), (429, True), (529, False)])
async def test_is_available_by_status(wire, claude, status, expected):
    wire.answers(status, {"type": "error", "error": {"message": "no"}})
    assert await claude().is_available() is expected


async def test_is_available_is_quick_and_never_raises(wire, claude, monkeypatch):
    monkeypatch.setattr("gateway.providers.sdk.AVAILABLE_TIMEOUT_S", 0.1)

    async def hang(request):
        await request.until_client_is_gone()

    wire.handler = hang
    assert await claude().is_available() is False
