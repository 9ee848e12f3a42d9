"""The fake provider: scripted, or by example; never mistaken for a model."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import ConfigurationError, ContentRefused, OutputTruncated, Throttled, Timeout
from gateway.messages import Completion, CompletionRequest, FinishReason, Message, Usage
from gateway.providers.base import ProviderConfig
from gateway.providers.fake.provider import EXAMPLE_MODEL, REMEMBERED_REQUESTS, SCRIPTED_MODEL, FakeProvider
from gateway.providers.fake.schema_example import example


def request(**changes) -> CompletionRequest:
    return CompletionRequest(**{"model": "m", "messages": (Message("user", "hi"),), "max_tokens": 10, **changes})


def fake(script=None, sleep=None, **options) -> FakeProvider:
    config = ProviderConfig(name="f", dialect="fake", options=options)
    return FakeProvider(config, script=script, **({"sleep": sleep} if sleep else {}))


class Level(StrEnum):
    LOW = "low"
    HIGH = "high"


class Skill(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=9)
    short: str = Field(max_length=3)
    level: Level
    kind: Literal["code"]
    years: int = Field(ge=3, le=60)
    above: int = Field(gt=10)
    below: int = Field(lt=-2)
    negative: int = Field(le=-5)
    score: float = Field(ge=0, le=1)
    floor: float = Field(ge=10)
    ceiling: float = Field(lt=-1)
    free: float
    sure: bool
    note: str | None
    nothing: None


class Report(BaseModel):
    model_config = ConfigDict(extra="forbid")

    skills: list[Skill] = Field(min_length=2)
    tags: list[str]
    few: list[int] = Field(max_length=0)


async def test_by_default_it_answers_valid_json_of_the_schema_and_marks_it():
    completion = await fake().complete(request(schema=Report.model_json_schema()))
    report = Report.model_validate_json(completion.text)
    assert len(report.skills) == 2
    assert completion.model == EXAMPLE_MODEL
    assert completion.finish_reason is FinishReason.STOP


async def test_the_same_request_gets_the_same_answer():
    ask = request(schema=Report.model_json_schema())
    assert (await fake().complete(ask)).text == (await fake().complete(ask)).text


async def test_without_a_schema_it_says_that_no_model_wrote_this():
    completion = await fake().complete(request())
    assert "not written by a model" in completion.text
    assert completion.model == EXAMPLE_MODEL


@pytest.mark.parametrize(("answer", "text"), [("plain", "plain"), ({"a": [1]}, '{"a": [1]}')])
async def test_a_configured_answer_is_given_every_time(answer, text):
    provider = fake(answer=answer)
    completions = [await provider.complete(request()) for _ in range(2)]
    assert [completion.text for completion in completions] == [text, text]
    assert completions[0].model == SCRIPTED_MODEL


async def test_a_script_is_played_in_order_and_then_says_that_it_is_over():
    whole = Completion("whole", FinishReason.STOP, Usage(1, 2), "some-model", "id-1")
    provider = fake([whole, Throttled("busy", retry_after_s=3), "text"])
    assert await provider.complete(request()) is whole
    with pytest.raises(Throttled) as caught:
        await provider.complete(request())
    assert caught.value.retry_after_s == 3
    assert (await provider.complete(request())).text == "text"
    with pytest.raises(ConfigurationError, match="used up"):
        await provider.complete(request())
    assert provider.calls == 4


async def test_a_function_decides_from_the_request():
    provider = fake(lambda asked: asked.messages[-1].content.upper())
    assert (await provider.complete(request())).text == "HI"
    assert (await provider.complete(request(messages=(Message("user", "bye"),)))).text == "BYE"


@pytest.mark.parametrize(
    ("reason", "expected"), [(FinishReason.LENGTH, OutputTruncated), (FinishReason.REFUSAL, ContentRefused)]
)
async def test_an_unfinished_answer_is_an_error_as_with_every_provider(reason, expected):
    provider = fake([Completion("half", reason, Usage(1, 2), "m", "id-2")])
    with pytest.raises(expected) as caught:
        await provider.complete(request())
    assert (caught.value.raw_text, caught.value.usage, caught.value.provider_request_id) == (
        "half",
        Usage(1, 2),
        "id-2",
    )


async def test_latency_is_slept_and_not_lived():
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    await fake(sleep=sleep, latency_s=30).complete(request(timeout_s=60))
    with pytest.raises(Timeout, match="within 5 s"):
        await fake(sleep=sleep, latency_s=30).complete(request(timeout_s=5))
    assert slept == [30, 5]


async def test_it_streams_the_same_text_in_pieces():
    text = "x" * 40
    pieces = [piece async for piece in fake(answer=text).stream(request())]
    assert [len(piece) for piece in pieces] == [16, 16, 8]
    with pytest.raises(Throttled):
        await anext(fake([Throttled("busy")]).stream(request()))


async def test_usage_is_its_own_count():
    completion = await fake(answer="x" * 30).complete(request())
    assert completion.usage == Usage(input_tokens=fake().count_tokens(request()), output_tokens=10)


async def test_it_remembers_the_last_requests_and_counts_all():
    provider = fake(answer="a")
    for number in range(REMEMBERED_REQUESTS + 1):
        await provider.complete(request(max_tokens=number + 1))
    assert provider.calls == REMEMBERED_REQUESTS + 1
    assert [provider.requests[0].max_tokens, provider.requests[-1].max_tokens] == [2, REMEMBERED_REQUESTS + 1]


async def test_it_is_available_until_told_otherwise_or_closed():
    provider = fake()
    assert await provider.is_available()
    await provider.aclose()
    assert not await provider.is_available()
    assert not await fake(available=False).is_available()


@pytest.mark.parametrize("options", [{"latency_s": -1}, {"latency": 1}, {"answer": 7}])
def test_unusable_options_are_refused(options):
    with pytest.raises(ConfigurationError, match="provider 'f': option"):
        fake(**options)


def test_formats_have_examples_that_parse():
    assert example({"type": "string", "format": "uuid"}) == "00000000-0000-4000-8000-000000000000"
    assert example({"type": ["null", "string"]}) is None
    assert json.dumps(example({"type": "array", "items": {"const": 5}, "minItems": 3})) == "[5, 5, 5]"


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "string", "pattern": "^a$"}, "pattern"),
        ({}, "type None"),
        ({"$ref": "other.json#/a"}, "another document"),
        ({"$ref": "#"}, "nested deeper"),
    ],
)
def test_a_schema_it_cannot_satisfy_is_refused_and_not_guessed(schema, message):
    with pytest.raises(ConfigurationError, match=message):
        example(schema)
