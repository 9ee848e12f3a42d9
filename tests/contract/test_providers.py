"""What every dialect promises, and what the OpenAI-compatible one puts on the wire."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import resource
import socket
import sys

import pytest

from gateway.errors import (
    AuthRejected,
    ConfigurationError,
    ContentRefused,
    InvalidRequest,
    MalformedCompletion,
    OutputTruncated,
    ServerError,
    Throttled,
    Timeout,
    Unreachable,
)
from gateway.messages import FinishReason, Message, Usage
from gateway.providers.promises import PROMISES, keeps_the_deadline, refuses_what_is_no_text

HANG_GUARD_S = 20.0
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "tags"],
    "properties": {"name": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
}


async def collected(stream):
    return [piece async for piece in stream]


# Every dialect


REST_OPTIONS = {
    "path": "/api/chat",
    "body": {"model": "{model}", "messages": "{messages}", "max_tokens": "{max_tokens}", "format": "{schema}"},
    "answer": "/message/content",
    "usage": {"input": "/prompt_eval_count", "output": "/eval_count"},
    "finish": {"at": "/done_reason", "stop": ["stop"]},
    "stream": {"format": "ndjson", "body": {"stream": True}, "text": "/message/content", "finish": "/done_reason"},
}
"""An endpoint that speaks as Ollama does, as a catalog entry describes it."""


async def answer_as_ollama(request):
    """Answer "four words of text", in two pieces where a stream is asked for."""
    end = {"done": True, "done_reason": "stop", "prompt_eval_count": 20, "eval_count": 4}
    pieces = ["four words ", "of text"] if request.body and request.body.get("stream") else ["four words of text"]
    lines = [{"message": {"content": piece}} for piece in pieces]
    lines[-1] |= end
    await request.send(200, "\n".join(map(json.dumps, lines)).encode(), {"x-request-id": "req_1"})


PROGRAM = """
import sys
sys.stdin.read()
print('{"text": "four words "}', '{"text": "of text"}', sep="\\n")
print('{"finish_reason": "stop", "usage": {"input_tokens": 20, "output_tokens": 4}, "request_id": "run_1"}')
"""
PROGRAM_OPTIONS = {"argv": [sys.executable, "-S", "-E", "-c", PROGRAM], "stream": True, "structured_output": True}
"""A program that answers in two pieces, as a catalog entry describes it."""

DIALECTS = ["openai_compatible", "openai_responses", "anthropic", "gemini", "fake", "ollama", "http", "command"]


@pytest.fixture(params=DIALECTS)
def speaking(request, build):
    """A provider of each dialect that answers "four words of text" to anything."""
    if request.param == "fake":
        return build(dialect="fake", options={"answer": "four words of text"})
    if request.param == "command":
        return build(dialect="command", options=PROGRAM_OPTIONS)
    if request.param in ("ollama", "http"):
        wire = request.getfixturevalue("wire")
        wire.handler = answer_as_ollama
        options = REST_OPTIONS if request.param == "http" else {}
        return build(dialect=request.param, base_url=wire.url.removesuffix("/v1"), options=options)
    llmock = request.getfixturevalue("llmock")
    llmock.reply("four words of text", times=None)
    family = request.param if request.param in ("anthropic", "gemini") else "openai"
    return build(dialect=request.param, base_url=llmock.base_url(family))


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_every_dialect_keeps_what_a_provider_promises(speaking, ask, promise):
    if speaking.config.dialect == "fake" and promise in (keeps_the_deadline, refuses_what_is_no_text):
        pytest.skip("it sends nothing, and takes no time")
    await promise(speaking, ask())


async def test_complete_answers_with_text_usage_model_and_id(speaking, ask):
    completion = await speaking.complete(ask())
    assert completion.text == "four words of text"
    assert completion.finish_reason is FinishReason.STOP
    assert completion.usage.input_tokens > 0
    assert completion.usage.output_tokens > 0
    assert completion.model
    if speaking.config.dialect != "gemini":  # llmock's Gemini names none
        assert completion.provider_request_id


async def test_a_stream_yields_the_whole_text_in_pieces(speaking, ask):
    pieces = await collected(speaking.stream(ask()))
    assert len(pieces) > 1
    assert "".join(pieces) == "four words of text"


async def test_is_available_where_it_answers(speaking):
    assert await speaking.is_available() is True


async def test_count_tokens_is_offline_and_grows_with_text_and_schema(speaking, ask):
    message = Message("user", "x" * 3_000)
    assert speaking.count_tokens(ask(messages=(message,))) == 1_000 + 4
    assert speaking.count_tokens(ask(messages=(message, message))) == 2 * (1_000 + 4)
    with_schema = speaking.count_tokens(ask(messages=(message,), schema=SCHEMA))
    assert with_schema == 1_000 + 4 + math.ceil(len(json.dumps(SCHEMA)) / 3)


async def test_count_tokens_counts_a_cjk_character_as_one(speaking, ask):
    assert speaking.count_tokens(ask(messages=(Message("user", "\u6f22" * 300),))) == 300 + 4


async def test_capabilities_say_structured_output_and_streaming(speaking):
    assert speaking.capabilities.structured_output
    assert speaking.capabilities.streaming


# The request on the wire


async def test_the_body_is_the_chat_completions_one(wire, provider, ask):
    wire.answers()
    await provider.complete(ask(temperature=0.25, schema=SCHEMA, schema_name="skills"))
    [request] = wire.requests
    assert request.body == {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Say hello."}],
        "max_completion_tokens": 100,
        "temperature": 0.25,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "skills", "strict": True, "schema": SCHEMA},
        },
    }


async def test_the_key_is_sent_as_a_bearer_token_and_no_other_key_is(wire, build, ask, monkeypatch):
    """With no key configured, nothing of the environment is sent in its place."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin-of-somebody")
    wire.answers()
    await build(base_url=wire.url, api_key="sk-mine").complete(ask())
    await build(base_url=wire.url, api_key=None).complete(ask())
    assert [request.headers["authorization"] for request in wire.requests] == ["Bearer sk-mine", "Bearer none"]
    assert not any("somebody" in str(request.headers) for request in wire.requests)


