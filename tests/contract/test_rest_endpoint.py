"""Endpoints described in the catalog, over the wire: what is sent and read, what they do not tell, what is refused.

What breaks on the way is in `test_json_http.py`; the template itself in `tests/unit/test_rest_template.py`.
"""

from __future__ import annotations

import json
import re
from datetime import date

import pytest
import yaml

from gateway.calls.call import Caller
from gateway.calls.hop import Hop, Seat
from gateway.calls.terms import Terms
from gateway.catalog_entries import ModelEntry
from gateway.errors import (
    AuthRejected,
    ConfigurationError,
    ContentRefused,
    ContextTooLong,
    InvalidRequest,
    MalformedCompletion,
    OutputTruncated,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    ServerError,
    Throttled,
    Timeout,
)
from gateway.ledger import CallKind, CallOutcome, MemoryLedger
from gateway.limits.group import LimitGroup
from gateway.messages import Message, ModelRef, Usage

KEY = "sk-test-0123456789abcdef"
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}

SEEDS = """
path: /v1/generate
body: {model: "{model}", prompt: "{prompt}", max_tokens: "{max_tokens}", temperature: "{temperature}"}
answer: /output
usage: estimated
finish: untold
"""
"""The custom endpoint that the first users have: it tells its output and nothing else."""

FULL = """
path: /models/{model}/answers?version=2
auth: {header: X-Api-Key, value: "{key}"}
headers: {X-Tenant: assayline}
body:
  instructions: "{system}"
  turns: "{messages}"
  limits: {output: "{max_tokens}"}
  temperature: "{temperature}"
  response_format: {type: json_schema, json_schema: {name: "{schema_name}", schema: "{schema}"}}
answer: /choices/0/text
usage: {input: /usage/in, output: /usage/out, cached: /usage/cached, input_includes_cached: false}
finish: {at: /choices/0/why, stop: [end, true], length: [max], refusal: [filtered]}
model: /model
request_id: /id
request_id_header: X-Trace
error_message: /error/message
error_code: /error/code
errors: {418: overloaded, 202: throttled, 503: server_error}
error_codes: {window: context_too_long, "17": quota_exhausted}
stream: {body: {stream: true}, text: /delta, finish: /why, done: "[DONE]"}
availability_path: /health
"""
"""One that tells everything, in words of its own."""

ANSWER = {
    "id": "a-1",
    "model": "m-served",
    "choices": [{"text": "hello", "why": "end"}],
    "usage": {"in": 10, "out": 7, "cached": 16},
}


async def collected(stream):
    return [piece async for piece in stream]


@pytest.fixture
def endpoint(wire, build):
    """Build the adapter from a description in YAML and changes to it, pointed at `wire`."""

    def builder(described=SEEDS, api_key=KEY, **changes):
        options = yaml.safe_load(described) | changes
        return build(dialect="http", base_url=wire.url.removesuffix("/v1"), api_key=api_key, options=options)

    return builder


@pytest.fixture
def refused(endpoint, ask):
    async def call(expected, described=FULL, **changes):
        with pytest.raises(expected) as caught:
            await endpoint(described, **changes).complete(ask())
        assert type(caught.value) is expected
        return caught.value

    return call


def streams(wire, *events):
    """Send these as server-sent events to every request."""

    async def stream(request):
        await request.start_stream()
        for event in events:
            raw = event if isinstance(event, bytes) else f"data: {json.dumps(event)}\n\n".encode()
            await request.send_raw(raw)
        request.close()

    wire.handler = stream


# The seeds' endpoint


async def test_the_custom_endpoint_of_the_seeds_takes_five_lines(wire, endpoint, ask):
    wire.answers(body={"output": "hello"})
    request = ask(messages=(Message("user", "Say hello."),), temperature=0.7)
    completion = await endpoint().complete(request)
    [sent] = wire.requests
    assert (sent.method, sent.path, sent.headers["authorization"]) == ("POST", "/v1/generate", f"Bearer {KEY}")
    assert sent.body == {"model": "gpt-4o", "prompt": "Say hello.", "max_tokens": 100, "temperature": 0.7}
    assert (completion.text, completion.model, completion.provider_request_id) == ("hello", "gpt-4o", None)


