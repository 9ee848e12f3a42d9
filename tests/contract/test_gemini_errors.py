"""Every row of the Gemini column of the error table, over the wire and through the real SDK.

Each call is made once only: the SDK's own second try, after a broken connection, would show as a second request.
"""

from __future__ import annotations

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
    ("said", "expected"),
    [
        ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", ContextTooLong),
        ("API key not valid. Please pass a valid API key.", AuthRejected),
        ("Unable to submit request because it has an empty text parameter.", InvalidRequest),
    ],
)
async def test_wording_of_an_invalid_argument(wire, refused, said, expected):
    wire.answers(400, error(400, "INVALID_ARGUMENT", said))
    await refused(expected)


async def test_an_error_in_a_list_is_read_too(wire, refused):
    wire.answers(429, [error(429, "RESOURCE_EXHAUSTED", details=[quota(PER_DAY)])])
    await refused(QuotaExhausted)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'{"error": 7}', b'{"error": {"details": 7}}'])
async def test_an_error_whose_body_nobody_can_read_goes_by_its_status(wire, refused, body):
    wire.answers(502, body)
    await refused(ServerError)


async def test_a_page_in_place_of_an_error_goes_by_its_status(wire, refused):
    wire.answers(502, b"<html>bad gateway</html>", {"content-type": "text/html"})
    await refused(ServerError)


async def test_an_error_that_calls_itself_json_and_is_none_is_malformed(wire, refused):
    """Its status is lost in the SDK."""
    wire.answers(502, b"<html>bad gateway</html>")
    await refused(MalformedCompletion)


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


async def test_a_server_that_hangs_times_out(wire, refused):
    async def hang(request):
        await request.until_client_is_gone()

    wire.handler = hang
    await refused(Timeout, timeout_s=0.25)


async def test_what_is_not_http_is_malformed(wire, refused):
    async def babble(request):
        await request.send_raw(b"220 ftp ready\r\n\r\n")
        request.close()

    wire.handler = babble
    await refused(MalformedCompletion)


async def test_what_is_no_text_is_refused_or_arrives_escaped(wire, refused):
    """A lone surrogate: JSON can write it as an escape, UTF-8 cannot."""
    wire.answers(400, error(400, "INVALID_ARGUMENT"))
    await refused(InvalidRequest, messages=(Message("user", "\ud800"),))
