"""Gemini's generateContent on the wire, through the real SDK: the question, the answer, the stream."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Literal

import pytest
from google.genai.types import FinishReason as GooglesReason
from pydantic import BaseModel, ConfigDict, Field

from gateway.analyses.schema_lint import common_schema
from gateway.errors import (
    AuthRejected,
    ConfigurationError,
    ContentRefused,
    InvalidRequest,
    MalformedCompletion,
    OutputTruncated,
    Overloaded,
    Timeout,
    Unreachable,
)
from gateway.messages import FinishReason, Message, Usage
from gateway.providers.base import ProviderConfig
from gateway.providers.gemini.client import BASE_URL, endpoint, open_client, open_session
from gateway.providers.gemini.request import GeminiOptions, gemini_schema
from gateway.providers.gemini.response import ENDS

ENVIRONMENT = {
    "GOOGLE_API_KEY": "of-somebody",
    "GEMINI_API_KEY": "of-somebody",
    "GOOGLE_GENAI_USE_VERTEXAI": "true",
    "GOOGLE_GENAI_USE_ENTERPRISE": "true",
    "GOOGLE_CLOUD_PROJECT": "somebody",
    "GOOGLE_CLOUD_LOCATION": "somewhere",
    "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1",
    "GOOGLE_GENAI_API_VERSION": "v9",
    "GOOGLE_GENAI_HTTP_CLIENT": "httpx",
    "HTTPS_PROXY": "http://127.0.0.1:1",
    "HTTP_PROXY": "http://127.0.0.1:1",
}


def answer(*parts, reason="STOP", **changes):
    return {
        "candidates": [{"content": {"role": "model", "parts": list(parts)}, "finishReason": reason, "index": 0}],
        "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 7, "totalTokenCount": 27},
        "modelVersion": "gemini-served",
        "responseId": "resp_1",
    } | changes


def text(said):
    return {"text": said}


@pytest.fixture
def gemini(wire, build):
    root = wire.url.removesuffix("/v1")
    return lambda **options: build(dialect="gemini", base_url=root, options=options)


def streams(wire, *events):
    async def serve(request):
        await request.start_stream()
        for event in events:
            await request.send_event(json.dumps(event))
        request.close()

    wire.handler = serve


async def collected(stream):
    return [piece async for piece in stream]


# The question


async def test_the_body_is_the_generate_content_one(wire, gemini, ask):
    wire.answers(body=answer(text("hello")))
    turns = (Message("system", "Be short."), Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    schema = {"type": "object", "additionalProperties": False, "required": ["z", "a"]}
    schema["properties"] = {"z": {"type": "string"}, "a": {"type": "integer"}}
    await gemini().complete(ask(model="gemini-x", messages=turns, temperature=0.25, schema=schema))
    [request] = wire.requests
    assert (request.method, request.path) == ("POST", "/v1beta/models/gemini-x:generateContent")
    assert request.body == {
        "systemInstruction": {"parts": [{"text": "Be short."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "a"}]},
            {"role": "model", "parts": [{"text": "b"}]},
            {"role": "user", "parts": [{"text": "c"}]},
        ],
        "generationConfig": {
            "maxOutputTokens": 100,
            "temperature": 0.25,
            "responseMimeType": "application/json",
            "responseSchema": {
                "type": "OBJECT",
                "required": ["z", "a"],
                "properties": {"z": {"type": "STRING"}, "a": {"type": "INTEGER"}},
                "propertyOrdering": ["z", "a"],
            },
        },
    }


async def test_what_is_unset_is_left_out(wire, gemini, ask):
    wire.answers(body=answer(text("hello")))
    await gemini().complete(ask(messages=(Message("user", "Hi."),)))
    body = wire.requests[0].body
    assert body.keys() == {"contents", "generationConfig"}
    assert body["generationConfig"] == {"maxOutputTokens": 100}


async def test_thinking_stands_beside_what_is_ours(wire, gemini, ask):
    wire.answers(body=answer(text("hello")))
    extra = {"generationConfig": {"thinkingConfig": {"thinkingLevel": "low"}, "maxOutputTokens": 1}, "contents": []}
    await gemini(extra_body={"safetySettings": []}).complete(ask(extra_body=extra))
    body = wire.requests[0].body
    assert body["generationConfig"] == {"thinkingConfig": {"thinkingLevel": "low"}, "maxOutputTokens": 100}
    assert body["safetySettings"] == []
    assert body["contents"]


async def test_a_models_own_fields_stand_beside_its_providers(wire, gemini, ask):
    wire.answers(body=answer(text("hello")))
    ours = {"generationConfig": {"topP": 0.5, "seed": 7}, "safetySettings": []}
    models = {"generationConfig": {"seed": 8}, "serviceTier": "flex"}
    await gemini(extra_body=ours).complete(ask(extra_body=models, temperature=0.0))
    body = wire.requests[0].body
    assert body["generationConfig"] == {"topP": 0.5, "seed": 8, "maxOutputTokens": 100, "temperature": 0.0}
    assert (body["safetySettings"], body["serviceTier"]) == ([], "flex")


async def test_neighbours_of_one_role_are_one_turn_of_several_parts(wire, gemini, ask):
    wire.answers(body=answer(text("hello")))
    said = (("system", "s"), ("user", "a"), ("system", "t"), ("user", "b"), ("assistant", "c"), ("user", "d"))
    await gemini().complete(ask(messages=tuple(Message(role, content) for role, content in said)))
    body = wire.requests[0].body
    assert body["systemInstruction"] == {"parts": [text("s"), text("t")]}
    assert body["contents"] == [
        {"role": "user", "parts": [text("a"), text("b")]},
        {"role": "model", "parts": [text("c")]},
        {"role": "user", "parts": [text("d")]},
    ]


@pytest.mark.parametrize(
    ("root", "options", "path"),
    [
        ("", {}, "/v1beta/models/gemini-x:generateContent"),
        ("/", {}, "/v1beta/models/gemini-x:generateContent"),
        ("", {"api_version": "v1"}, "/v1/models/gemini-x:generateContent"),
        ("/v1", {}, "/v1/models/gemini-x:generateContent"),
        ("/v1alpha/", {"api_version": "v1"}, "/v1alpha/models/gemini-x:generateContent"),
        ("/proxy/gemini", {}, "/proxy/gemini/v1beta/models/gemini-x:generateContent"),
        ("/proxy/v1beta", {}, "/proxy/v1beta/models/gemini-x:generateContent"),
    ],
)
async def test_base_url_version_and_path_are_joined(wire, build, ask, root, options, path):
    wire.answers(body=answer(text("hello")))
    base_url = wire.url.removesuffix("/v1") + root
    await build(dialect="gemini", base_url=base_url, options=options).complete(ask(model="gemini-x"))
    assert wire.requests[0].path == path


@pytest.mark.parametrize(
    ("model", "place"),
    [("gemini-3.8-flash", "models/gemini-3.8-flash"), ("models/x", "models/x"), ("tunedModels/x-1", "tunedModels/x-1")],
)
async def test_a_model_may_name_its_kind(wire, gemini, ask, model, place):
    wire.answers(body=answer(text("hello")))
    await gemini().complete(ask(model=model))
    assert wire.requests[0].path == f"/v1beta/{place}:generateContent"


def test_without_a_base_url_it_is_googles():
    assert endpoint(ProviderConfig("g", "gemini"), GeminiOptions()) == (BASE_URL, "v1beta")


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "generativelanguage.googleapis.com"},
        {"base_url": "ftp://x"},
        {"base_url": "http://"},
        {"base_url": "http://[x"},
        {"base_url": "http://x?key=hunter2"},
        {"base_url": "http://somebody:hunter2@x"},
        {"api_key": "hunter2 "},
        {"options": {"api_version": "../v1"}},
        {"options": {"keepalive_s": 0}},
        {"options": {"safety": "hunter2"}},
    ],
    ids=str,
)
async def test_an_unusable_setting_is_refused_at_boot_without_showing_it(build, settings):
    with pytest.raises(ConfigurationError, match="provider 'p'") as caught:
        build(dialect="gemini", **settings)
    assert "hunter2" not in str(caught.value)


class Evidence(BaseModel):
    """One finding."""

    model_config = ConfigDict(extra="forbid")

    quote: str
    weight: Literal["weak", "strong"] | None
    line: int = Field(ge=1)


class Finding(BaseModel):
    """A result with all that the common subset knows."""

    model_config = ConfigDict(extra="forbid")

    zeal: str = Field(description="Written first.")
    evidence: list[Evidence]
    best: Evidence | None
    kind: Literal["only"]
    score: float | None


async def test_a_nested_nullable_schema_with_enums_goes_out_in_geminis_words(wire, gemini, ask):
    """Field by field, in the model's own order; the schema that was handed in stays as it was."""
    wire.answers(body=answer(text("{}")))
    schema = common_schema(Finding)
    before = json.dumps(schema)
    await gemini().complete(ask(schema=schema))
    assert json.dumps(schema) == before
    evidence = {
        "type": "OBJECT",
        "properties": {
            "quote": {"type": "STRING"},
            "weight": {"type": "STRING", "enum": ["weak", "strong"], "format": "enum", "nullable": True},
            "line": {"type": "INTEGER"},
        },
        "required": ["quote", "weight", "line"],
        "propertyOrdering": ["quote", "weight", "line"],
    }
    assert wire.requests[0].body["generationConfig"]["responseSchema"] == {
        "type": "OBJECT",
        "properties": {
            "zeal": {"type": "STRING", "description": "Written first."},
            "evidence": {"type": "ARRAY", "items": evidence},
            "best": evidence | {"nullable": True},
            "kind": {"type": "STRING", "enum": ["only"], "format": "enum"},
            "score": {"type": "NUMBER", "nullable": True},
        },
        "required": ["zeal", "evidence", "best", "kind", "score"],
        "propertyOrdering": ["zeal", "evidence", "best", "kind", "score"],
    }


