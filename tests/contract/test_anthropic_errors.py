"""Every row of the Anthropic column of the error table, over the wire and through the real SDK.

Each call is made once only: a retry by the SDK would show as a second request.
"""

from __future__ import annotations

import json
import pickle
import socket

import anthropic
import pytest
from anthropic._error_classes import ERROR_CLASSES

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
from gateway.providers.anthropic.errors import BY_CODE, translate

KEY = "sk-ant-test-0123456789abcdef"
HANG_S = 0.25


@pytest.fixture
def claude(wire, build):
    return build(dialect="anthropic", base_url=wire.url.removesuffix("/v1"), api_key=KEY)


@pytest.fixture
def refused(claude, ask):
    """Ask, expect this error, and return it."""

    async def call(expected, **changes):
        with pytest.raises(expected) as caught:
            await claude.complete(ask(**changes))
        assert type(caught.value) is expected
        assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args
        return caught.value

    return call


def error(kind, message="said so", code=None):
    details = {"details": {"error_code": code}} if code else {}
    return {"type": "error", "error": {"type": kind, "message": message, **details}, "request_id": "req_body"}


@pytest.mark.parametrize(
    ("status", "kind", "code", "expected"),
    [
        (400, "invalid_request_error", None, InvalidRequest),
        (400, "invalid_request_error", "organization_on_hold", AuthRejected),
        (400, "invalid_request_error", "organization_not_enrolled_in_beta", AuthRejected),
        (400, "invalid_request_error", "cmek_key_disabled", AuthRejected),
        (400, "invalid_request_error", "cmek_key_network_blocked", AuthRejected),
        (400, "invalid_request_error", "request_body_timeout", Timeout),
        (401, "authentication_error", None, AuthRejected),
        (402, "billing_error", None, QuotaExhausted),
        (402, "billing_error", "linked_organization_spend_limit_reached", QuotaExhausted),
        (402, "billing_error", "linked_organization_billing_unavailable", QuotaExhausted),
        (403, "permission_error", None, AuthRejected),
        (404, "not_found_error", None, InvalidRequest),
        (408, "timeout_error", None, Timeout),
        (409, "conflict_error", None, InvalidRequest),
        (413, "request_too_large", None, ContextTooLong),
        (422, "invalid_request_error", None, InvalidRequest),
        (429, "rate_limit_error", None, Throttled),
        (429, "rate_limit_error", "ramp_limit_exceeded", Throttled),
        (429, "rate_limit_error", "enforced_spend_limit_reached", QuotaExhausted),
        (429, "rate_limit_error", "contract_spend_limit_reached", QuotaExhausted),
        (429, "rate_limit_error", "a_code_of_tomorrow", Throttled),
        (500, "api_error", None, ServerError),
        (502, "api_error", None, ServerError),
        (503, "api_error", None, Overloaded),
        (503, "api_error", "cmek_key_unreachable", ServerError),
        (503, "api_error", "cmek_context_unavailable", ServerError),
        (504, "timeout_error", None, Timeout),
        (529, "overloaded_error", None, Overloaded),
        (500, "overloaded_error", None, Overloaded),
    ],
)
async def test_status_type_and_code(wire, refused, status, kind, code, expected):
    wire.answers(status, error(kind, code=code), {"request-id": "req_1", "retry-after": "7", "x-should-retry": "true"})
    found = await refused(expected)
    assert isinstance(found.__cause__, anthropic.APIStatusError)
    assert str(found) == f"HTTP {status}: {kind}, said so"
    assert (found.provider_request_id, found.retry_after_s) == ("req_1", 7)
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (400, "prompt is too long: 210000 tokens > 200000 maximum", ContextTooLong),
        (400, "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000", ContextTooLong),
        (400, "Your credit balance is too low to access the API.", QuotaExhausted),
        (500, "prompt is too long", ServerError),
    ],
)
async def test_wording_where_there_is_no_code(wire, refused, status, said, expected):
    wire.answers(status, error("invalid_request_error" if status == 400 else "api_error", said))
    await refused(expected)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>bad gateway</html>",
        b"",
        b"null",
        b"[]",
        b'{"error": 7}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"error": {"type": [1], "message": {"a": 1}, "details": {"error_code": [1]}}}',
    ],
    ids=lambda body: body[:20].decode("latin-1"),
)
async def test_an_error_whose_body_nobody_can_read_goes_by_its_status(wire, refused, body):
    wire.answers(502, body)
    await refused(ServerError)