async def test_an_untold_usage_is_estimated_and_said_to_be(wire, endpoint, ask):
    wire.answers(body={"output": "h\u00e9llo w\u00f6rld"})
    provider = endpoint()
    completion = await provider.complete(ask())
    assert completion.usage == Usage(provider.count_tokens(ask()), 5)  # 13 bytes / 3, rounded up
    assert completion.usage_estimated is True


async def test_an_estimate_is_marked_in_the_ledger(wire, endpoint, ask):
    entry = ModelEntry(
        context_window=8_192,
        max_output_tokens=1_000,
        capabilities=frozenset(),
        price={"input_per_mtok_usd": "1", "output_per_mtok_usd": "2"},
        source="test",
        checked=date(2026, 11, 21),
    )
    ends = {}
    for described, body in ((SEEDS, {"output": "hello"}), (FULL, ANSWER)):
        wire.answers(body=body)
        ledger = MemoryLedger()
        hop = Hop(ModelRef("p", "m"), entry, (Seat(LimitGroup("p", "default", "default"), endpoint(described)),), 60.0)
        await Caller().call(hop, ask(), ledger, CallKind.ANSWER, Terms())
        ends[described] = ledger.calls[0].end
    assert ends[SEEDS].outcome is ends[FULL].outcome is CallOutcome.SUCCEEDED
    assert (ends[SEEDS].estimated, ends[FULL].estimated) == (True, False)
    assert ends[SEEDS].cost_usd > 0


async def test_an_estimate_is_not_handed_on_with_an_error_as_if_it_were_counted(wire, refused):
    wire.answers(body={"output": "half", "why": "max"})
    finish = {"at": "/why", "stop": ["end"], "length": ["max"]}
    error = await refused(OutputTruncated, SEEDS, finish=finish)
    assert (error.raw_text, error.usage) == ("half", None)


# The request


async def test_everything_a_description_says_is_sent(wire, endpoint, ask):
    wire.answers(body=ANSWER)
    await endpoint(FULL).complete(ask(model="org/m 1", temperature=0.25, schema=SCHEMA, schema_name="skills"))
    [request] = wire.requests
    assert request.path == "/models/org%2Fm%201/answers?version=2"
    assert request.headers["x-api-key"] == KEY
    assert request.headers["x-tenant"] == "assayline"
    assert "authorization" not in request.headers
    assert request.body == {
        "instructions": "Be short.",
        "turns": [{"role": "user", "content": "Say hello."}],
        "limits": {"output": 100},
        "temperature": 0.25,
        "response_format": {"type": "json_schema", "json_schema": {"name": "skills", "schema": SCHEMA}},
    }


async def test_what_a_request_does_not_have_is_not_sent(wire, endpoint, ask):
    wire.answers(body=ANSWER)
    await endpoint(FULL).complete(ask(messages=(Message("user", "hi"),)))
    assert wire.requests[0].body == {"turns": [{"role": "user", "content": "hi"}], "limits": {"output": 100}}


async def test_further_fields_of_the_model_are_sent_and_the_templates_win(wire, endpoint, ask):
    wire.answers(body={"output": "hello"})
    await endpoint().complete(ask(extra_body={"seed": 7, "prompt": "never"}))
    assert wire.requests[0].body["seed"] == 7
    assert "Say hello." in wire.requests[0].body["prompt"]


async def test_a_header_of_ours_may_be_replaced_and_is_sent_once(wire, endpoint, ask):
    wire.answers(body={"output": "hello"})
    await endpoint(headers={"User-Agent": "theirs", "Accept": "application/json"}).complete(ask())
    assert wire.requests[0].headers["user-agent"] == "theirs"
    assert wire.requests[0].headers["accept"] == "application/json"