async def test_temperature_and_schema_are_left_out_where_unset(wire, provider, ask):
    wire.answers()
    await provider.complete(ask())
    assert not {"temperature", "response_format"} & wire.requests[0].body.keys()


async def test_local_dialect_options_change_the_body(wire, build, ask):
    wire.answers()
    options = {"max_tokens_field": "max_tokens", "bound_schema": True, "extra_body": {"seed": 7, "model": "never"}}
    await build(base_url=wire.url, options=options).complete(ask(schema=SCHEMA))
    body = wire.requests[0].body
    assert body["max_tokens"] == 100
    assert "max_completion_tokens" not in body
    assert body["seed"] == 7
    assert body["model"] == "gpt-4o"
    sent = body["response_format"]["json_schema"]["schema"]["properties"]
    assert sent["name"]["maxLength"] > 0
    assert sent["tags"]["maxItems"] > 0
    assert sent["tags"]["items"]["maxLength"] > 0


async def test_no_schema_is_sent_to_a_server_that_cannot_use_one(wire, build, ask):
    wire.answers()
    provider = build(base_url=wire.url, options={"structured_output": False})
    await provider.complete(ask(schema=SCHEMA))
    assert "response_format" not in wire.requests[0].body
    assert provider.capabilities.structured_output is False


@pytest.mark.parametrize(
    ("suffix", "path"),
    [
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("", "/chat/completions"),
        ("/proxy/openai/v1", "/proxy/openai/v1/chat/completions"),
    ],
)
async def test_base_url_and_path_are_joined(wire, build, ask, suffix, path):
    wire.answers()
    await build(base_url=wire.url.removesuffix("/v1") + suffix).complete(ask())
    assert wire.requests[0].path == path