async def test_a_map_is_refused_with_its_place(wire, gemini, ask):
    """It would come back empty."""
    wire.answers()
    counts = {"type": "object", "additionalProperties": {"type": "integer"}}
    schema = {"type": "object", "properties": {"all": {"type": "array", "items": counts}}}
    with pytest.raises(InvalidRequest, match=r"schema \$\.all\[\]: .*maps"):
        await gemini().complete(ask(schema=schema))
    assert wire.requests == []


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "STRING", "nullable": True}),
        (
            {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}], "description": "d"},
            {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}], "description": "d", "nullable": True},
        ),
        (
            {
                "anyOf": [{"type": "object", "properties": {"a": {"type": "number"}}}, {"type": "null"}],
                "description": "d",
            },
            {
                "type": "OBJECT",
                "properties": {"a": {"type": "NUMBER"}},
                "propertyOrdering": ["a"],
                "description": "d",
                "nullable": True,
            },
        ),
        ({"type": ["integer", "null"]}, {"type": "INTEGER", "nullable": True}),
        ({"type": "string", "enum": ["a", "b"]}, {"type": "STRING", "enum": ["a", "b"], "format": "enum"}),
        (
            {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "boolean"}}}},
            {
                "type": "ARRAY",
                "items": {"type": "OBJECT", "properties": {"b": {"type": "BOOLEAN"}}, "propertyOrdering": ["b"]},
            },
        ),
        (
            {"type": "object", "properties": {"type": {"type": "string"}, "enum": {"type": "string"}}},
            {
                "type": "OBJECT",
                "properties": {"type": {"type": "STRING"}, "enum": {"type": "STRING"}},
                "propertyOrdering": ["type", "enum"],
            },
        ),
    ],
)
def test_a_schema_in_geminis_own_words(schema, written):
    assert gemini_schema(schema) == written