async def test_without_a_key_no_header_is_sent_for_it(wire, endpoint, ask):
    wire.answers(body=ANSWER)
    await endpoint(FULL, api_key=None).complete(ask())
    assert "x-api-key" not in wire.requests[0].headers


@pytest.mark.parametrize("model", ["..", ".", ""])
async def test_a_model_cannot_lead_to_another_path(wire, endpoint, ask, model):
    with pytest.raises(InvalidRequest, match="path"):
        await endpoint(FULL).complete(ask(model=model))
    assert wire.requests == []


async def test_capabilities_follow_from_the_description(endpoint):
    assert (endpoint().capabilities.structured_output, endpoint().capabilities.streaming) == (False, False)
    assert (endpoint(FULL).capabilities.structured_output, endpoint(FULL).capabilities.streaming) == (True, True)


@pytest.mark.parametrize(("described", "path"), [(SEEDS, "/"), (FULL, "/health")])
async def test_is_available_asks_where_it_was_told_to(wire, endpoint, described, path):
    wire.answers(body={})
    assert await endpoint(described).is_available() is True
    assert (wire.requests[0].method, wire.requests[0].path) == ("GET", path)


# The answer


async def test_everything_an_answer_tells_is_kept(wire, endpoint, ask):
    headers = {
        "X-Trace": "t-9",
        "RateLimit": "r=3",
        "x-ratelimit-remaining": "3",
        "Retry-After": "1",
        "set-cookie": "a=b",
    }
    wire.answers(body=ANSWER, headers=headers)
    completion = await endpoint(FULL).complete(ask())
    assert completion.text == "hello"
    assert completion.usage == Usage(26, 7, 16)
    assert completion.usage_estimated is False
    assert completion.model == "m-served"
    assert completion.provider_request_id == "t-9"
    assert completion.headers == {
        "x-trace": "t-9",
        "ratelimit": "r=3",
        "x-ratelimit-remaining": "3",
        "retry-after": "1",
    }


@pytest.mark.parametrize(
    ("change", "id_"), [({}, "a-1"), ({"id": 17}, "17"), ({"id": None}, None), ({"id": ""}, None), ({"id": []}, None)]
)
async def test_the_id_is_the_bodys_where_no_header_has_it(wire, endpoint, ask, change, id_):
    wire.answers(body=ANSWER | change)
    assert (await endpoint(FULL).complete(ask())).provider_request_id == id_


@pytest.mark.parametrize("missing", ["model", "cached"])
async def test_what_an_answer_may_leave_out(wire, endpoint, ask, missing):
    usage = {name: count for name, count in ANSWER["usage"].items() if name != missing}
    wire.answers(body={name: value for name, value in ANSWER.items() if name != missing} | {"usage": usage})
    completion = await endpoint(FULL).complete(ask())
    assert completion.model == ("gpt-4o" if missing == "model" else "m-served")
    assert completion.usage == (Usage(10, 7) if missing == "cached" else Usage(26, 7, 16))


async def test_an_input_that_includes_the_cached_is_not_counted_twice(wire, endpoint, ask):
    wire.answers(body=ANSWER | {"usage": {"in": 26, "out": 7, "cached": 16}})
    usage = {"input": "/usage/in", "output": "/usage/out", "cached": "/usage/cached"}
    assert (await endpoint(FULL, usage=usage).complete(ask())).usage == Usage(26, 7, 16)


@pytest.mark.parametrize("schema", [None, SCHEMA])
async def test_an_object_is_an_answer_where_a_schema_was_asked_for(wire, endpoint, ask, schema):
    wire.answers(body=ANSWER | {"choices": [{"text": {"name": "h\u00e9"}, "why": "end"}]})
    answer = endpoint(FULL).complete(ask(schema=schema))
    if schema is None:
        with pytest.raises(MalformedCompletion, match="no text at '/choices/0/text'"):
            await answer
    else:
        assert (await answer).text == '{"name": "h\u00e9"}'


