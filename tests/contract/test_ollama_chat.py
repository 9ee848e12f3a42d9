"""Ollama's dialect over the wire: what is sent, what is read, every row of its error table, the window it must not cut.

The answers are those of Ollama 0.33, as its source writes them (`server/routes.go`). What breaks on the way is in
`test_json_http.py`.
"""

from __future__ import annotations

import json
import re

import pytest

from gateway.errors import (
    AuthRejected,
    ConfigurationError,
    ContextTooLong,
    InvalidRequest,
    MalformedCompletion,
    OutputTruncated,
    Overloaded,
    QuotaExhausted,
    ServerError,
    Throttled,
    Timeout,
)
from gateway.messages import Message, Usage

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
ANSWER = {
    "model": "llama3.2",
    "created_at": "2026-11-21T03:00:00.000000Z",
    "message": {"role": "assistant", "content": "hello", "thinking": "The user greets me."},
    "done": True,
    "done_reason": "stop",
    "total_duration": 4_883_583_458,
    "load_duration": 1_334_875,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 342_546_000,
    "eval_count": 7,
    "eval_duration": 4_535_599_000,
}
FITS = (Message("user", "x" * 3 * 1_000),)
"""1,000 tokens and 4, by the estimate."""


async def collected(stream):
    return [piece async for piece in stream]


def without(name):
    return {key: value for key, value in ANSWER.items() if key != name}


def piece(text, **message):
    return {"model": "llama3.2", "message": {"role": "assistant", "content": text, **message}, "done": False}


def streams(wire, *lines):
    """Stream these lines to every request."""

    async def stream(request):
        await request.start_stream()
        for line in lines:
            await request.send_raw(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
        request.close()

    wire.handler = stream


@pytest.fixture
def ollama(wire, build):
    """Build the adapter with these options, pointed at `wire`."""

    def builder(**options):
        return build(dialect="ollama", base_url=wire.url.removesuffix("/v1"), options=options)

    return builder


@pytest.fixture
def refused(ollama, ask):
    async def call(expected, **changes):
        with pytest.raises(expected) as caught:
            await ollama().complete(ask(**changes))
        assert type(caught.value) is expected
        return caught.value

    return call


@pytest.fixture
def sent(wire, ollama, ask):
    """Ask with these options and return the body that was sent."""

    async def call(options=None, **changes):
        wire.answers(body=ANSWER)
        await ollama(**(options or {})).complete(ask(**changes))
        return wire.requests[-1].body

    return call


# The request


async def test_the_body_is_ollamas_own(wire, ollama, ask):
    wire.answers(body=ANSWER)
    await ollama(keep_alive="10m", think=False, parameters={"seed": 7}).complete(ask(temperature=0.25, schema=SCHEMA))
    [request] = wire.requests
    assert (request.method, request.path) == ("POST", "/api/chat")
    assert request.body == {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Say hello."}],
        "stream": False,
        "truncate": False,
        "shift": False,
        "options": {"num_predict": 100, "num_ctx": 8_192, "temperature": 0.25, "seed": 7},
        "format": SCHEMA,
        "keep_alive": "10m",
        "think": False,
    }


async def test_what_is_unset_is_left_to_the_server(sent):
    body = await sent()
    assert not {"format", "keep_alive", "think"} & body.keys()
    assert "temperature" not in body["options"]


async def test_further_fields_of_the_model_are_sent_and_ours_win(sent):
    further = {"options": {"top_k": 3, "num_predict": 1, "num_ctx": 1}, "think": "low", "truncate": True, "raw": 1}
    body = await sent(extra_body=further)
    assert body["options"] == {"top_k": 3, "num_predict": 100, "num_ctx": 8_192}
    assert (body["think"], body["truncate"], body["raw"]) == ("low", False, 1)


async def test_no_format_is_sent_where_the_server_cannot_use_one(sent, ollama):
    assert "format" not in await sent({"structured_output": False}, schema=SCHEMA)
    assert ollama(structured_output=False).capabilities.structured_output is False


@pytest.mark.parametrize("option", ["keep_alive", "think"])
@pytest.mark.parametrize("value", [{"keep_alive": -1, "think": True}, {"keep_alive": "1.5h", "think": "high"}], ids=str)
async def test_options_pass_through(sent, option, value):
    assert (await sent({option: value[option]}))[option] == value[option]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_ctx": 2_047}, "num_ctx"),
        ({"num_ctx": 16 * 1024 * 1024 + 1}, "num_ctx"),
        ({"num_ctx": "large"}, "num_ctx"),
        ({"keep_alive": "for ever"}, "keep_alive"),
        ({"think": "hard"}, "think"),
        ({"parameters": {"num_ctx": 4_096}}, "parameters"),
        ({"parameters": {"num_predict": 1}}, "num_predict is set by the request"),
        ({"parameters": {"temperature": 1}}, "temperature is set by the request"),
        ({"parameters": {"stop": {"a": 1}}}, "parameters"),
    ],
)
async def test_an_option_that_cannot_be_used_is_refused_and_named(ollama, options, named):
    with pytest.raises(ConfigurationError, match=named):
        ollama(**options)


