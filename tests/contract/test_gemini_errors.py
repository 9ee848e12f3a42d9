"""Every row of the Gemini column of the error table, over the wire and through the real SDK.

Each call is made once only: the SDK's own second try, after a broken connection, would show as a second request.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import socket

import pytest
from google.genai import errors as genai

from gateway.errors import (
    AuthRejected,
    ContextTooLong,
    InvalidRequest,
    MalformedCompletion,
    Overloaded,
    QuotaExhausted,
    ServerError,
    Throttled,
    Timeout,
    Unreachable,
)
from gateway.messages import Message

KEY = "AIzaSyTest0123456789abcdef"
PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel"
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"


@pytest.fixture
def gemini(wire, build):
    return build(dialect="gemini", base_url=wire.url.removesuffix("/v1"), api_key=KEY)


@pytest.fixture
def refused(gemini, ask):
    """Ask, expect this error, and return it."""

    async def call(expected, **changes):
        with pytest.raises(expected) as caught:
            await gemini.complete(ask(**changes))
        assert type(caught.value) is expected
        assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args
        return caught.value

    return call


def error(status, word, message="said so", details=()):
    return {"error": {"code": status, "status": word, "message": message, "details": list(details)}}


def info(reason):
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}


def quota(name):
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": name}]}


def retry(delay):
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


@pytest.mark.parametrize(
    ("status", "word", "details", "expected"),
    [
        (400, "INVALID_ARGUMENT", [], InvalidRequest),
        (400, "INVALID_ARGUMENT", [info("API_KEY_INVALID")], AuthRejected),
        (400, "FAILED_PRECONDITION", [], AuthRejected),
        (401, "UNAUTHENTICATED", [], AuthRejected),
        (403, "PERMISSION_DENIED", [], AuthRejected),
        (403, "PERMISSION_DENIED", [info("BILLING_DISABLED")], QuotaExhausted),
        (403, "PERMISSION_DENIED", [info("SERVICE_DISABLED")], AuthRejected),
        (404, "NOT_FOUND", [], InvalidRequest),
        (413, None, [], ContextTooLong),
        (429, "RESOURCE_EXHAUSTED", [], Throttled),
        (429, "RESOURCE_EXHAUSTED", [quota(PER_MINUTE), retry("34s")], Throttled),
        (429, "RESOURCE_EXHAUSTED", [quota(PER_DAY), retry("34s")], QuotaExhausted),
        (499, "CANCELLED", [], Timeout),
        (500, "INTERNAL", [], ServerError),
        (502, None, [], ServerError),
        (503, "UNAVAILABLE", [], Overloaded),
        (504, "DEADLINE_EXCEEDED", [], Timeout),
        (418, "A_WORD_OF_TOMORROW", [], InvalidRequest),
    ],
)
async def test_status_word_and_details(wire, refused, status, word, details, expected):
    wire.answers(status, error(status, word, details=details))
    found = await refused(expected)
    assert isinstance(found.__cause__, genai.APIError)
    assert str(found) == f"HTTP {status}: " + ", ".join([*([word] if word else []), "said so"])
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("delay", "waits"),
    [
        ("34s", 34.0),
        ("34.074824224s", 34.074824224),
        ("0s", 0.0),
        ("99999999s", 86_400.0),
        ("soon", None),
        ("-1s", None),
        (7, None),
    ],
)
async def test_the_wait_that_google_asks_for(wire, refused, delay, waits):
    wire.answers(429, error(429, "RESOURCE_EXHAUSTED", details=[retry(delay)]))
    assert (await refused(Throttled)).retry_after_s == waits


@pytest.mark.parametrize(
    ("status", "word", "said", "expected"),
    [
        (400, "INVALID_ARGUMENT", "The input token count (1200000) exceeds the maximum number", ContextTooLong),
        (400, "INVALID_ARGUMENT", "It exceeds the maximum number of tokens allowed (1048576).", ContextTooLong),
        (400, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes.", ContextTooLong),
        (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", AuthRejected),
        (400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", AuthRejected),
        (400, "INVALID_ARGUMENT", "Unable to submit request because it has an empty text parameter.", InvalidRequest),
        (400, "FAILED_PRECONDITION", "User location is not supported for the API use.", AuthRejected),
        (429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted. Please go to AI Studio", QuotaExhausted),
        (429, "RESOURCE_EXHAUSTED", "Your project has exceeded its monthly spending cap.", QuotaExhausted),
        (
            429,
            "RESOURCE_EXHAUSTED",
            "Quota exceeded for metric: free_tier_requests, limit: 0, model: x",
            QuotaExhausted,
        ),
        (429, "RESOURCE_EXHAUSTED", "Quota exceeded for metric: free_tier_requests, limit: 10, model: x", Throttled),
        (500, "INTERNAL", "The input token count exceeds what we can count", ServerError),
    ],
)
async def test_wording_under_a_status_that_says_too_little(wire, refused, status, word, said, expected):
    wire.answers(status, error(status, word, said))
    await refused(expected)


async def test_an_error_in_a_list_is_read_too(wire, refused):
    wire.answers(429, [error(429, "RESOURCE_EXHAUSTED", details=[quota(PER_DAY)])])
    await refused(QuotaExhausted)


UNREADABLE = [b"", b"null", b"[]", b'{"error": 7}', b'{"error": {"details": 7}}', b"<html>", b"\xff\xfe", b"[" * 50_000]


@pytest.mark.parametrize("content_type", ["application/json", "text/html"])
@pytest.mark.parametrize("body", UNREADABLE, ids=lambda body: repr(body[:9]))
async def test_an_error_whose_body_nobody_can_read_goes_by_its_status(wire, refused, body, content_type):
    wire.answers(502, body, {"content-type": content_type})
    assert str(await refused(ServerError)) == "HTTP 502"


@pytest.mark.parametrize(
    "detail",
    [7, None, {"violations": 7}, {"violations": [7]}, {"violations": [{"quotaId": [PER_MINUTE]}]}, {"reason": ["x"]}],
)
async def test_details_of_a_wrong_shape_say_nothing(wire, refused, detail):
    wire.answers(429, error(429, "RESOURCE_EXHAUSTED", details=[detail]))
    await refused(Throttled)


@pytest.mark.parametrize("status", [201, 204, 206])
async def test_a_success_that_is_no_answer_is_malformed(wire, refused, status):
    wire.answers(status, b"" if status == 204 else b"{}")
    await refused(MalformedCompletion)


async def test_a_header_says_how_long_to_wait_where_the_details_do_not(wire, refused):
    """A proxy's word, in front of Google."""
    wire.answers(503, b"busy", {"content-type": "text/plain", "Retry-After": "7"})
    assert (await refused(Overloaded)).retry_after_s == 7
    wire.answers(429, error(429, "RESOURCE_EXHAUSTED", details=[retry("34s")]), {"Retry-After": "7"})
    assert (await refused(Throttled)).retry_after_s == 34