@pytest.mark.parametrize("why", ["end", True])
async def test_a_word_for_a_whole_answer(wire, endpoint, ask, why):
    wire.answers(body=ANSWER | {"choices": [{"text": "hello", "why": why}]})
    assert (await endpoint(FULL).complete(ask())).text == "hello"


@pytest.mark.parametrize("text", ["half an ans", None])
@pytest.mark.parametrize(("why", "expected"), [("max", OutputTruncated), ("filtered", ContentRefused)])
async def test_an_answer_that_is_not_whole(wire, refused, text, why, expected):
    wire.answers(body=ANSWER | {"choices": [{"text": text, "why": why}]})
    error = await refused(expected)
    assert (error.raw_text, error.usage, error.provider_request_id) == (text or "", Usage(26, 7, 16), "a-1")


@pytest.mark.parametrize("why", ["tool", None, 1, False, ["end"], {}, 1.0], ids=str)
async def test_a_reason_that_is_not_listed_is_malformed(wire, refused, why):
    """1 is not true, whatever Python says."""
    wire.answers(body=ANSWER | {"choices": [{"text": "hello", "why": why}]})
    error = await refused(MalformedCompletion)
    assert error.provider_request_id == "a-1"
    assert "hello" in error.raw_text


@pytest.mark.parametrize(("out", "whole"), [(99, True), (100, False), (101, False)])
async def test_where_no_reason_is_told_a_full_answer_counts_as_cut(wire, endpoint, ask, out, whole):
    wire.answers(body=ANSWER | {"usage": {"in": 1, "out": out}})
    provider = endpoint(FULL, finish="untold", stream=None)
    if whole:
        assert (await provider.complete(ask())).text == "hello"
        return
    with pytest.raises(OutputTruncated):
        await provider.complete(ask())


async def test_an_estimate_never_says_that_an_answer_was_cut(wire, endpoint, ask):
    wire.answers(body={"output": "x" * 3 * 200})
    assert (await endpoint().complete(ask(max_tokens=100))).usage.output_tokens == 200


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {},
        {"in": 1},
        {"in": -1, "out": 1},
        {"in": "1", "out": 1},
        {"in": 1.5, "out": 1},
        {"in": True, "out": 1},
        {"in": 1, "out": 10**10},
        {"in": 1, "out": 1, "cached": "2"},
    ],
    ids=str,
)
async def test_an_answer_without_the_usage_it_should_tell_is_malformed_and_kept(wire, refused, usage):
    wire.answers(body=ANSWER | {"usage": usage})
    error = await refused(MalformedCompletion)
    assert (error.raw_text, error.provider_request_id) == ("hello", "a-1")


@pytest.mark.parametrize(
    "body", [{}, {"output": None}, {"output": 7}, {"output": ["hello"]}, [], "hello", None], ids=str
)
async def test_an_answer_without_text_is_malformed(wire, refused, body):
    wire.answers(body=body if body is not None else b"null")
    await refused(MalformedCompletion, SEEDS)


async def test_a_body_that_is_the_answer_itself(wire, endpoint, ask):
    wire.answers(body=b'"hello"')
    assert (await endpoint(answer="").complete(ask())).text == "hello"