@pytest.mark.parametrize("dialect", ["openai_compatible", "fake"])
async def test_an_unknown_option_is_refused_and_named(build, dialect):
    with pytest.raises(ConfigurationError, match=r"provider 'p': option 'bond_schema'"):
        build(dialect=dialect, base_url="http://127.0.0.1:1/v1", options={"bond_schema": True})


async def test_a_base_url_is_required(build):
    with pytest.raises(ConfigurationError, match="needs a base_url"):
        build(base_url=None)


@pytest.mark.parametrize("dialect", ["openai_compatible", "openai_responses", "anthropic", "gemini", "ollama"])
@pytest.mark.parametrize(
    "base_url",
    ["localhost:80", "ftp://host", "http://", "http://host:99999", "http://[::1", "http://a b", "http://u:p@h"],
)
async def test_a_base_url_that_cannot_be_used_is_refused_with_whose_it_is(build, dialect, base_url):
    with pytest.raises(ConfigurationError, match=r"provider 'p', account 'second': its base_url"):
        build(dialect=dialect, base_url=base_url, account="second")


@pytest.mark.parametrize("dialect", ["openai_compatible", "openai_responses"])
async def test_nothing_of_openais_environment_is_sent(wire, build, ask, monkeypatch, dialect):
    """Most servers that speak this dialect are not OpenAI."""
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "of-somebody")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Somebody: of-somebody")
    wire.answers(500)
    for key in ("sk-mine", None):
        with pytest.raises(ServerError):
            await build(dialect=dialect, base_url=wire.url, api_key=key).complete(ask())
    assert [request.headers["authorization"] for request in wire.requests] == ["Bearer sk-mine", "Bearer none"]
    assert not any("somebody" in str(request.headers) for request in wire.requests)


@pytest.mark.parametrize("dialect", ["openai_compatible", "openai_responses", "gemini"])
async def test_names_are_kept_as_every_store_takes_them(wire, build, ask, completion_body, dialect):
    """Postgres takes neither a NUL nor a lone surrogate; a call whose line cannot be written would be paid unseen."""
    said = [{"type": "message", "content": [{"type": "output_text", "text": "hello"}]}]
    tokens = {"input_tokens": 20, "output_tokens": 7}
    candidate = {"content": {"parts": [{"text": "hello"}]}, "finishReason": "STOP"}
    counts = {"promptTokenCount": 20, "candidatesTokenCount": 7}
    good = {
        "openai_compatible": completion_body(),
        "openai_responses": {"status": "completed", "output": said, "usage": tokens},
        "gemini": {"candidates": [candidate], "usageMetadata": counts},
    }[dialect]
    odd = "m\x00\ud800" + "x" * 300
    wire.answers(body=good | dict.fromkeys(("id", "model", "responseId", "modelVersion"), odd))
    answer = await build(dialect=dialect, base_url=wire.url).complete(ask())
    assert answer.model == answer.provider_request_id == "m\ufffd?" + "x" * 197