async def test_nothing_of_the_environment_is_sent(wire, build, ask, monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    wire.answers(body=answer(text("hello")))
    root = wire.url.removesuffix("/v1")
    await build(dialect="gemini", base_url=root, api_key="mine").complete(ask())
    await build(dialect="gemini", base_url=root, api_key=None).complete(ask())
    assert [request.headers["x-goog-api-key"] for request in wire.requests] == ["mine", "none"]
    assert not any("somebody" in f"{request.headers}{request.path}" for request in wire.requests)
    async with open_session(4.0) as session:
        assert open_client(BASE_URL, "v1", "mine", session).vertexai is False


# The answer


async def test_text_without_thoughts_usage_with_them(wire, gemini, ask):
    counts = {
        "promptTokenCount": 20,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 5,
        "cachedContentTokenCount": 12,
    }
    parts = ({"text": "hm", "thought": True}, text("hel"), text("lo"))
    wire.answers(body=answer(*parts, usageMetadata=counts), headers={"date": "now", "set-cookie": "a=b"})
    completion = await gemini().complete(ask())
    assert (completion.text, completion.finish_reason) == ("hello", FinishReason.STOP)
    assert completion.usage == Usage(20, 12, cached_tokens=12)
    assert (completion.model, completion.provider_request_id) == ("gemini-served", "resp_1")
    assert completion.headers == {"date": "now"}


REFUSALS = (
    *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "ESCALATION"),
    *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
)
MALFORMED = (
    *("FINISH_REASON_UNSPECIFIED", "OTHER", "MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL"),
    *("TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE", "IMAGE_OTHER", "NO_IMAGE", "A_NEW_ONE"),
)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("MAX_TOKENS", OutputTruncated),
        ("CONTINUATION", OutputTruncated),
        ("PUP_LIMITED_DISABLED", AuthRejected),
        *((reason, ContentRefused) for reason in REFUSALS),
        *((reason, MalformedCompletion) for reason in MALFORMED),
    ],
)
async def test_an_answer_that_did_not_end_well_is_an_error_that_was_paid_for(wire, gemini, ask, reason, expected):
    wire.answers(body=answer(text("half"), reason=reason))
    with pytest.raises(expected) as caught:
        await gemini().complete(ask())
    assert type(caught.value) is expected
    assert (caught.value.usage, caught.value.raw_text) == (Usage(20, 7), "half")
    assert caught.value.provider_request_id == "resp_1"


