"""The connections of the adapters that have no SDK (ollama, http): breaks, limits, deadlines, what is never sent."""

from __future__ import annotations

import asyncio
import gzip
import json
import pickle
import socket
import zlib

import aiohttp
import pytest

from gateway.errors import (
    AuthRejected,
    ConfigurationError,
    InvalidRequest,
    MalformedCompletion,
    ServerError,
    Throttled,
    Timeout,
    Unreachable,
)
from gateway.messages import Message
from gateway.providers import json_http

HANG_GUARD_S = 20.0
KEY = "sk-test-0123456789abcdef"
ANSWER = {
    "model": "served",
    "message": {"role": "assistant", "content": "hello"},
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 20,
    "eval_count": 7,
}
"""As Ollama writes it, and as the endpoint below is described."""
DESCRIBED = {
    "path": "/api/chat",
    "body": {"model": "{model}", "prompt": "{prompt}", "max_tokens": "{max_tokens}"},
    "answer": "/message/content",
    "usage": {"input": "/prompt_eval_count", "output": "/eval_count"},
    "finish": {"at": "/done_reason", "stop": ["stop"]},
    "stream": {"format": "ndjson", "body": {"stream": True}, "text": "/message/content", "finish": "/done_reason"},
}


async def collected(stream):
    return [piece async for piece in stream]


@pytest.fixture(params=["ollama", "http"])
def settings(request, wire):
    """What makes a provider of each dialect that speaks to `wire`."""
    options = DESCRIBED if request.param == "http" else {}
    return {"dialect": request.param, "base_url": wire.url.removesuffix("/v1"), "options": options}


@pytest.fixture
def speaker(settings, build):
    return build(**settings)


@pytest.fixture
def refused(speaker, ask):
    """Ask, expect this error, and return it."""

    async def call(expected, **changes):
        with pytest.raises(expected) as caught:
            await speaker.complete(ask(**changes))
        assert type(caught.value) is expected
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        return caught.value

    return call


# Broken connections


async def _reset(request):
    request.reset()


async def _close(request):
    request.close()