@pytest.mark.parametrize("dialect", ["openai_compatible", "openai_responses", "anthropic", "gemini"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("status", [200, 500])
async def test_an_answer_without_end_is_not_read_to_its_end(wire, build, ask, monkeypatch, dialect, packed, status):
    monkeypatch.setattr("gateway.providers.sdk.MOST_BODY_BYTES", 100_000)
    monkeypatch.setattr("gateway.providers.gemini.client.MOST_BODY_BYTES", 100_000)
    endless = b" " * 1_000_000
    headers = {"content-encoding": "gzip"} if packed else {}
    wire.answers(status, gzip.compress(endless) if packed else endless, headers)
    with pytest.raises(MalformedCompletion, match="BodyTooLong") as caught:
        await build(dialect=dialect, base_url=wire.url).complete(ask())
    assert caught.value.raw_text is None


@pytest.mark.parametrize("headers", [{"content-encoding": "gzip"}, {}], ids=["gzip", "plain"])
async def test_a_packed_answer_is_read_as_a_plain_one(wire, provider, ask, completion_body, headers):
    body = json.dumps(completion_body()).encode()
    wire.answers(body=gzip.compress(body) if headers else body, headers=headers | {"x-request-id": "r-1"})
    for _ in range(2):
        answer = await provider.complete(ask())
        assert (answer.text, answer.provider_request_id) == ("hello", "r-1")
    assert wire.connections == 1


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("openai_compatible", {"choices": [{"message": {"content": "half"}, "finish_reason": "tool_calls"}]}),
        ("openai_compatible", {"choices": []}),
        ("openai_responses", {"status": "cancelled", "output": []}),
        ("openai_responses", {"status": "completed", "output": None}),
        ("anthropic", {"content": None}),
        ("anthropic", {"content": [{"type": "text", "text": 7}]}),
        ("anthropic", {"content": [{"type": "text", "text": "half"}], "stop_reason": "pause_turn"}),
    ],
)
async def test_what_a_malformed_answer_has_used_is_kept(wire, build, ask, dialect, body):
    tokens = {"prompt_tokens": 20, "completion_tokens": 7, "input_tokens": 20, "output_tokens": 7}
    wire.answers(body={"id": "a-1", "usage": tokens} | body)
    with pytest.raises(MalformedCompletion) as caught:
        await build(dialect=dialect, base_url=wire.url).complete(ask())
    assert (caught.value.usage, caught.value.provider_request_id) == (Usage(20, 7), "a-1")


async def test_an_unsendable_key_is_refused_without_showing_it(build):
    with pytest.raises(ConfigurationError) as caught:
        build(base_url="http://127.0.0.1:1/v1", api_key="sk-secret\n")
    assert "sk-secret" not in str(caught.value)


async def test_text_that_is_not_unicode_is_refused_before_anything_is_sent(wire, provider, ask):
    wire.answers()
    with pytest.raises(InvalidRequest, match="UTF-8"):
        await provider.complete(ask(messages=(Message("user", "\ud800"),)))
    with pytest.raises(InvalidRequest, match="UTF-8"):
        await collected(provider.stream(ask(messages=(Message("user", "\ud800"),))))
    assert wire.requests == []


# What is kept of an answer


async def test_a_models_own_fields_are_sent_and_never_take_the_place_of_ours(wire, build, ask):
    wire.answers()
    provider = build(base_url=wire.url, options={"extra_body": {"seed": 7, "reasoning_effort": "high"}})
    await provider.complete(ask(extra_body={"reasoning_effort": "low", "model": "never"}))
    body = wire.requests[0].body
    assert (body["seed"], body["reasoning_effort"], body["model"]) == (7, "low", "gpt-4o")


async def test_tokens_written_to_the_providers_cache_are_counted(wire, provider, ask, completion_body):
    details = {"cached_tokens": None, "cache_write_tokens": 15}
    counts = {"prompt_tokens": 20, "completion_tokens": 7, "prompt_tokens_details": details}
    wire.answers(body=completion_body(usage=counts))
    assert (await provider.complete(ask())).usage == Usage(20, 7, 0, 15)


async def test_usage_cached_tokens_model_id_and_rate_limit_headers_are_kept(wire, provider, ask):
    headers = {
        "X-Request-Id": "req_1",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-requests": "12ms",
        "Date": "Sat, 21 Nov 2026 03:00:00 GMT",
        "set-cookie": "a=b",
    }
    wire.answers(headers=headers)
    completion = await provider.complete(ask())
    assert completion.usage == Usage(input_tokens=20, output_tokens=7, cached_tokens=16)
    assert completion.model == "gpt-served"
    assert completion.provider_request_id == "req_1"
    assert completion.headers == {
        "x-request-id": "req_1",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-requests": "12ms",
        "date": "Sat, 21 Nov 2026 03:00:00 GMT",
    }