async def test_the_id_of_a_refused_request_is_kept(wire, refused):
    detail = {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "req_1"}
    wire.answers(500, error(500, "INTERNAL", details=[detail]))
    assert (await refused(ServerError)).provider_request_id == "req_1"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "GET https://host/v1beta/models?key=hunter2&x=1 failed",
            "GET https://host/v1beta/models?key=[key]&x=1 failed",
        ),
        ("key AQ.Ab8RN6KSomebodys-Else_1 is blocked", "key [key] is blocked"),
    ],
)
async def test_keys_of_googles_shapes_are_cut_out(wire, refused, said, shown):
    wire.answers(403, error(403, "PERMISSION_DENIED", said))
    assert str(await refused(AuthRejected)) == f"HTTP 403: PERMISSION_DENIED, {shown}"


async def test_a_message_is_bounded(wire, refused):
    wire.answers(400, error(400, "INVALID_ARGUMENT", "x" * 10_000))
    assert len(str(await refused(InvalidRequest))) == 500


async def test_a_key_that_google_echoes_is_cut_out(wire, refused):
    wire.answers(403, error(403, "PERMISSION_DENIED", f"key {KEY} is blocked, or AIzaSyOfSomebodyElse0123"))
    assert str(await refused(AuthRejected)) == "HTTP 403: PERMISSION_DENIED, key [key] is blocked, or [key]"


