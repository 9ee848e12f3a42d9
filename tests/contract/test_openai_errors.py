"""Every row of the OpenAI column of the error table, over the wire and through the real SDK.

Each call is made once only: a retry by the SDK would show as a second request.
"""

from __future__ import annotations

import gzip
import json
import socket

import openai
import pytest

from gateway.errors import (
    AuthRejected,
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
from gateway.messages import Usage
from gateway.providers.wire import MAX_RETRY_AFTER_S, retry_after_s

KEY = "sk-test-0123456789abcdef"


@pytest.fixture
def refused(provider, ask):
    """Ask, expect this error, and return it."""

    async def call(expected):
        with pytest.raises(expected) as caught:
            await provider.complete(ask())
        assert type(caught.value) is expected
        return caught.value

    return call


# By status, code and type: llmock


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, None, InvalidRequest),
        (400, "context_length_exceeded", ContextTooLong),
        (400, "content_filter", ContentRefused),
        (400, "content_policy_violation", ContentRefused),
        (400, "invalid_prompt", ContentRefused),
        (401, None, AuthRejected),
        (402, None, QuotaExhausted),
        (403, None, AuthRejected),
        (404, None, InvalidRequest),
        (408, None, Timeout),
        (409, None, InvalidRequest),
        (413, None, ContextTooLong),
        (422, None, InvalidRequest),
        (429, "rate_limit_exceeded", Throttled),
        (429, "insufficient_quota", QuotaExhausted),
        (429, "billing_hard_limit_reached", QuotaExhausted),
        (429, "billing_not_active", QuotaExhausted),
        (500, None, ServerError),
        (502, None, ServerError),
        (503, None, Overloaded),
        (504, None, Timeout),
        (529, None, Overloaded),
    ],
)
async def test_status_and_code(llmock, build, ask, status, code, expected):
    llmock.fail(status, code=code, times=None, retry_after=3_600)
    with pytest.raises(expected) as caught:
        await build(base_url=llmock.base_url()).complete(ask())
    assert type(caught.value) is expected
    assert isinstance(caught.value.__cause__, openai.APIStatusError)
    assert str(status) in str(caught.value)
    assert len(llmock.requests) == 1


# What llmock cannot say: types, wordings, odd bodies


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (429, {"type": "insufficient_quota", "message": "You exceeded your current quota"}, QuotaExhausted),
        (400, {"type": "exceed_context_size_error", "code": 400, "message": "too many tokens"}, ContextTooLong),
        (400, {"message": "This model's maximum context length is 4096 tokens."}, ContextTooLong),
        (503, {"type": "unavailable_error", "code": 503, "message": "Loading model"}, Overloaded),
        (429, {"code": "429", "message": "exceeded token rate limit of your pricing tier"}, Throttled),
        (500, {"message": "the maximum context length service is down"}, ServerError),
        (429, {}, Throttled),
    ],
)
async def test_type_and_wording(wire, refused, status, error, expected):
    wire.answers(status, {"error": error})
    await refused(expected)
    assert len(wire.requests) == 1


@pytest.mark.parametrize("body", [b"<html>bad gateway</html>", b"", b"null", b"[]", b'"no"', b"\xff\xfe"])
async def test_an_error_whose_body_nobody_can_read_goes_by_its_status(wire, refused, body):
    wire.answers(502, body)
    await refused(ServerError)


async def test_a_redirect_is_not_followed_with_the_prompt(wire, refused):
    wire.answers(307, b"", {"location": "/elsewhere"})
    error = await refused(InvalidRequest)
    assert "307" in str(error)
    assert len(wire.requests) == 1