async def test_a_server_without_request_ids_or_cache_counts_is_good_enough(wire, provider, ask, completion_body):
    """As llama.cpp answers; the model is then the one asked for, the id the completion's."""
    body = completion_body(usage={"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": None})
    del body["model"]
    wire.answers(body=body)
    completion = await provider.complete(ask())
    assert completion.usage == Usage(1, 2, 0)
    assert completion.provider_request_id == "chatcmpl-1"
    assert completion.model == "gpt-4o"


# Streams


async def test_a_stream_cut_short_cleanly_is_malformed(llmock, build, ask):
    llmock.reply("one two three four five six").truncate(after_chunks=2)
    stream = build(base_url=llmock.base_url()).stream(ask())
    assert await anext(stream)
    with pytest.raises(MalformedCompletion, match="without a finish reason"):
        await collected(stream)


async def test_a_stream_whose_connection_drops_is_unreachable(llmock, build, ask):
    llmock.reply("one two three four five six").disconnect(after_chunks=2)
    with pytest.raises(Unreachable):
        await collected(build(base_url=llmock.base_url()).stream(ask()))


async def test_a_chunk_that_is_not_json_is_malformed(llmock, build, ask):
    llmock.reply("one two three four five six").corrupt(after_chunks=2)
    with pytest.raises(MalformedCompletion, match="not JSON"):
        await collected(build(base_url=llmock.base_url()).stream(ask()))


async def test_a_stream_refused_at_the_start_raises_at_the_first_item(llmock, build, ask):
    llmock.fail(429, code="rate_limit_exceeded", retry_after=2)
    with pytest.raises(Throttled) as caught:
        await collected(build(base_url=llmock.base_url()).stream(ask()))
    assert caught.value.retry_after_s == 2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"message": "boom", "type": "server_error", "code": None}, ServerError),
        ({"message": "slow down", "type": None, "code": "rate_limit_exceeded"}, Throttled),
        ({"message": "boom", "type": None, "code": 502}, ServerError),
        ({"message": "what", "type": None, "code": None}, MalformedCompletion),
    ],
)
async def test_an_error_in_mid_stream_is_translated(wire, provider, ask, error, expected):
    async def fail_after_one_word(request):
        await request.start_stream()
        await request.send_text("word")
        await request.send_event(json.dumps({"error": error}))
        request.close()

    wire.handler = fail_after_one_word
    with pytest.raises(expected, match=error["message"]):
        await collected(provider.stream(ask()))


async def test_a_stream_asks_for_its_connection_to_be_closed(wire, provider, ask):
    """llama.cpp promises keep-alive and drops the connection once a stream has ended: it must be told before."""

    async def stream_then_answer(request):
        if not request.body.get("stream"):
            await request.send(200, BODY)
            return
        await request.start_stream()
        await request.send_text("hi", finish_reason="stop")
        request.close()

    wire.handler = stream_then_answer
    assert await collected(provider.stream(ask())) == ["hi"]
    assert (await provider.complete(ask())).text == "hi"
    assert [request.headers.get("connection") for request in wire.requests] == ["close", "keep-alive"]


@pytest.mark.parametrize(("reason", "expected"), [("length", OutputTruncated), ("content_filter", ContentRefused)])
async def test_a_stream_the_model_did_not_finish_says_so_at_its_end(wire, provider, ask, reason, expected):
    async def stop_early(request):
        await request.start_stream()
        await request.send_text("half an ans")
        await request.send_text("", finish_reason=reason)
        await request.send_event("[DONE]")
        request.close()

    wire.handler = stop_early
    stream = provider.stream(ask())
    assert await anext(stream) == "half an ans"
    with pytest.raises(expected):
        await anext(stream)