# Errors


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (202, Throttled),  # by the description: the endpoint queues, and has no answer yet
        (301, InvalidRequest),
        (400, InvalidRequest),
        (401, AuthRejected),
        (402, QuotaExhausted),
        (403, AuthRejected),
        (404, InvalidRequest),
        (408, Timeout),
        (409, InvalidRequest),
        (413, ContextTooLong),
        (418, Overloaded),  # by the description
        (422, InvalidRequest),
        (429, Throttled),
        (500, ServerError),
        (502, ServerError),
        (503, ServerError),  # by the description
        (504, Timeout),
        (529, Overloaded),
    ],
)
async def test_every_row_of_the_error_table(wire, refused, status, expected):
    wire.answers(status, {"error": {"message": "no"}}, {"x-trace": "t-1"})
    error = await refused(expected)
    assert str(error) == f"HTTP {status}: no"
    assert error.provider_request_id == "t-1"
    assert len(wire.requests) == 1


def every_error():
    return {cls("").name: cls for cls in ProviderError.__subclasses__()}


@pytest.mark.parametrize("name", sorted(every_error()))
async def test_a_description_may_name_every_error(wire, refused, name):
    wire.answers(400, {})
    await refused(every_error()[name], errors={400: name})


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "window", ContextTooLong),
        (500, "window", ContextTooLong),
        (400, 17, QuotaExhausted),
        (400, "17", QuotaExhausted),
        (418, "window", ContextTooLong),
        (400, "other", InvalidRequest),
        (400, None, InvalidRequest),
        (400, ["window"], InvalidRequest),
    ],
)
async def test_a_code_says_more_than_a_status(wire, refused, status, code, expected):
    wire.answers(status, {"error": {"code": code}})
    await refused(expected)


async def test_a_quota_that_is_over_in_a_minute_is_a_rate_limit(wire, refused):
    wire.answers(402, {}, {"retry-after": "60"})
    assert (await refused(Throttled)).retry_after_s == 60


@pytest.mark.parametrize(
    ("error", "expected", "said"),
    [
        ({"message": "boom"}, MalformedCompletion, "boom"),
        ({"message": {"a": 1}}, MalformedCompletion, '{"a": 1}'),
        ({"code": "window"}, ContextTooLong, ""),
        ({"code": "window", "message": "too long"}, ContextTooLong, "too long"),
    ],
)
async def test_an_error_under_a_200_is_translated(wire, refused, error, expected, said):
    wire.answers(200, ANSWER | {"error": error})
    failure = await refused(expected)
    assert said in str(failure)
    assert failure.provider_request_id == "a-1"


async def test_an_empty_error_beside_an_answer_is_none(wire, endpoint, ask):
    wire.answers(body=ANSWER | {"error": {"message": "", "code": None}})
    assert (await endpoint(FULL).complete(ask())).text == "hello"


async def test_a_message_is_bounded_and_holds_no_key(wire, refused):
    wire.answers(400, {"error": {"message": f"{KEY} " + "x" * 10_000}})
    message = str(await refused(InvalidRequest))
    assert message.startswith("HTTP 400: [key] x")
    assert len(message) == 500


# Streams


async def test_without_a_description_of_streams_the_answer_comes_in_one_piece(wire, endpoint, ask):
    wire.answers(body={"output": "hello"})
    assert await collected(endpoint().stream(ask())) == ["hello"]
    assert "stream" not in wire.requests[0].body


async def test_server_sent_events(wire, endpoint, ask):
    streams(
        wire,
        b": a comment\r\n\r\n",
        b"event: piece\nid: 1\nretry: 5\ndata: " + json.dumps({"delta": "hel"}).encode() + b"\r\n\r\n",
        b'data:{"delta":\ndata: "lo"}\n\n',
        {"delta": None},
        {"role": "assistant"},
        b"event: ping\n\n",
        {"delta": "", "why": "end"},
        b"data: [DONE]\n\n",
    )
    assert await collected(endpoint(FULL).stream(ask())) == ["hel", "lo"]
    assert wire.requests[0].body["stream"] is True
    assert wire.requests[0].body["limits"] == {"output": 100}


@pytest.mark.parametrize("last", [b"data: [DONE]\n\n", b"data: [DONE]"])
async def test_a_marker_alone_may_end_a_stream(wire, endpoint, ask, last):
    streams(wire, {"delta": "hello"}, last)
    provider = endpoint(FULL, stream={"text": "/delta", "done": "[DONE]"})
    assert await collected(provider.stream(ask())) == ["hello"]