# Waiting


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({"retry-after": "34"}, 34),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2),
        ({"retry-after": "Sat, 21 Nov 2026 03:00:30 GMT", "date": "Sat, 21 Nov 2026 03:00:00 GMT"}, 30),
        ({"retry-after": "Sat, 21 Nov 2026 02:00:00 GMT", "date": "Sat, 21 Nov 2026 03:00:00 GMT"}, 0),
        ({"retry-after": "Sat, 21 Nov 2026 03:00:30 -0000", "date": "Sat, 21 Nov 2026 03:00:00 GMT"}, 30),
        ({"retry-after": "99999999"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "Sat, 99 Nov 2026 03:00:30 GMT"}, None),
        ({}, None),
    ],
)
async def test_retry_after(wire, refused, headers, expected_s):
    wire.answers(429, {"error": {"code": "rate_limit_exceeded"}}, headers)
    assert (await refused(Throttled)).retry_after_s == expected_s


def test_a_retry_date_without_a_server_date_is_measured_against_our_clock():
    assert retry_after_s({"retry-after": "Sat, 21 Nov 2020 03:00:00 GMT"}) == 0
    assert retry_after_s({"retry-after": "Sat, 21 Nov 2980 03:00:00 GMT"}) == MAX_RETRY_AFTER_S


@pytest.mark.parametrize("code", ["insufficient_quota", "billing_hard_limit_reached"])
@pytest.mark.parametrize(
    ("wait", "expected"), [("60", Throttled), ("61", QuotaExhausted), ("86400", QuotaExhausted), (None, QuotaExhausted)]
)
async def test_a_quota_full_for_less_than_a_minute_is_a_rate_limit(wire, refused, code, wait, expected):
    """Azure's per-minute saturation."""
    wire.answers(429, {"error": {"code": code}}, {"retry-after": wait} if wait else {})
    await refused(expected)


# Transport