async def test_a_stream_that_stalls_ends_at_the_deadline(wire, provider, ask):
    async def stall(request):
        await request.start_stream()
        await request.send_text("first")
        await request.until_client_is_gone()

    wire.handler = stall
    stream = provider.stream(ask(timeout_s=0.5))
    assert await anext(stream) == "first"
    with pytest.raises(Timeout, match=r"within 0\.5 s"):
        await anext(stream)


async def test_leaving_a_stream_early_closes_its_connection(wire, provider, ask):
    gone = asyncio.Event()

    async def stall(request):
        await request.start_stream()
        await request.send_text("first")
        await request.until_client_is_gone()
        gone.set()

    wire.handler = stall
    stream = provider.stream(ask())
    await anext(stream)
    await stream.aclose()
    async with asyncio.timeout(HANG_GUARD_S):
        await gone.wait()


# Deadlines, cancellation, concurrency


@pytest.mark.parametrize("bound", ["request", "provider"])
async def test_a_server_that_never_answers_times_out_and_is_hung_up_on(wire, build, ask, bound):
    """The shorter of the request's and the provider's deadline counts."""
    gone = asyncio.Event()

    async def hang(request):
        await request.until_client_is_gone()
        gone.set()

    wire.handler = hang
    provider = build(base_url=wire.url, timeout_s=0.25 if bound == "provider" else 60)
    with pytest.raises(Timeout, match=r"within 0\.25 s"):
        await provider.complete(ask(timeout_s=0.25 if bound == "request" else 60))
    async with asyncio.timeout(HANG_GUARD_S):
        await gone.wait()


async def test_cancelling_a_call_closes_its_connection(wire, provider, ask):
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def hang(request):
        arrived.set()
        await request.until_client_is_gone()
        gone.set()

    wire.handler = hang
    call = asyncio.create_task(provider.complete(ask()))
    async with asyncio.timeout(HANG_GUARD_S):
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await gone.wait()


@pytest.fixture
def two_thousand_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"1,000 connections need {wanted} open files; the hard limit here is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("two_thousand_files")
async def test_more_than_a_thousand_calls_can_be_open_at_once(wire, provider, ask):
    """No answer is given before all 1,050 calls have arrived, so a pool of 100 or 1,000 would hang."""
    calls = 1_050
    all_arrived = asyncio.Event()

    async def answer_when_all_are_here(request):
        if len(wire.requests) == calls:
            all_arrived.set()
        await all_arrived.wait()
        await request.send(200, BODY)

    wire.handler = answer_when_all_are_here
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(provider.complete(ask(timeout_s=60)) for _ in range(calls)))
    assert len(answers) == calls
    assert wire.connections == calls


async def test_a_connection_is_used_again(wire, provider, ask):
    wire.answers()
    for _ in range(3):
        await provider.complete(ask())
    assert wire.connections == 1


BODY = {
    "id": "c",
    "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
}


# Availability


async def test_is_available_asks_for_the_models_with_get_only(wire, provider):
    wire.answers(body={"data": []})
    assert await provider.is_available() is True
    assert [(request.method, request.path) for request in wire.requests] == [("GET", "/v1/models")]


@pytest.mark.parametrize(("status", "expected"), [(401, False), (403, False), (404, True), (429, True), (503, False)])
async def test_is_available_by_status(wire, provider, status, expected):
    wire.answers(status, {"error": {"message": "no"}})
    assert await provider.is_available() is expected


async def test_is_available_is_false_where_nobody_listens(build):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        provider = build(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}/v1")
        assert await provider.is_available() is False


async def test_is_available_gives_up_on_a_hung_server(wire, provider, monkeypatch):
    monkeypatch.setattr("gateway.providers.sdk.AVAILABLE_TIMEOUT_S", 0.05)

    async def hang(request):
        await request.until_client_is_gone()

    wire.handler = hang
    assert await provider.is_available() is False


async def test_a_rejected_key_is_rejected_in_a_call_too(llmock, build, ask):
    llmock.fail(401)
    with pytest.raises(AuthRejected):
        await build(base_url=llmock.base_url()).complete(ask())