async def test_a_document_a_line(wire, endpoint, ask):
    streams(wire, b'{"delta": "hel"}\n\n', b'{"delta": "lo", "why": "end"}\n')
    provider = endpoint(FULL, stream={"format": "ndjson", "text": "/delta", "finish": "/why"})
    assert await collected(provider.stream(ask())) == ["hel", "lo"]


@pytest.mark.parametrize(
    "last",
    [
        b"",
        b"data: [DONE]\n\n",  # the marker, but no reason, where a reason was described
        b"data: [DON",
        b'data: {"del',
        b"data: \xff\n\n",
        {"delta": 7},
        {"why": "tool"},
        {"why": ["end"]},
        {"error": {"message": "boom"}},
    ],
    ids=str,
)
async def test_a_stream_that_does_not_end_as_it_should_is_malformed(wire, endpoint, ask, last):
    streams(wire, {"delta": "half an ans"}, last)
    stream = endpoint(FULL).stream(ask())
    assert await anext(stream) == "half an ans"
    with pytest.raises(MalformedCompletion):
        await collected(stream)


async def test_a_stream_without_its_marker_is_malformed(wire, endpoint, ask):
    streams(wire, {"delta": "half"})
    with pytest.raises(MalformedCompletion, match="without a finish reason"):
        await collected(endpoint(FULL, stream={"text": "/delta", "done": "[DONE]"}).stream(ask()))


@pytest.mark.parametrize(("why", "expected"), [("max", OutputTruncated), ("filtered", ContentRefused)])
async def test_a_stream_the_model_did_not_finish_says_so_at_its_end(wire, endpoint, ask, why, expected):
    streams(wire, {"delta": "half"}, {"why": why}, b"data: [DONE]\n\n")
    stream = endpoint(FULL).stream(ask())
    assert await anext(stream) == "half"
    with pytest.raises(expected):
        await anext(stream)


async def test_a_coded_error_in_mid_stream_is_translated(wire, endpoint, ask):
    streams(wire, {"delta": "half"}, {"error": {"code": "window", "message": "too long"}})
    with pytest.raises(ContextTooLong, match="too long"):
        await collected(endpoint(FULL).stream(ask()))


@pytest.mark.parametrize(("status", "expected"), [(429, Throttled), (202, Throttled), (418, Overloaded)])
async def test_a_stream_refused_at_the_start_raises_at_the_first_item(wire, endpoint, ask, status, expected):
    wire.answers(status, {"error": {"message": "no"}}, {"retry-after": "2"})
    with pytest.raises(expected, match="no") as caught:
        await collected(endpoint(FULL).stream(ask()))
    assert caught.value.retry_after_s == 2


async def test_an_event_is_bounded(wire, endpoint, ask, monkeypatch):
    monkeypatch.setattr("gateway.providers.rest.events.MOST_LINE_BYTES", 1_000)
    streams(wire, *[b"data: " + b"x" * 400 + b"\n"] * 3)
    with pytest.raises(MalformedCompletion, match="longer than 1,000"):
        await collected(endpoint(FULL).stream(ask()))