def test_every_finish_reason_of_the_sdk_has_its_place_in_the_table():
    assert {reason.value for reason in GooglesReason} == ENDS.keys()


async def test_a_cut_answer_with_a_token_is_not_continued_unasked(wire, gemini, ask):
    """The SDK by itself would send a second request, which costs as much again."""
    body = answer(text("half"), reason="CONTINUATION")
    body["candidates"][0]["continuationToken"] = "dG9rZW4="
    wire.answers(body=body)
    with pytest.raises(OutputTruncated):
        await gemini().complete(ask())
    streams(wire, body)
    with pytest.raises(OutputTruncated):
        await collected(gemini().stream(ask()))
    assert len(wire.requests) == 2


@pytest.mark.parametrize("reason", ["SAFETY", "RECITATION"])
async def test_a_refusal_names_its_reason(wire, gemini, ask, reason):
    wire.answers(body=answer(reason=reason))
    with pytest.raises(ContentRefused, match=reason):
        await gemini().complete(ask())
    streams(wire, answer(reason=reason))
    with pytest.raises(ContentRefused, match=reason):
        await collected(gemini().stream(ask()))


async def test_thoughts_that_ate_up_all_tokens_are_paid_for(wire, gemini, ask):
    body = answer(reason="MAX_TOKENS", usageMetadata={"promptTokenCount": 20, "thoughtsTokenCount": 100})
    del body["candidates"][0]["content"]
    wire.answers(body=body)
    with pytest.raises(OutputTruncated) as caught:
        await gemini().complete(ask())
    assert (caught.value.usage, caught.value.raw_text) == (Usage(20, 100), "")