def test_the_codes_are_the_sdks():
    """A code that the SDK does not know is a slip of the pen here, or one that is no more."""
    assert BY_CODE.keys() <= {code for _, code in ERROR_CLASSES}


def test_credentials_the_sdk_could_not_load_are_the_accounts_fault():
    """With a key given it never looks for any; should it, the path it names stays out of the message."""
    found = translate(anthropic.CredentialsError("no file /home/somebody/key"), KEY)
    assert type(found) is AuthRejected
    assert "somebody" not in str(found)


async def test_an_hour_of_waiting_is_told_and_not_slept(wire, refused):
    wire.answers(429, error("rate_limit_error"), {"retry-after": "3600"})
    assert (await refused(Throttled)).retry_after_s == 3_600


async def test_a_redirect_is_not_followed_with_the_prompt(wire, refused):
    wire.answers(307, b"", {"location": "/elsewhere"})
    await refused(InvalidRequest)
    assert len(wire.requests) == 1


async def test_a_key_that_the_provider_echoes_is_cut_out(wire, refused):
    wire.answers(401, error("authentication_error", f"invalid x-api-key {KEY}, or sk-ant-api03-other"))
    assert str(await refused(AuthRejected)) == "HTTP 401: authentication_error, invalid x-api-key [key], or [key]"


async def test_a_key_of_any_shape_is_cut_out_of_a_streams_error_too(wire, build, ask):
    said = error("authentication_error", "key hunter2 is wrong")
    claude = build(dialect="anthropic", base_url=wire.url.removesuffix("/v1"), api_key="hunter2")
    for event in ("error", "message_delta"):
        wire.answers(200, f"event: {event}\ndata: {json.dumps(said)}\n\n".encode())
        with pytest.raises(AuthRejected, match=r"key \[key\] is wrong"):
            await anext(claude.stream(ask()))


async def test_a_message_is_bounded_and_every_store_takes_it(wire, refused):
    wire.answers(400, error("invalid_request_error", "\x00" + "x" * 10_000))
    message = str(await refused(InvalidRequest))
    assert len(message) == 500
    assert "\x00" not in message


async def test_a_refused_connection_is_unreachable(build, ask):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unreachable):
            await build(dialect="anthropic", base_url=url).complete(ask())


BROKEN = {
    "before the head": b"",
    "in the head": b"HTTP/1.1 200 OK\r\ncontent-",
    "in the body": b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{",
    "in a chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
    "in an error": b"HTTP/1.1 529 Busy\r\ncontent-length: 500\r\n\r\n{",
}


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN)
async def test_a_connection_that_breaks_is_unreachable(wire, refused, sent, how):
    async def cut(request):
        await request.send_raw(sent)
        getattr(request, how)()

    wire.handler = cut
    await refused(Unreachable)
    assert len(wire.requests) == 1


@pytest.mark.parametrize("status", [200, 529])
async def test_a_body_that_cannot_be_decompressed_is_malformed(wire, refused, status):
    wire.answers(status, b"not gzip", {"content-encoding": "gzip"})
    await refused(MalformedCompletion)


async def test_a_server_that_hangs_times_out(wire, refused):
    async def hang(request):
        await request.until_client_is_gone()

    wire.handler = hang
    await refused(Timeout, timeout_s=HANG_S)


async def test_what_is_not_http_is_malformed(wire, refused):
    async def babble(request):
        await request.send_raw(b"220 ftp ready\r\n\r\n")
        request.close()

    wire.handler = babble
    await refused(MalformedCompletion)


async def test_what_is_no_text_is_refused_before_it_is_sent(wire, refused):
    await refused(InvalidRequest, messages=(Message("user", "\ud800"),))
    assert not wire.requests