async def _reset_in_body(request):
    await request.send_raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{")
    request.reset()


async def _close_in_body(request):
    await request.send_raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{")
    request.close()


async def _close_in_chunked_body(request):
    await request.send_raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{")
    request.close()


async def _close_in_head(request):
    await request.send_raw(b"HTTP/1.1 200 OK\r\ncontent-")
    request.close()


async def _close_in_error_body(request):
    await request.send_raw(b"HTTP/1.1 503 Busy\r\ncontent-length: 1000\r\n\r\n{")
    request.close()


BREAKS = [_reset, _close, _reset_in_body, _close_in_body, _close_in_chunked_body, _close_in_head, _close_in_error_body]


@pytest.mark.parametrize("breaking", BREAKS)
async def test_a_connection_that_breaks_is_unreachable_and_tried_once(wire, refused, breaking):
    wire.handler = breaking
    error = await refused(Unreachable)
    assert error.__cause__ is not None
    assert len(wire.requests) == 1


@pytest.mark.parametrize("breaking", BREAKS)
async def test_a_stream_that_breaks_is_unreachable(wire, speaker, ask, breaking):
    wire.handler = breaking
    with pytest.raises(Unreachable):
        await collected(speaker.stream(ask()))


async def test_a_kept_connection_that_breaks_is_not_tried_again(wire, speaker, ask):
    wire.answers(body=ANSWER)
    await speaker.complete(ask())
    wire.handler = _reset
    with pytest.raises(Unreachable):
        await speaker.complete(ask())
    assert len(wire.requests) == 2


async def test_nobody_listens(build, settings, ask):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        nobody = build(**settings | {"base_url": f"http://127.0.0.1:{bound.getsockname()[1]}"})
        with pytest.raises(Unreachable):
            await nobody.complete(ask())
        assert await nobody.is_available() is False


def test_a_connection_that_is_not_made_in_time_is_no_slow_answer():
    with pytest.raises(Unreachable, match="no connection within 10 s"), json_http.translated(60):
        raise aiohttp.ConnectionTimeoutError("Connection timeout to host http://10.0.0.1/")


async def test_what_is_not_http_is_malformed(wire, refused):
    async def speak_smtp(request):
        await request.send_raw(b"220 mail.example.org ESMTP\r\n\r\n")
        request.close()

    wire.handler = speak_smtp
    await refused(MalformedCompletion)


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"", b"[]", b"null", b'{"message"', b"[" * 100_000, b"\xff"])
async def test_a_body_that_is_no_answer_is_malformed_and_kept(wire, refused, body):
    wire.answers(200, body)
    assert (await refused(MalformedCompletion)).raw_text == body.decode("utf-8", "replace")


@pytest.mark.parametrize(
    "body", [b"<html>bad gateway</html>", b"", b"null", b"[]", b'"no"', b"\xff\xfe", b"[" * 100_000]
)
async def test_an_error_whose_body_nobody_can_read_goes_by_its_status(wire, refused, body):
    wire.answers(502, body)
    assert "502" in str(await refused(ServerError))


# Sizes


def _answer_of(size_bytes):
    padding = size_bytes - len(json.dumps(ANSWER | {"pad": ""}))
    return json.dumps(ANSWER | {"pad": "x" * padding}).encode()


async def test_a_body_longer_than_the_bound_is_malformed(wire, speaker, ask, refused, monkeypatch):
    monkeypatch.setattr(json_http, "MOST_BODY_BYTES", 4_096)
    wire.answers(200, _answer_of(4_096))
    assert (await speaker.complete(ask())).text == "hello"
    wire.answers(200, _answer_of(4_097))
    assert "4,096 bytes" in str(await refused(MalformedCompletion))


@pytest.mark.parametrize(("packed", "coding"), [(gzip.compress, "gzip"), (zlib.compress, "deflate")])
async def test_a_compressed_body_is_read_and_bounded_by_what_it_unpacks_to(
    wire, speaker, ask, refused, monkeypatch, packed, coding
):
    monkeypatch.setattr(json_http, "MOST_BODY_BYTES", 4_096)
    wire.answers(200, packed(_answer_of(4_096)), {"content-encoding": coding})
    assert (await speaker.complete(ask())).text == "hello"
    wire.answers(200, packed(_answer_of(1_000_000)), {"content-encoding": coding})
    await refused(MalformedCompletion)


async def test_a_body_that_cannot_be_decompressed_is_malformed(wire, refused):
    wire.answers(200, b"not gzip", {"content-encoding": "gzip"})
    assert "decompressed" in str(await refused(MalformedCompletion))


async def test_a_line_of_a_stream_longer_than_the_bound_is_malformed(wire, speaker, ask, monkeypatch):
    monkeypatch.setattr(json_http, "MOST_LINE_BYTES", 4_096)

    async def one_endless_line(request):
        await request.start_stream()
        await request.send_raw(b"x" * 5_000)
        await request.until_client_is_gone()

    wire.handler = one_endless_line
    with pytest.raises(MalformedCompletion, match="4,096 bytes"):
        await collected(speaker.stream(ask()))


async def test_lines_are_found_wherever_the_network_cuts_them(wire, speaker, ask):
    lines = [ANSWER | {"done": False, "done_reason": None}, ANSWER | {"message": {"content": " w\u00f6rld"}}]
    raw = "\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()

    async def one_byte_at_a_time(request):
        await request.start_stream()
        for byte in raw:
            await request.send_raw(bytes([byte]))
        request.close()

    wire.handler = one_byte_at_a_time
    assert await collected(speaker.stream(ask())) == ["hello", " w\u00f6rld"]


# Deadlines, cancellation, concurrency


@pytest.mark.parametrize("bound", ["request", "provider"])
async def test_a_server_that_never_answers_times_out_and_is_hung_up_on(wire, build, settings, ask, bound):
    gone = asyncio.Event()

    async def hang(request):
        await request.until_client_is_gone()
        gone.set()

    wire.handler = hang
    provider = build(**settings, timeout_s=0.05 if bound == "provider" else 60)
    with pytest.raises(Timeout, match=r"within 0\.05 s"):
        await provider.complete(ask(timeout_s=0.05 if bound == "request" else 60))
    async with asyncio.timeout(HANG_GUARD_S):
        await gone.wait()


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_body_that_stalls_ends_at_the_deadline(wire, speaker, ask, streaming):
    async def stall(request):
        await request.start_stream()
        await request.send_raw(b'{"message": ')
        await request.until_client_is_gone()

    wire.handler = stall
    request = ask(timeout_s=0.1)
    answer = collected(speaker.stream(request)) if streaming else speaker.complete(request)
    with pytest.raises(Timeout, match=r"within 0\.1 s"):
        await answer


async def test_the_deadline_of_a_stream_does_not_cancel_its_reader(wire, speaker, ask):
    """The reader takes longer than the deadline between two pieces: the next wait fails, not the reader's work."""

    async def first_piece_then_nothing(request):
        await request.start_stream()
        await request.send_raw(json.dumps(ANSWER | {"done": False, "done_reason": None}).encode() + b"\n")
        await request.until_client_is_gone()

    wire.handler = first_piece_then_nothing
    stream = speaker.stream(ask(timeout_s=0.2))
    assert await anext(stream) == "hello"
    await asyncio.sleep(0.25)  # the reader's own work; there is nothing to wait for
    with pytest.raises(Timeout):
        await anext(stream)


async def test_cancelling_a_call_closes_its_connection(wire, speaker, ask):
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def hang(request):
        arrived.set()
        await request.until_client_is_gone()
        gone.set()

    wire.handler = hang
    call = asyncio.create_task(speaker.complete(ask()))
    async with asyncio.timeout(HANG_GUARD_S):
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await gone.wait()


async def test_leaving_a_stream_early_closes_its_connection(wire, speaker, ask):
    gone = asyncio.Event()

    async def endless(request):
        await request.start_stream()
        await request.send_raw(json.dumps(ANSWER | {"done": False, "done_reason": None}).encode() + b"\n")
        await request.until_client_is_gone()
        gone.set()

    wire.handler = endless
    stream = speaker.stream(ask())
    await anext(stream)
    await stream.aclose()
    async with asyncio.timeout(HANG_GUARD_S):
        await gone.wait()


async def test_more_calls_can_be_open_at_once_than_a_pool_of_a_hundred_holds(wire, speaker, ask):
    calls = 130
    all_arrived = asyncio.Event()

    async def answer_when_all_are_here(request):
        if len(wire.requests) == calls:
            all_arrived.set()
        await all_arrived.wait()
        await request.send(200, ANSWER)

    wire.handler = answer_when_all_are_here
    async with asyncio.timeout(HANG_GUARD_S):
        await asyncio.gather(*(speaker.complete(ask()) for _ in range(calls)))
    assert wire.connections == calls


async def test_a_connection_is_used_again(wire, speaker, ask):
    wire.answers(body=ANSWER)
    for _ in range(3):
        await speaker.complete(ask())
    assert wire.connections == 1


async def test_no_cookie_is_kept_between_calls(wire, build, settings, ask):
    """By name: aiohttp's own jar keeps none of an address."""
    wire.answers(body=ANSWER, headers={"set-cookie": "session=abc"})
    provider = build(**settings | {"base_url": settings["base_url"].replace("127.0.0.1", "localhost")})
    for _ in range(2):
        await provider.complete(ask())
    assert not any("cookie" in request.headers for request in wire.requests)


async def test_a_closed_provider_answers_no_call(wire, speaker, ask):
    wire.answers(body=ANSWER)
    await speaker.complete(ask())
    await speaker.aclose()
    with pytest.raises(Unreachable, match="closed"):
        await speaker.complete(ask())
    assert await speaker.is_available() is False
    assert len(wire.requests) == 1


# What is sent, and what never is


async def test_a_redirect_is_not_followed(wire, refused):
    wire.answers(307, {}, {"location": "/elsewhere"})
    await refused(InvalidRequest)
    assert len(wire.requests) == 1


async def test_neither_proxy_nor_key_of_the_environment_is_used(wire, build, settings, ask, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("OLLAMA_API_KEY", "sk-of-somebody")
    wire.answers(body=ANSWER)
    await build(**settings, api_key=None).complete(ask())
    assert "authorization" not in wire.requests[0].headers


async def test_the_key_is_sent_as_a_bearer_token(wire, speaker, ask):
    wire.answers(body=ANSWER)
    await speaker.complete(ask())
    await speaker.is_available()
    assert [request.headers["authorization"] for request in wire.requests] == [f"Bearer {KEY}"] * 2
    assert wire.requests[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("suffix", "path"), [("", "/api/chat"), ("/", "/api/chat"), ("/proxy/v1/", "/proxy/v1/api/chat")]
)
async def test_base_url_and_path_are_joined(wire, build, settings, ask, suffix, path):
    wire.answers(body=ANSWER)
    await build(**settings | {"base_url": settings["base_url"] + suffix}).complete(ask())
    assert wire.requests[0].path == path


@pytest.mark.parametrize("place", ["message", "model", "schema"])
async def test_text_that_is_not_unicode_is_refused_before_anything_is_sent(wire, speaker, ask, place):
    changes = {"message": {"messages": (Message("user", "\ud800"),)}, "model": {"model": "\ud800"}, "schema": {}}[place]
    wire.answers(body=ANSWER)
    request = ask(**changes, extra_body={"limit": float("nan")} if place == "schema" else {})
    with pytest.raises(InvalidRequest, match="UTF-8 JSON"):
        await speaker.complete(request)
    with pytest.raises(InvalidRequest, match="UTF-8 JSON"):
        await collected(speaker.stream(request))
    assert wire.requests == []


@pytest.mark.parametrize(
    "base_url",
    [
        None,
        "",
        "localhost:11434",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://host:0",
        "http://host:99999",
        "http://somebody:hunter2@host",
        "http://host/?key=hunter2",
        "http://host/#hunter2",
        "http://[::1",
        "http://host host2",
        "http://host\n",
    ],
)
async def test_a_base_url_that_cannot_be_used_is_refused_and_not_shown(build, settings, base_url):
    with pytest.raises(ConfigurationError, match=r"provider 'p'.*base_url") as caught:
        build(**settings | {"base_url": base_url})
    assert "hunter2" not in str(caught.value)


async def test_an_unsendable_key_is_refused_without_showing_it(build, settings):
    with pytest.raises(ConfigurationError) as caught:
        build(**settings, api_key="sk-secret\n")
    assert "sk-secret" not in str(caught.value)


async def test_an_unknown_option_is_refused_and_named(build, settings):
    with pytest.raises(ConfigurationError, match=r"provider 'p': option 'num_ctxt'"):
        build(**settings | {"options": settings["options"] | {"num_ctxt": 1}})


# What an error keeps


async def test_an_error_keeps_its_wait_and_its_id(wire, refused):
    wire.answers(429, {"error": "slow down"}, {"retry-after": "7", "x-request-id": "req_3"})
    error = await refused(Throttled)
    assert (error.retry_after_s, error.provider_request_id) == (7, "req_3")


@pytest.mark.parametrize(
    ("status", "available"),
    [(200, True), (429, True), (404, True), (302, False), (401, False), (403, False), (500, False), (503, False)],
)
async def test_is_available(wire, speaker, status, available):
    wire.answers(status, {})
    assert await speaker.is_available() is available
    assert wire.requests[0].method == "GET"


async def test_is_available_gives_up_on_a_silent_server(wire, speaker, monkeypatch):
    monkeypatch.setattr(json_http, "AVAILABLE_TIMEOUT_S", 0.05)

    async def hang(request):
        await request.until_client_is_gone()

    wire.handler = hang
    assert await speaker.is_available() is False


async def test_what_no_store_can_hold_is_replaced(wire, build, settings, ask):
    """Postgres takes neither a NUL nor a lone surrogate; a call whose line cannot be written would be paid unseen."""
    described = {"error_message": "/error", "model": "/model"} if settings["dialect"] == "http" else {}
    provider = build(**settings | {"options": settings["options"] | described})
    wire.answers(body=ANSWER | {"model": "m\x00\ud800" + "x" * 300}, headers={"x-request-id": "r" * 300})
    completion = await provider.complete(ask())
    assert completion.model == "m\ufffd?" + "x" * 197
    assert completion.provider_request_id == "r" * 200
    wire.answers(400, {"error": "no\x00 \ud800"}, {"x-request-id": b"\xff\xfe".decode("latin-1")})
    with pytest.raises(InvalidRequest) as caught:
        await provider.complete(ask())
    assert str(caught.value) == "HTTP 400: no\ufffd ?"
    assert caught.value.provider_request_id.encode()


@pytest.mark.parametrize("echo", [f"wrong key {KEY}.", "wrong key sk-abc***wxyz", f"bad header: Bearer {KEY}"])
async def test_no_key_gets_into_a_message(wire, build, settings, ask, echo):
    wire.answers(401, {"error": echo})
    described = {"error_message": "/error"} if settings["dialect"] == "http" else {}
    with pytest.raises(AuthRejected) as caught:
        await build(**settings | {"options": settings["options"] | described}).complete(ask())
    assert "[key]" in str(caught.value)
    assert "sk-" not in str(caught.value)