async def test_a_redirect_is_not_followed_with_prompt_and_key(wire, refused):
    wire.answers(307, b"", {"location": "/elsewhere"})
    await refused(InvalidRequest)
    assert len(wire.requests) == 1


async def test_a_refused_connection_is_unreachable_at_once(build, ask):
    """The SDK by itself would try again after one to ten seconds."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unreachable):
            await build(dialect="gemini", base_url=url).complete(ask(timeout_s=0.9))


async def test_a_server_that_hangs_up_is_asked_once(wire, refused):
    """It may have answered and charged: the SDK by itself would ask, and pay, again."""

    async def hang_up(request):
        request.close()

    wire.handler = hang_up
    await refused(Unreachable, timeout_s=15)
    assert len(wire.requests) == 1


async def test_a_reset_before_or_within_the_answer_is_unreachable(wire, refused):
    async def reset(request):
        request.reset()

    wire.handler = reset
    await refused(Unreachable)

    async def cut(request):
        await request.send_raw(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{")
        request.reset()

    wire.handler = cut
    await refused(Unreachable)
    assert len(wire.requests) == 2


async def _close_in_head(request):
    await request.send_raw(b"HTTP/1.1 200 OK\r\ncontent-")
    request.close()


async def _close_in_body(request):
    await request.send_raw(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{")
    request.close()


async def _close_in_a_chunk(request):
    await request.send_raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{")
    request.close()


async def _reset_in_an_error(request):
    await request.send_raw(b"HTTP/1.1 503 Busy\r\ncontent-length: 500\r\n\r\n{")
    request.reset()


@pytest.mark.parametrize("breaking", [_close_in_head, _close_in_body, _close_in_a_chunk, _reset_in_an_error])
async def test_a_connection_that_breaks_on_the_way_is_unreachable(wire, refused, breaking):
    wire.handler = breaking
    await refused(Unreachable)
    assert len(wire.requests) == 1


async def test_an_unknown_host_is_unreachable(build, ask):
    with pytest.raises(Unreachable):
        await build(dialect="gemini", base_url="http://no-such-host.invalid").complete(ask())


async def test_a_server_that_hangs_times_out(wire, refused):
    async def hang(request):
        await request.until_client_is_gone()

    wire.handler = hang
    assert "within 0.25 s" in str(await refused(Timeout, timeout_s=0.25))


async def test_connecting_has_a_bound_of_its_own(build, ask, monkeypatch):
    """A full backlog: the SYN is never answered. The SDK's timeout of a request would put the bound out of force."""
    monkeypatch.setattr("gateway.providers.gemini.client.CONNECT_TIMEOUT_S", 0.1)
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(full.getsockname())
        gemini = build(dialect="gemini", base_url=f"http://127.0.0.1:{full.getsockname()[1]}")
        with pytest.raises(Timeout, match="the connection timed out"):
            await gemini.complete(ask(timeout_s=10))


async def test_what_is_not_http_is_malformed(wire, refused):
    async def babble(request):
        await request.send_raw(b"220 ftp ready\r\n\r\n")
        request.close()

    wire.handler = babble
    await refused(MalformedCompletion)


async def test_a_body_that_cannot_be_decompressed_is_malformed(wire, refused):
    wire.answers(200, b"not gzip", {"content-encoding": "gzip"})
    await refused(MalformedCompletion)


async def test_an_answer_that_is_no_utf8_is_malformed_and_may_have_been_paid(wire, refused):
    wire.answers(200, b'{"candidates": [{"content": {"parts": [{"text": "\xff"}]}}]}')
    assert (await refused(MalformedCompletion)).paid is None