async def test_nobody_listens(build, ask):
    """The SDK calls a refused connection a timeout; we do not."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable) as caught:
            await build(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}/v1").complete(ask())
    assert isinstance(caught.value.__cause__, openai.APITimeoutError)


async def test_an_unknown_host(build, ask):
    with pytest.raises(Unreachable):
        await build(base_url="http://no-such-host.invalid/v1").complete(ask())


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


@pytest.mark.parametrize(
    "breaking", [_reset, _close, _reset_in_body, _close_in_body, _close_in_chunked_body, _close_in_head]
)
async def test_a_connection_that_breaks_is_unreachable(wire, refused, breaking):
    wire.handler = breaking
    await refused(Unreachable)
    assert len(wire.requests) == 1


async def test_a_connection_that_breaks_in_an_error_answer_is_unreachable(wire, refused):
    async def break_off(request):
        await request.send_raw(b"HTTP/1.1 503 Busy\r\ncontent-length: 1000\r\n\r\n{")
        request.reset()

    wire.handler = break_off
    await refused(Unreachable)


async def test_what_is_not_http_is_malformed(wire, refused):
    async def speak_smtp(request):
        await request.send_raw(b"220 mail.example.org ESMTP\r\n\r\n")
        request.close()

    wire.handler = speak_smtp
    await refused(MalformedCompletion)


async def test_a_body_that_cannot_be_decompressed_is_malformed(wire, refused):
    wire.answers(200, b"not gzip", {"content-encoding": "gzip"})
    await refused(MalformedCompletion)


async def test_a_compressed_body_is_read(wire, provider, ask, completion_body):
    wire.answers(200, gzip.compress(json.dumps(completion_body()).encode()), {"content-encoding": "gzip"})
    assert (await provider.complete(ask())).text == "hello"


# Answers that are none


def _choice(content, finish_reason="stop", **message):
    return [
        {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish_reason}
    ]


async def test_cut_at_max_tokens_keeps_text_and_usage(wire, refused, completion_body):
    wire.answers(body=completion_body(choices=_choice('{"name": "hal', "length")), headers={"x-request-id": "req_2"})
    error = await refused(OutputTruncated)
    assert error.raw_text == '{"name": "hal'
    assert error.usage == Usage(20, 7, 16)
    assert error.provider_request_id == "req_2"


async def test_cut_before_the_first_word(wire, refused, completion_body):
    """A reasoning model that spent all its tokens on thinking."""
    wire.answers(body=completion_body(choices=_choice(None, "length")))
    assert (await refused(OutputTruncated)).raw_text == ""


async def test_a_refusal_keeps_its_words_out_of_the_message(wire, refused, completion_body):
    wire.answers(body=completion_body(choices=_choice(None, refusal="I can't help with that.")))
    error = await refused(ContentRefused)
    assert error.raw_text == "I can't help with that."
    assert error.usage == Usage(20, 7, 16)
    assert "help" not in str(error)


@pytest.mark.parametrize("content", [None, "half"])
async def test_an_answer_a_filter_stopped_is_refused(wire, refused, completion_body, content):
    wire.answers(body=completion_body(choices=_choice(content, "content_filter")))
    assert (await refused(ContentRefused)).usage == Usage(20, 7, 16)


@pytest.mark.parametrize(
    "changes",
    [
        {"choices": []},
        {"choices": None},
        {"choices": [None]},
        {"choices": [{"finish_reason": "stop"}]},
        {"choices": _choice(None)},
        {"choices": _choice([{"type": "text", "text": "hi"}])},
        {"choices": _choice("hi", None)},
        {"choices": _choice("hi", "tool_calls")},
        {"choices": _choice("hi", ["stop"])},
        {"usage": None},
        {"usage": {}},
        {"usage": {"prompt_tokens": 1}},
        {"usage": {"prompt_tokens": -1, "completion_tokens": 1}},
        {"usage": {"prompt_tokens": "1", "completion_tokens": 1}},
        {"usage": {"prompt_tokens": True, "completion_tokens": 1}},
    ],
    ids=str,
)
async def test_what_the_protocol_does_not_allow_is_malformed(wire, refused, completion_body, changes):
    wire.answers(body=completion_body(**changes))
    assert (await refused(MalformedCompletion)).provider_request_id == "chatcmpl-1"


async def test_an_answer_without_usage_is_refused_but_its_text_kept(wire, refused, completion_body):
    wire.answers(body=completion_body(usage=None))
    assert (await refused(MalformedCompletion)).raw_text == "hello"


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"", b"[]", b"null", b'{"choices"', b"[" * 100_000])
async def test_a_body_that_is_not_a_json_object_is_malformed(wire, refused, body):
    wire.answers(200, body)
    assert (await refused(MalformedCompletion)).raw_text == body.decode()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"message": "Provider returned error", "code": 502}, ServerError),
        ({"message": "slow down", "code": 429}, Throttled),
        ({"message": "no", "code": "insufficient_quota"}, QuotaExhausted),
        ("no", MalformedCompletion),
    ],
)
async def test_an_error_under_a_200_is_translated(wire, refused, error, expected):
    wire.answers(200, {"error": error})
    await refused(expected)


# Secrets and sizes


@pytest.mark.parametrize(
    "echo", [f"Incorrect API key provided: {KEY}.", "Incorrect API key: sk-abc***wxyz.", f"bad header: Bearer {KEY}"]
)
async def test_no_key_gets_into_a_message(wire, refused, echo):
    wire.answers(401, {"error": {"message": echo}})
    message = str(await refused(AuthRejected))
    assert "[key]" in message
    assert "sk-" not in message


async def test_a_key_of_any_shape_is_cut_out(wire, build, ask):
    wire.answers(401, {"error": {"message": "key hunter2 is wrong"}})
    with pytest.raises(AuthRejected, match=r"key \[key\] is wrong"):
        await build(base_url=wire.url, api_key="hunter2").complete(ask())


async def test_a_message_is_bounded(wire, refused):
    wire.answers(400, {"error": {"message": "x" * 10_000}})
    assert len(str(await refused(InvalidRequest))) == 500


async def test_the_request_id_of_a_refused_call_is_kept(wire, refused):
    wire.answers(500, {"error": {}}, {"x-request-id": "req_3"})
    assert (await refused(ServerError)).provider_request_id == "req_3"