# The window


@pytest.mark.parametrize(
    ("max_tokens", "window"), [(100, 8_192), (8_192 - 1_004, 8_192), (8_192 - 1_003, 16_384), (100_000, 131_072)]
)
async def test_the_window_holds_the_input_and_room_for_the_answer(sent, max_tokens, window):
    body = await sent(messages=FITS, max_tokens=max_tokens)
    assert body["options"]["num_ctx"] == window


async def test_the_window_of_a_model_only_grows(wire, ollama, ask):
    """Each change makes Ollama load the model anew."""
    wire.answers(body=ANSWER)
    provider = ollama()
    for model, max_tokens in [("a", 100), ("a", 20_000), ("a", 100), ("b", 100)]:
        await provider.complete(ask(model=model, max_tokens=max_tokens))
    assert [request.body["options"]["num_ctx"] for request in wire.requests] == [8_192, 32_768, 32_768, 8_192]


async def test_the_windows_of_many_models_are_not_all_remembered(wire, ollama, ask, monkeypatch):
    monkeypatch.setattr("gateway.providers.ollama.chat_request.MOST_MODELS", 2)
    wire.answers(body=ANSWER)
    provider = ollama()
    for model, max_tokens in [("a", 20_000), ("b", 100), ("a", 100), ("c", 100), ("a", 100)]:
        await provider.complete(ask(model=model, max_tokens=max_tokens))
    assert [request.body["options"]["num_ctx"] // 8_192 for request in wire.requests] == [4, 1, 4, 1, 1]


async def test_a_chosen_window_is_asked_for_whatever_the_request(sent):
    assert (await sent({"num_ctx": 4_096}, max_tokens=9_000))["options"]["num_ctx"] == 4_096


async def test_the_servers_own_window_is_not_touched_nor_judged(wire, sent):
    """As for a model of the cloud: its window is larger than any we would ask for."""
    assert "num_ctx" not in (await sent({"num_ctx": "server"}))["options"]


@pytest.mark.parametrize(
    ("counts", "fits"),
    [
        ((8_000, 192), True),
        ((8_000, 193), True),  # the last token written needs no place
        ((8_000, 194), False),  # its beginning was dropped while it wrote
        ((8_191, 1), True),
        ((8_192, 1), False),  # the input was cut down to the window
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
async def test_an_input_that_an_old_server_cut_is_found_out(wire, ollama, ask, counts, fits, streaming):
    """Ollama before 0.12.6 knows neither `truncate` nor `shift`, and answers from what is left of the input."""
    last = ANSWER | {"prompt_eval_count": counts[0], "eval_count": counts[1]}
    wire.answers(body=last)
    if streaming:
        streams(wire, last)
    answer = collected(ollama().stream(ask())) if streaming else ollama().complete(ask())
    if fits:
        assert await answer
        return
    with pytest.raises(ContextTooLong, match="may have cut the input") as caught:
        await answer
    assert caught.value.usage == Usage(*counts)
    assert caught.value.raw_text == "hello"


async def test_without_a_window_of_ours_nothing_can_be_judged(wire, ollama, ask):
    wire.answers(body=ANSWER | {"prompt_eval_count": 100_000})
    assert (await ollama(num_ctx="server").complete(ask())).usage.input_tokens == 100_000


# The answer


async def test_text_usage_and_model_are_kept_and_thoughts_are_not(wire, ollama, ask):
    headers = {"X-Request-Id": "req_1", "x-ratelimit-remaining": "3", "set-cookie": "a=b"}
    wire.answers(body=ANSWER, headers=headers)
    completion = await ollama().complete(ask())
    assert completion.text == "hello"
    assert completion.usage == Usage(26, 7)
    assert completion.usage_estimated is False
    assert completion.model == "llama3.2"
    assert completion.provider_request_id == "req_1"
    assert completion.headers == {"x-request-id": "req_1", "x-ratelimit-remaining": "3"}


async def test_a_server_that_names_no_model_answers_as_the_one_asked_and_without_an_id(wire, ollama, ask):
    wire.answers(body=without("model"))
    completion = await ollama().complete(ask())
    assert (completion.model, completion.provider_request_id) == ("gpt-4o", None)


async def test_tokens_read_from_the_cache_are_part_of_the_input(wire, ollama, ask):
    wire.answers(body=ANSWER | {"prompt_eval_cached_count": 20})
    assert (await ollama().complete(ask())).usage == Usage(26, 7, 20)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt_eval_count", None),  # Ollama before 0.2, where the cache held the whole prompt
        ("prompt_eval_count", 0),
        ("prompt_eval_count", 10**12),
        ("eval_count", None),
        ("eval_count", -1),
        ("eval_count", "7"),
        ("eval_count", True),
        ("eval_count", 7.0),
        ("prompt_eval_cached_count", "7"),
        ("done", False),  # Ollama stopped a model that repeats itself
        ("done_reason", None),  # the runner's connection closed
        ("done_reason", "load"),
        ("done_reason", "unload"),
        ("done_reason", ["stop"]),
    ],
)
async def test_an_answer_without_its_counts_or_its_end_is_malformed_and_kept(wire, refused, field, value):
    """None: the field is left out, as Ollama does with a zero."""
    wire.answers(body=without(field) if value is None else ANSWER | {field: value})
    assert (await refused(MalformedCompletion)).raw_text == "hello"


@pytest.mark.parametrize("message", [None, "hello", {}, {"content": None}, {"content": ["hello"]}], ids=str)
async def test_an_answer_without_text_is_malformed(wire, refused, message):
    wire.answers(body=ANSWER | {"message": message})
    await refused(MalformedCompletion)


async def test_cut_at_num_predict_keeps_text_and_usage(wire, refused):
    wire.answers(body=ANSWER | {"done_reason": "length"})
    error = await refused(OutputTruncated)
    assert (error.raw_text, error.usage) == ("hello", Usage(26, 7))


# Errors


RUNNER_400 = json.dumps(
    {"error": {"code": 400, "message": "request (351 tokens) exceeds the available context size (256 tokens)"}}
)
ERRORS = [
    (400, "invalid character 'x' looking for beginning of value", InvalidRequest),
    (400, '"llama3.2" does not support thinking', InvalidRequest),
    (400, RUNNER_400, ContextTooLong),
    (400, "the prompt is longer than the context length currently available to the model", ContextTooLong),
    (400, "the input length exceeds the context length", ContextTooLong),
    (500, "input length (9 tokens) exceeds the model's maximum context length (8 tokens)", ContextTooLong),
    (500, "input after truncation exceeds maximum context length", ContextTooLong),
    (401, "unauthorized", AuthRejected),
    (403, "remote inference is unavailable", AuthRejected),
    (404, "model 'llama9' not found", InvalidRequest),
    (404, 'model "llama9" not found, try pulling it first', InvalidRequest),
    (408, "timeout", Timeout),
    (413, "too large", ContextTooLong),
    (429, "rate limit exceeded", Throttled),
    (429, "you (somebody) have reached your weekly usage limit, upgrade for higher limits", QuotaExhausted),
    (429, "you've reached your hourly usage limit, please wait or upgrade to continue", QuotaExhausted),
    (500, "timed out waiting for a concurrent request slot", Throttled),
    (499, "request canceled", ServerError),
    (500, "llama-server reported out-of-memory during startup: cudaMalloc failed: out of memory", ServerError),
    (500, "model runner has unexpectedly stopped, this may be due to resource limitations", ServerError),
    (500, "llm busy - no slots available", Overloaded),
    (502, "bad gateway", ServerError),
    (503, "server busy, please try again.  maximum pending requests exceeded", Overloaded),
    (504, "gateway timeout", Timeout),
]


@pytest.mark.parametrize(("status", "words", "expected"), ERRORS)
async def test_every_row_of_the_error_table(wire, refused, status, words, expected):
    wire.answers(status, {"error": words})
    error = await refused(expected)
    assert str(error) == f"HTTP {status}: {words}"
    assert len(wire.requests) == 1


@pytest.mark.parametrize(("status", "words", "expected"), ERRORS[2:7] + ERRORS[-2:-1])
async def test_a_stream_refused_at_the_start_raises_at_the_first_item(wire, ollama, ask, status, words, expected):
    wire.answers(status, {"error": words})
    with pytest.raises(expected):
        await collected(ollama().stream(ask()))


async def test_a_usage_limit_that_is_over_in_a_minute_is_a_rate_limit(wire, refused):
    wire.answers(429, {"error": "session usage limit"}, {"retry-after": "60"})
    assert (await refused(Throttled)).retry_after_s == 60


@pytest.mark.parametrize("body", [{"error": {"message": "no"}}, {"error": {}}, {"message": "no"}, [], "no"], ids=str)
async def test_an_error_of_another_shape_goes_by_its_status(wire, refused, body):
    wire.answers(503, body)
    await refused(Overloaded)


@pytest.mark.parametrize(
    ("said", "expected"), [("boom", ServerError), ({"code": 1}, ServerError), (RUNNER_400, ContextTooLong)]
)
async def test_an_error_under_a_200_is_translated(wire, refused, said, expected):
    wire.answers(200, {"error": said})
    await refused(expected)


# Streams


async def test_a_stream_yields_what_is_said_and_not_what_is_thought(wire, ollama, ask):
    streams(wire, piece("", thinking="Hm."), piece("hel"), b"\n", piece("lo"), ANSWER | {"message": {"content": ""}})
    assert await collected(ollama().stream(ask())) == ["hel", "lo"]
    assert wire.requests[0].body["stream"] is True


@pytest.mark.parametrize(
    "last",
    [
        None,
        b'{"message": {"cont',
        piece("!"),
        ANSWER | {"done_reason": "unload"},
        without("done_reason"),
        without("eval_count"),
        b"[]\n",
        b'{"done": true}\n',
    ],
    ids=str,
)
async def test_a_stream_that_does_not_end_as_it_should_is_malformed(wire, ollama, ask, last):
    streams(wire, piece("half an ans"), *([] if last is None else [last]))
    stream = ollama().stream(ask())
    assert await anext(stream) == "half an ans"
    with pytest.raises(MalformedCompletion):
        await collected(stream)


@pytest.mark.parametrize(
    ("words", "expected"),
    [("an error was encountered while running the model: CUDA error", ServerError), (RUNNER_400, ContextTooLong)],
)
async def test_an_error_in_mid_stream_is_translated(wire, ollama, ask, words, expected):
    streams(wire, piece("word"), {"error": words})
    stream = ollama().stream(ask())
    assert await anext(stream) == "word"
    with pytest.raises(expected, match=re.escape(words[:20])):
        await anext(stream)


async def test_a_stream_cut_at_num_predict_says_so_at_its_end(wire, ollama, ask):
    streams(wire, piece("half"), ANSWER | {"done_reason": "length", "message": {"content": ""}})
    with pytest.raises(OutputTruncated):
        await collected(ollama().stream(ask()))


async def test_is_available_asks_for_the_version(wire, ollama):
    wire.answers(body={"version": "0.33.2"})
    assert await ollama().is_available() is True
    assert (wire.requests[0].method, wire.requests[0].path) == ("GET", "/api/version")