@pytest.mark.parametrize("parts", [[], [{"text": "hm", "thought": True}], [{"functionCall": {"name": "f"}}]], ids=str)
async def test_an_end_without_a_text_is_malformed_and_paid_for(wire, gemini, ask, parts):
    wire.answers(body=answer(*parts))
    with pytest.raises(MalformedCompletion, match="no text") as caught:
        await gemini().complete(ask())
    assert caught.value.usage == Usage(20, 7)


async def test_what_tools_brought_in_is_billed_as_input(wire, gemini, ask):
    counts = {"promptTokenCount": 20, "toolUsePromptTokenCount": 9, "candidatesTokenCount": 7}
    wire.answers(body=answer(text("hello"), usageMetadata=counts))
    assert (await gemini().complete(ask())).usage == Usage(29, 7)


@pytest.mark.parametrize(
    "counts",
    [
        None,
        7,
        {},
        {"candidatesTokenCount": 7},
        {"promptTokenCount": 20},
        {"promptTokenCount": 20, "thoughtsTokenCount": 5},
        {"promptTokenCount": 20, "candidatesTokenCount": "7"},
        {"promptTokenCount": 20, "candidatesTokenCount": True},
        {"promptTokenCount": 20, "candidatesTokenCount": 7.0},
        {"promptTokenCount": 20, "candidatesTokenCount": 10**10},
        {"promptTokenCount": 20, "candidatesTokenCount": 7, "cachedContentTokenCount": 21},
    ],
    ids=str,
)
async def test_an_answer_without_usable_counts_is_malformed_with_its_text_kept(wire, gemini, ask, counts):
    wire.answers(body=answer(text("hello"), usageMetadata=counts))
    with pytest.raises(MalformedCompletion, match="no usable usage") as caught:
        await gemini().complete(ask())
    assert (caught.value.raw_text, caught.value.usage) == ("hello", None)
    assert caught.value.provider_request_id == "resp_1"


async def test_a_blocked_prompt_is_refused_with_its_reason(wire, gemini, ask):
    blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 9}}
    wire.answers(body=blocked)
    with pytest.raises(ContentRefused, match="PROHIBITED_CONTENT") as caught:
        await gemini().complete(ask())
    assert caught.value.usage == Usage(9, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b"[]",
        b"{}",
        b'{"candidates": []}',
        json.dumps(answer(text("x"), usageMetadata=None)).encode(),
        json.dumps(answer(text("x"), usageMetadata={"promptTokenCount": 1})).encode(),
        json.dumps(answer(text("x"), usageMetadata={"promptTokenCount": -1, "candidatesTokenCount": 1})).encode(),
        json.dumps(answer(text("x"), reason=None)).encode(),
    ],
)
async def test_what_is_no_whole_answer_is_malformed(wire, gemini, ask, body):
    wire.answers(body=body)
    with pytest.raises(MalformedCompletion):
        await gemini().complete(ask())


async def test_an_error_object_under_a_200_is_an_error(wire, gemini, ask):
    wire.answers(body={"error": {"code": 503, "status": "UNAVAILABLE", "message": "busy"}})
    with pytest.raises(Overloaded, match="busy"):
        await gemini().complete(ask())


# The stream


async def test_a_stream_yields_text_and_no_thoughts(wire, gemini, ask):
    streams(
        wire,
        answer({"text": "hm", "thought": True}, reason=None),
        answer(text("hel"), reason=None),
        {"usageMetadata": {"promptTokenCount": 1}},
        answer(text("lo")),
    )
    assert await collected(gemini().stream(ask(model="gemini-x"))) == ["hel", "lo"]
    assert wire.requests[0].path == "/v1beta/models/gemini-x:streamGenerateContent?alt=sse"


