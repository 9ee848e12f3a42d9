"""Every row of the Anthropic column of the error table, over the wire and through the real SDK.

Each call is made once only: a retry by the SDK would show as a second request.
"""

from __future__ import annotations

import pickle
import socket

import anthropic
import pytest

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
        (401, "authentication_error", None, AuthRejected),
        (402, "billing_error", None, QuotaExhausted),
        (402, "billing_error", "linked_organization_spend_limit_reached", QuotaExhausted),
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


@pytest.mark.parametrize("body", [b"<html>bad gateway</html>", b"", b"null", b"[]", b'{"error": 7}', b"\xff\xfe"])
async def test_an_error_whose_body_nobody_can_read_goes_by_its_status(wire, refused, body):
    wire.answers(502, body)
    await refused(ServerError)


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


async def test_a_refused_connection_is_unreachable(build, ask):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unreachable):
            await build(dialect="anthropic", base_url=url).complete(ask())


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
    from gateway.messages import Message

    await refused(InvalidRequest, messages=(Message("user", "\ud800"),))
    assert not wire.requests