# Descriptions that do not hold


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"path": "v1"}, "option 'path'"),
        ({"path": "/a b"}, "option 'path'"),
        ({"path": "/a#b"}, "option 'path'"),
        ({"path": "/{modl}"}, "option 'path'.*unknown placeholder"),
        ({"path": "/" + "x" * 1_024}, "option 'path'"),
        ({"method": "GET"}, "option 'method'"),
        ({"auth": {"value": "Bearer"}}, "option 'auth.value'"),
        ({"auth": {"value": "hunter2 {kye}"}}, "option 'auth.value'"),
        ({"auth": {"value": "{key}\n"}}, "option 'auth.value'"),
        ({"auth": {"header": "X Key"}}, "option 'auth.header'"),
        ({"auth": {"header": "Content-Length"}}, "option 'auth.header'"),
        ({"headers": {"x": "hunter2\r\nb"}}, "option 'headers.x'"),
        ({"headers": {"x": ""}}, "option 'headers.x'"),
        ({"headers": {"x": "y" * 1_025}}, "option 'headers.x'"),
        ({"headers": {"Host": "y"}}, "option 'headers.Host"),
        ({"headers": {"authorization": "y"}}, "option 'headers'"),
        ({"headers": {"a": "y", "A": "z"}}, "option 'headers'"),
        ({"headers": {f"x{n}": "y" for n in range(33)}}, "option 'headers'"),
        ({"body": "{prompt}"}, "option 'body'.*JSON object"),
        ({"body": {"max": "{max_tokens}"}}, "option 'body'.*would not be sent"),
        ({"body": {"s": "{system}", "max": "{max_tokens}"}}, "option 'body'.*would not be sent"),
        ({"body": {"p": {"q": "{promt}"}}}, "option 'body'.*at /p/q: unknown placeholder"),
        ({"body": {"p": "{prompt}"}}, "option 'unbounded_output'"),
        ({"unbounded_output": True}, "option 'unbounded_output'"),
        ({"answer": "output"}, "option 'answer'.*JSON pointer"),
        ({"answer": None}, "option 'answer'"),
        ({"usage": None}, "option 'usage'.*estimated"),
        ({"usage": "none"}, "option 'usage'.*estimated"),
        ({"usage": {"input": "/a"}}, "option 'usage.output'"),
        ({"usage": {"input": "/a", "output": "/b", "total": "/c"}}, "option 'usage.total'"),
        ({"finish": None}, "option 'finish'.*untold"),
        ({"finish": {"at": "/a", "stop": []}}, "option 'finish.stop'"),
        ({"finish": {"at": "/a", "stop": ["x"], "length": ["x"]}}, "option 'finish'.*twice"),
        ({"errors": {429: "throtled"}}, "option 'errors.429'.*known: auth_rejected"),
        ({"errors": {200: "throttled"}}, "option 'errors.200"),
        ({"errors": {600: "throttled"}}, "option 'errors.600"),
        ({"error_codes": {"a": "throttled"}}, "option 'error_codes'.*error_code"),
        ({"error_code": "/code", "error_codes": {"a": "nothing"}}, "option 'error_codes.a'"),
        ({"stream": {"text": "/a"}}, "option 'stream'.*how a whole answer ends"),
        ({"stream": {"text": "/a", "finish": "/b"}}, "option 'stream'.*must be listed"),
        ({"stream": {"text": "/a", "done": "x", "format": "xml"}}, "option 'stream.format'"),
        ({"availability_path": "health"}, "option 'availability_path'"),
        ({"colour": "red"}, "option 'colour'"),
    ],
    ids=str,
)
async def test_a_description_that_does_not_hold_is_refused_and_the_option_named(endpoint, changes, problem):
    with pytest.raises(ConfigurationError, match=r"provider 'p': " + problem) as caught:
        endpoint(**changes)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("needed", ["path", "body", "answer", "usage", "finish"])
async def test_what_must_be_said_has_no_default(build, needed):
    options = {name: value for name, value in yaml.safe_load(SEEDS).items() if name != needed}
    with pytest.raises(ConfigurationError, match=re.escape(f"option '{needed}': Field required")):
        build(dialect="http", base_url="http://127.0.0.1:1", options=options)


async def test_an_endpoint_without_a_limit_of_output_must_be_said_to_be_one(wire, endpoint, ask):
    wire.answers(body={"output": "hello"})
    provider = endpoint(body={"p": "{prompt}"}, unbounded_output=True)
    assert (await provider.complete(ask())).text == "hello"