async def test_a_stream_that_ends_without_a_reason_is_malformed(wire, gemini, ask):
    streams(wire, answer(text("half"), reason=None))
    stream = gemini().stream(ask())
    assert await anext(stream) == "half"
    with pytest.raises(MalformedCompletion, match="without a finish reason"):
        await anext(stream)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (answer(reason="MAX_TOKENS"), OutputTruncated),
        (answer(reason="SAFETY"), ContentRefused),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, ContentRefused),
        (answer(reason="OTHER"), MalformedCompletion),
        ({"error": {"code": 503, "status": "UNAVAILABLE", "message": "busy"}}, Overloaded),
    ],
)
async def test_a_stream_that_does_not_end_well_says_so(wire, gemini, ask, last, expected):
    streams(wire, answer(text("half"), reason=None), last)
    stream = gemini().stream(ask())
    assert await anext(stream) == "half"
    with pytest.raises(expected):
        await anext(stream)


async def test_a_stream_that_stalls_ends_at_the_deadline_and_its_connection_with_it(wire, gemini, ask):
    gone = asyncio.Event()

    async def stall(request):
        await request.start_stream()
        await request.send_event(json.dumps(answer(text("first"), reason=None)))
        await request.until_client_is_gone()
        gone.set()

    wire.handler = stall
    stream = gemini().stream(ask(timeout_s=0.5))
    assert await anext(stream) == "first"
    with pytest.raises(Timeout, match=r"within 0\.5 s"):
        await anext(stream)
    async with asyncio.timeout(20):
        await gone.wait()


async def test_leaving_a_stream_early_closes_its_connection(wire, gemini, ask):
    gone = asyncio.Event()

    async def stall(request):
        await request.start_stream()
        await request.send_event(json.dumps(answer(text("first"), reason=None)))
        await request.until_client_is_gone()
        gone.set()

    wire.handler = stall
    stream = gemini().stream(ask())
    assert await anext(stream) == "first"
    await stream.aclose()
    async with asyncio.timeout(20):
        await gone.wait()


async def test_a_stream_whose_connection_breaks_is_unreachable(wire, gemini, ask):
    async def drop(request):
        part = f"data: {json.dumps(answer(text('first'), reason=None))}\n\n".encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        await request.send_raw(head + b"%x\r\n%b\r\n" % (len(part), part))
        request.reset()

    wire.handler = drop
    with pytest.raises(Unreachable):
        await collected(gemini().stream(ask()))


async def test_is_available_asks_for_the_models(wire, gemini):
    wire.answers(body={"models": []})
    assert await gemini().is_available()
    assert (wire.requests[0].method, wire.requests[0].path) == ("GET", "/v1beta/models?pageSize=1")


# Connections


async def test_a_connection_is_used_again(wire, gemini, ask):
    wire.answers(body=answer(text("hello")))
    provider = gemini()
    for _ in range(3):
        await provider.complete(ask())
    assert wire.connections == 1


async def test_more_than_a_hundred_calls_can_be_open_at_once(wire, gemini, ask):
    """No answer is given before all have arrived, so a pool of aiohttp's own size would hang."""
    calls = 130
    all_arrived = asyncio.Event()

    async def answer_when_all_are_here(request):
        if len(wire.requests) == calls:
            all_arrived.set()
        await all_arrived.wait()
        await request.send(200, answer(text("hello")))

    wire.handler = answer_when_all_are_here
    provider = gemini()
    async with asyncio.timeout(20):
        await asyncio.gather(*(provider.complete(ask()) for _ in range(calls)))
    assert wire.connections == calls


async def test_cancelling_a_call_closes_its_connection(wire, gemini, ask):
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def hang(request):
        arrived.set()
        await request.until_client_is_gone()
        gone.set()

    wire.handler = hang
    call = asyncio.create_task(gemini().complete(ask()))
    async with asyncio.timeout(20):
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await gone.wait()


async def test_a_compressed_answer_is_read(wire, gemini, ask):
    wire.answers(200, gzip.compress(json.dumps(answer(text("h\u00e9llo"))).encode()), {"content-encoding": "gzip"})
    assert (await gemini().complete(ask())).text == "h\u00e9llo"