async def test_what_is_no_text_is_refused_before_anything_is_sent(wire, gemini, refused, ask):
    """A lone surrogate: the SDK would write it as an escape, and send it."""
    wire.answers()
    await refused(InvalidRequest, messages=(Message("user", "\ud800"),))
    await refused(InvalidRequest, messages=(Message("system", "\ud800"), Message("user", "x")))
    with pytest.raises(InvalidRequest, match="UTF-8"):
        await anext(gemini.stream(ask(messages=(Message("user", "\ud800"),))))
    assert wire.requests == []


@pytest.mark.parametrize(
    "model", ["x?key=1", "../x", "x/../../y", "a b", "x#y", "x%2fy", "x:y", "", "models/", "x" * 200]
)
async def test_a_model_that_would_lead_elsewhere_is_refused_before_anything_is_sent(wire, refused, model):
    wire.answers()
    assert "is not the name of a Gemini model" in str(await refused(InvalidRequest, model=model))
    assert wire.requests == []


# In a stream


@pytest.mark.parametrize("listed", [False, True])
async def test_a_stream_refused_at_the_start_raises_at_the_first_item(wire, gemini, ask, listed):
    body = error(429, "RESOURCE_EXHAUSTED", details=[retry("2s")])
    wire.answers(429, [body] if listed else body)
    with pytest.raises(Throttled) as caught:
        await anext(gemini.stream(ask()))
    assert caught.value.retry_after_s == 2
    assert len(wire.requests) == 1


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("as_event", [False, True])
async def test_an_error_in_mid_stream_is_translated_however_it_is_written(wire, gemini, ask, indent, listed, as_event):
    """Google writes a list over lines as `[{`, the object's lines, `}`, `]`."""
    written = json.dumps(error(503, "UNAVAILABLE", "busy", [retry("3s")]), indent=indent)
    raw = f"[{written}{'' if indent is None else chr(10)}]" if listed else written

    async def fail_after_one_word(request):
        await request.start_stream()
        await request.send_event(json.dumps({"candidates": [{"content": {"parts": [{"text": "word"}]}}]}))
        await request.send_raw((f"data: {raw}".replace("\n", "\ndata: ") if as_event else raw).encode())
        request.close()

    wire.handler = fail_after_one_word
    stream = gemini.stream(ask())
    assert await anext(stream) == "word"
    with pytest.raises(Overloaded, match="busy") as caught:
        await anext(stream)
    assert caught.value.retry_after_s == 3


@pytest.mark.parametrize("event", ["{nope", "[]", "7", '"x"', "[" * 50_000, "[{nope}"], ids=lambda event: event[:7])
async def test_an_event_that_is_no_json_object_is_malformed(wire, gemini, ask, event):
    async def babble(request):
        await request.start_stream()
        await request.send_event(event)
        request.close()

    wire.handler = babble
    with pytest.raises(MalformedCompletion):
        await anext(gemini.stream(ask()))


# Availability


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"models": []}, True),
        (404, error(404, "NOT_FOUND"), True),
        (429, error(429, "RESOURCE_EXHAUSTED"), True),
        (200, b"<html>log in first</html>", False),
        (200, b"\xff", False),
        (400, error(400, "INVALID_ARGUMENT", details=[info("API_KEY_INVALID")]), False),
        (401, b"\xff", False),
        (403, error(403, "PERMISSION_DENIED"), False),
        (503, error(503, "UNAVAILABLE"), False),
    ],
)
async def test_is_available_by_what_comes_back(wire, gemini, status, body, expected):
    wire.answers(status, body)
    assert await gemini.is_available() is expected
    assert [request.method for request in wire.requests] == ["GET"]


async def test_is_available_is_false_where_nobody_listens_or_answers(wire, gemini, build, monkeypatch):
    monkeypatch.setattr("gateway.providers.sdk.AVAILABLE_TIMEOUT_S", 0.05)

    async def hang(request):
        await request.until_client_is_gone()

    wire.handler = hang
    assert await gemini.is_available() is False
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        nobody = build(dialect="gemini", base_url=f"http://127.0.0.1:{bound.getsockname()[1]}")
        assert await nobody.is_available() is False
