"""The gateway's pipeline: question, call, ledger, ladder, re-ask; over a provider that calls nobody."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from gateway.analyses.base import Ask
from gateway.analyses.registry import load_analyses
from gateway.build import build_gateway, provider_config
from gateway.calls.end import NOTHING_USD
from gateway.catalog import Catalog, load_catalog
from gateway.errors import (
    BudgetSpent,
    CatalogError,
    ClaimLost,
    ConfigurationError,
    ContentRefused,
    GatewayError,
    InvalidOutput,
    OutputTruncated,
    PromptError,
    RequestError,
    Throttled,
    Timeout,
    UnknownAnalysis,
)
from gateway.gateway import Gateway
from gateway.ledger import CallEnd, CallKind, CallOutcome, CallStart, MemoryLedger
from gateway.log_lines import GatewayOptions
from gateway.messages import Capabilities, Completion, CompletionRequest, FinishReason, Message, ModelRef, Usage
from gateway.provider_set import ProviderSet
from gateway.providers.base import Provider, ProviderConfig
from gateway.providers.fake.provider import Answer, FakeProvider
from gateway.settings import Settings

REGISTRY = load_analyses([])
ENV = {"OPENAI_API_KEY": "k", "ASSAYLINE_FAKE": "1"}
MINI = ModelRef("openai", "gpt-5.4-mini")
USAGE = Usage(input_tokens=1_000, output_tokens=100, cached_tokens=400)
COST = Decimal("0.00093")
"""(600 x 0.75 + 400 x 0.075 + 100 x 4.50) / 1e6 dollars, by the catalog's rates for gpt-5.4-mini."""
LABELS = {"labels": ["bug", "praise"]}
GOOD = {"evidence": "it crashes", "label": "bug", "confidence_percent": 90}


class Clock:
    """A clock that stands still until somebody moves it."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def answer(text: str, finish_reason: FinishReason = FinishReason.STOP) -> Completion:
    return Completion(text, finish_reason, USAGE, "gpt-5.4-mini-2026-03-17", provider_request_id="req-1")


def scripted(*answers: Answer | dict[str, Any]) -> FakeProvider:
    texts = [json.dumps(item) if isinstance(item, dict) else item for item in answers]
    return FakeProvider(
        ProviderConfig("openai", "fake"), script=[answer(item) if isinstance(item, str) else item for item in texts]
    )


def gateway_over(
    provider: Provider,
    clock: Callable[[], float] | None = None,
    options: GatewayOptions | None = None,
    listed: Catalog | None = None,
) -> Gateway:
    providers = ProviderSet({"openai": [provider.config], "fake": [provider.config]}, lambda _: provider)
    return Gateway(listed or catalog(), REGISTRY, providers, options=options, clock=clock or Clock())


def catalog(env: dict[str, str] = ENV) -> Catalog:
    return load_catalog(None, env)


async def classify(gateway: Gateway, content: str = "it crashes on start", **wishes: Any):
    return await gateway.analyze("text_classification", content, context=LABELS, model=MINI, **wishes)


def ends(ledger: MemoryLedger) -> list[CallEnd]:
    closed = [call.end for call in ledger.calls if call.end is not None]
    assert len(closed) == len(ledger.calls), "a call was opened and not closed"
    return closed


# -- a good answer ---------------------------------------------------------------------------------


async def test_a_good_answer_comes_back_validated_priced_and_in_the_ledger():
    ledger = MemoryLedger()
    result = await classify(gateway_over(scripted(GOOD)), ledger=ledger)
    assert result.data == GOOD
    assert (result.analysis, result.provider, result.prompt_version) == ("text_classification", "openai", "v1")
    assert (result.usage, result.cost_usd, result.calls) == (USAGE, COST, 1)
    assert (result.repaired, result.raw_text) == (False, None)
    (start,) = [call.start for call in ledger.calls]
    assert replace(start, worst_cost_usd=None) == CallStart(MINI, "default", CallKind.ANSWER, 300)
    assert start.worst_cost_usd is not None
    assert start.worst_cost_usd > 300 * Decimal("4.50") / 10**6, "the longest answer and the question"
    assert ends(ledger) == [
        CallEnd(
            CallOutcome.SUCCEEDED,
            latency_s=0.0,
            usage=USAGE,
            cost_usd=COST,
            finish_reason="stop",
            provider_request_id="req-1",
        )
    ]


async def test_latency_is_the_clocks():
    clock, ledger = Clock(), MemoryLedger()

    def slow(_: CompletionRequest) -> Answer:
        clock.now_s += 2.5
        return answer(json.dumps(GOOD))

    provider = FakeProvider(ProviderConfig("openai", "fake"), script=slow)
    result = await classify(gateway_over(provider, clock), ledger=ledger)
    assert (result.latency_s, ends(ledger)[0].latency_s) == (2.5, 2.5)


async def test_the_ledger_is_open_before_the_provider_is_asked():
    ledger = MemoryLedger()
    seen: list[CallEnd | None] = []

    def look(_: CompletionRequest) -> Answer:
        seen.extend(call.end for call in ledger.calls)
        return answer(json.dumps(GOOD))

    await classify(gateway_over(FakeProvider(ProviderConfig("openai", "fake"), script=look)), ledger=ledger)
    assert seen == [None]


async def test_the_request_is_the_analysiss():
    provider = scripted(GOOD)
    await classify(gateway_over(provider))
    request = provider.requests[0]
    assert (request.model, request.max_tokens, request.temperature, request.timeout_s) == (
        "gpt-5.4-mini",
        300,
        0.0,
        120,
    )
    assert request.schema_name == "text_classification"
    assert request.schema is not None
    assert request.schema["properties"]["label"]["enum"] == ["bug", "praise"]
    assert [message.role for message in request.messages] == ["system", "user"]
    assert "it crashes on start" in request.messages[1].content


async def test_a_caller_may_wish_otherwise():
    provider = scripted(GOOD)
    await classify(gateway_over(provider), max_tokens=50, temperature=0.7, timeout_s=3.0, prompt_version="v1")
    request = provider.requests[0]
    assert (request.max_tokens, request.temperature, request.timeout_s) == (50, 0.7, 3.0)


async def test_the_models_own_output_bound_holds_against_any_wish():
    provider = scripted(GOOD)
    await classify(gateway_over(provider), max_tokens=10_000_000)
    assert provider.requests[0].max_tokens == 128_000


async def test_what_a_model_does_not_take_is_not_sent():
    plain = catalog()
    entry = plain.model(MINI).model_copy(update={"capabilities": frozenset()})
    models = plain.providers["openai"].models | {MINI.model: entry}
    openai = plain.providers["openai"].model_copy(update={"models": models})
    provider = scripted(GOOD)
    listed = plain.model_copy(update={"providers": plain.providers | {"openai": openai}})
    await classify(gateway_over(provider, listed=listed), temperature=0.7)
    assert (provider.requests[0].temperature, provider.requests[0].schema) == (None, None)


async def test_without_a_model_the_first_configured_hop_answers():
    provider = scripted(GOOD, GOOD)
    await gateway_over(provider).analyze("text_classification", "x", context=LABELS)
    assert provider.requests[0].model == "gpt-6-luna"
    preferring = gateway_over(provider, listed=catalog(ENV | {"LLM_PROVIDER": "fake"}))
    result = await preferring.analyze("text_classification", "x", context=LABELS)
    assert (provider.requests[1].model, result.provider) == ("scripted", "fake")


# -- the ladder ------------------------------------------------------------------------------------


async def test_a_mended_answer_says_so_and_costs_one_call():
    text = f"```json\n{json.dumps(GOOD)}\n```"
    result = await classify(gateway_over(scripted(text)))
    assert (result.data, result.repaired, result.raw_text, result.calls) == (GOOD, True, text, 1)


async def test_an_unusable_answer_is_asked_for_once_more_with_its_errors():
    bad = GOOD | {"label": "complaint", "confidence_percent": 900}
    provider, ledger = scripted(bad, GOOD), MemoryLedger()
    result = await classify(gateway_over(provider), ledger=ledger)
    assert (result.data, result.repaired, result.calls) == (GOOD, True, 2)
    assert result.raw_text == json.dumps(GOOD)
    assert (result.cost_usd, result.usage) == (2 * COST, Usage(2_000, 200, 800))
    assert [call.start.kind for call in ledger.calls] == [CallKind.ANSWER, CallKind.REPAIR]
    first, second = provider.requests
    assert second.messages[:2] == first.messages
    assert second.messages[2] == Message("assistant", json.dumps(bad))
    assert "label: " in second.messages[3].content
    assert "confidence_percent: " in second.messages[3].content
    assert replace(second, messages=first.messages) == first


async def test_an_answer_that_stays_unusable_is_invalid_output_with_all_that_was_paid_for():
    ledger = MemoryLedger()
    with pytest.raises(InvalidOutput) as caught:
        await classify(gateway_over(scripted("no idea", "still none")), ledger=ledger)
    assert caught.value.raw_text == "still none"
    assert caught.value.usage == Usage(2_000, 200, 800)
    assert [end.outcome for end in ends(ledger)] == [CallOutcome.SUCCEEDED, CallOutcome.SUCCEEDED]


async def test_without_budget_for_a_reask_the_first_answer_is_the_last():
    ledger = MemoryLedger(max_calls=1)
    with pytest.raises(InvalidOutput) as caught:
        await classify(gateway_over(scripted("no idea")), ledger=ledger)
    assert (caught.value.raw_text, caught.value.usage) == ("no idea", USAGE)
    assert isinstance(caught.value.__cause__, BudgetSpent)
    assert len(ends(ledger)) == 1


async def test_without_time_for_a_reask_the_first_answer_is_the_last():
    """Nothing keeps it: a later attempt would pay for the question again."""
    clock = Clock()

    def slow(_: CompletionRequest) -> Answer:
        clock.now_s += 30
        return answer("no idea")

    provider = FakeProvider(ProviderConfig("openai", "fake"), script=slow)
    with pytest.raises(InvalidOutput) as caught:
        await classify(gateway_over(provider, clock), timeout_s=30)
    assert (provider.calls, caught.value.raw_text, caught.value.usage) == (1, "no idea", USAGE)


async def test_the_reask_has_only_the_time_that_is_left():
    clock = Clock()

    def slow(request: CompletionRequest) -> Answer:
        clock.now_s += 20
        return answer(json.dumps(GOOD) if len(request.messages) > 2 else "no idea")

    provider = FakeProvider(ProviderConfig("openai", "fake"), script=slow)
    await classify(gateway_over(provider, clock), timeout_s=30)
    assert [request.timeout_s for request in provider.requests] == [30, 10]


@pytest.mark.parametrize(
    ("reason", "error"), [(FinishReason.LENGTH, OutputTruncated), (FinishReason.REFUSAL, ContentRefused)]
)
async def test_a_cut_or_refused_answer_is_never_repaired_though_it_would_validate(reason, error):
    provider, ledger = scripted(answer(json.dumps(GOOD), reason)), MemoryLedger()
    with pytest.raises(error) as caught:
        await classify(gateway_over(provider), ledger=ledger)
    assert (caught.value.usage, provider.calls) == (USAGE, 1)
    assert (ends(ledger)[0].usage, ends(ledger)[0].cost_usd) == (USAGE, COST)


class LaxProvider(FakeProvider):
    """An adapter that does not look at the finish reason itself."""

    async def complete(self, request: CompletionRequest) -> Completion:
        return answer(json.dumps(GOOD), FinishReason.LENGTH)


async def test_the_finish_reason_is_looked_at_whatever_the_adapter_did():
    ledger = MemoryLedger()
    with pytest.raises(OutputTruncated):
        await classify(gateway_over(LaxProvider(ProviderConfig("openai", "fake"))), ledger=ledger)
    assert (ends(ledger)[0].outcome, ends(ledger)[0].finish_reason) == (CallOutcome.SUCCEEDED, "length")


# -- failing calls and the ledger ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "cost"),
    [
        (Throttled("slow down", provider_request_id="req-9"), NOTHING_USD),
        (ContentRefused("no", usage=USAGE), COST),
        (ContentRefused("no"), None),
        (Timeout("late"), None),
    ],
)
async def test_a_failed_call_is_closed_with_its_error_and_what_is_known_of_its_cost(error: GatewayError, cost):
    ledger = MemoryLedger()
    with pytest.raises(type(error)) as caught:
        await classify(gateway_over(scripted(error)), ledger=ledger)
    assert caught.value is error
    end = ends(ledger)[0]
    assert (end.outcome, end.error, end.error_message) == (CallOutcome.FAILED, error.name, str(error))
    assert (end.cost_usd, end.usage, end.provider_request_id) == (cost, error.usage, error.provider_request_id)


async def test_an_adapters_fault_is_closed_by_class_only_and_let_through():
    ledger = MemoryLedger()
    with pytest.raises(KeyError):
        await classify(gateway_over(scripted(KeyError("the whole prompt"))), ledger=ledger)
    end = ends(ledger)[0]
    assert (end.outcome, end.error, end.error_message, end.cost_usd) == (CallOutcome.FAILED, "KeyError", None, None)


async def test_a_refusal_of_the_ledger_means_no_call():
    provider = scripted(GOOD)
    with pytest.raises(BudgetSpent):
        await classify(gateway_over(provider), ledger=MemoryLedger(max_calls=0))
    assert provider.calls == 0


async def test_a_lost_claim_stops_the_reask_too():
    class Lost(MemoryLedger):
        async def open(self, call: CallStart) -> int:
            if call.kind is CallKind.REPAIR:
                raise ClaimLost("somebody else")
            return await super().open(call)

    provider = scripted("no idea", GOOD)
    with pytest.raises(ClaimLost):
        await classify(gateway_over(provider), ledger=Lost())
    assert provider.calls == 1


class Hanging(Provider):
    """Says that it was asked, and never answers."""

    def __init__(self) -> None:
        super().__init__(ProviderConfig("openai", "fake"))
        self.asked = asyncio.Event()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(structured_output=True, streaming=False)

    async def complete(self, request: CompletionRequest) -> Completion:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError("nothing sets that event")

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[str, None]:
        yield (await self.complete(request)).text

    async def is_available(self) -> bool:
        return True

    async def aclose(self) -> None:
        self.asked.clear()


async def test_no_answer_within_the_deadline_is_a_timeout_of_unknown_cost():
    ledger = MemoryLedger()
    with pytest.raises(Timeout, match=r"within 0\.01 s"):
        await classify(gateway_over(Hanging()), ledger=ledger, timeout_s=0.01)
    end = ends(ledger)[0]
    assert (end.outcome, end.error, end.cost_usd) == (CallOutcome.FAILED, "timeout", None)


async def test_a_cancelled_call_is_closed_as_abandoned():
    provider, ledger = Hanging(), MemoryLedger()
    task = asyncio.create_task(classify(gateway_over(provider), ledger=ledger))
    await provider.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    end = ends(ledger)[0]
    assert (end.outcome, end.error, end.estimated) == (CallOutcome.ABANDONED, "CancelledError", True)
    assert end.usage is not None
    assert end.usage.input_tokens > 0
    assert end.cost_usd == end.usage.input_tokens * Decimal("0.75") / 10**6, "the question at its price, no answer"


class SlowLedger(MemoryLedger):
    """Stops in `open` and `close` until it is let on, as a database under load does."""

    def __init__(self) -> None:
        super().__init__()
        self.opening, self.may_open = asyncio.Event(), asyncio.Event()
        self.closing, self.may_close = asyncio.Event(), asyncio.Event()

    async def open(self, call: CallStart) -> int:
        self.opening.set()
        await self.may_open.wait()
        return await super().open(call)

    async def close(self, call_no: int, end: CallEnd) -> None:
        self.closing.set()
        await self.may_close.wait()
        await super().close(call_no, end)


async def test_a_cancellation_while_opening_closes_the_call_as_not_called():
    provider, ledger = scripted(GOOD), SlowLedger()
    task = asyncio.create_task(classify(gateway_over(provider), ledger=ledger))
    await ledger.opening.wait()
    task.cancel()
    ledger.may_open.set()
    ledger.may_close.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [end.outcome for end in ends(ledger)] == [CallOutcome.NOT_CALLED]
    assert provider.calls == 0


async def test_a_second_cancellation_does_not_break_the_closing_off():
    provider, ledger = Hanging(), SlowLedger()
    ledger.may_open.set()
    task = asyncio.create_task(classify(gateway_over(provider), ledger=ledger))
    await provider.asked.wait()
    task.cancel()
    await ledger.closing.wait()
    task.cancel()
    ledger.may_close.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [end.outcome for end in ends(ledger)] == [CallOutcome.ABANDONED]


async def test_an_answer_is_in_the_ledger_even_if_its_taker_is_cancelled_meanwhile():
    ledger = SlowLedger()
    ledger.may_open.set()
    task = asyncio.create_task(classify(gateway_over(scripted(GOOD)), ledger=ledger))
    await ledger.closing.wait()
    task.cancel()
    ledger.may_close.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(end.outcome, end.cost_usd) for end in ends(ledger)] == [(CallOutcome.SUCCEEDED, COST)]


async def test_a_ledger_refuses_to_close_a_call_twice():
    ledger = MemoryLedger()
    number = await ledger.open(CallStart(MINI, "default", CallKind.ANSWER, 1))
    await ledger.close(number, CallEnd(CallOutcome.SUCCEEDED, 0.0))
    with pytest.raises(ValueError, match="closed already"):
        await ledger.close(number, CallEnd(CallOutcome.FAILED, 0.0))


# -- what the caller did wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wishes", "error", "message"),
    [
        ({"analysis": "astrology"}, UnknownAnalysis, "astrology"),
        ({"content": ""}, RequestError, "empty"),
        ({"content": " \n"}, RequestError, "empty"),
        ({"content": "x" * 100_001}, RequestError, "100001 bytes, at most 100000"),
        ({"content": "\ud800"}, RequestError, "Unicode"),
        ({"context": {}}, PromptError, "labels"),
        ({"context": LABELS | {"mood": 1}}, PromptError, "mood"),
        ({"model": ModelRef("openai", "gpt-1")}, RequestError, "gpt-1"),
        ({"model": ModelRef("nobody", "x")}, RequestError, "nobody"),
        ({"model": ModelRef("local", "smollm2-135m")}, ConfigurationError, "'local' is not configured"),
        ({"prompt_version": "v99"}, PromptError, "v99"),
        ({"max_tokens": 0}, RequestError, "max_tokens"),
        ({"timeout_s": 0.0}, RequestError, "timeout_s"),
        ({"timeout_s": -1.0}, RequestError, "timeout_s"),
    ],
)
async def test_what_cannot_be_asked_is_refused_before_anything_is_opened(wishes: dict[str, Any], error, message):
    usual: dict[str, Any] = {"analysis": "text_classification", "content": "x", "context": LABELS, "model": MINI}
    provider, ledger = scripted(GOOD), MemoryLedger()
    with pytest.raises(error, match=message):
        await gateway_over(provider).analyze(**(usual | wishes), ledger=ledger)
    assert (provider.calls, ledger.calls) == (0, [])


async def test_no_configured_hop_is_said_with_the_providers_that_would_do():
    gateway = gateway_over(scripted(GOOD), listed=catalog({}))
    with pytest.raises(ConfigurationError, match="claude, openai, gemini, ollama, local, fake"):
        await gateway.analyze("skill_extraction", "x = 1")


# -- complete --------------------------------------------------------------------------------------


async def test_complete_asks_as_told_and_writes_it_down():
    provider, ledger = scripted("free text"), MemoryLedger()
    request = CompletionRequest("gpt-5.4-mini", (Message("user", "hello"),), max_tokens=10)
    completion = await gateway_over(provider).complete("openai", request, ledger=ledger)
    assert completion.text == "free text"
    assert list(provider.requests) == [request]
    assert (ledger.calls[0].start.kind, ends(ledger)[0].cost_usd) == (CallKind.ANSWER, COST)


async def test_complete_refuses_what_the_catalog_does_not_have():
    request = CompletionRequest("gpt-1", (Message("user", "hello"),), max_tokens=10)
    with pytest.raises(RequestError):
        await gateway_over(scripted("x")).complete("openai", request)


# -- what is logged --------------------------------------------------------------------------------


def extras(records: Iterable[logging.LogRecord], message: str) -> list[dict[str, Any]]:
    return [vars(record) for record in records if record.getMessage() == message]


async def test_the_seeds_line_is_logged_without_content(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "gateway")
    await classify(gateway_over(scripted(GOOD)), content="secret text")
    (line,) = extras(caplog.records, "LLM analysis completed")
    assert (line["provider"], line["analysis_type"], line["latency_ms"], line["cache_hit"]) == (
        "openai",
        "text_classification",
        0,
        False,
    )
    assert "tokens_used" not in line
    assert "secret text" not in str([vars(record) for record in caplog.records])


async def test_switches_add_tokens_and_a_trace(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "gateway")
    options = GatewayOptions(trace_requests=True, log_token_usage=True)
    await classify(gateway_over(scripted("no idea", GOOD), options=options))
    (line,) = extras(caplog.records, "LLM analysis completed")
    assert (line["tokens_used"], line["cost_usd"]) == (2_200, 2 * COST)
    assert [line["kind"] for line in extras(caplog.records, "LLM call")] == ["answer", "repair"]
    assert extras(caplog.records, "LLM call answered")[0]["provider_request_id"] == "req-1"


async def test_a_failed_call_is_traced_with_its_error(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "gateway")
    with pytest.raises(Throttled):
        await classify(gateway_over(scripted(Throttled("busy")), options=GatewayOptions(trace_requests=True)))
    assert [line["error"] for line in extras(caplog.records, "LLM call failed")] == ["throttled"]


# -- providers and composition ---------------------------------------------------------------------


async def test_providers_are_made_once_at_first_use_and_all_closed():
    made: list[str] = []

    def create(config: ProviderConfig) -> Provider:
        made.append(config.name)
        return FakeProvider(config)

    providers = ProviderSet({name: [ProviderConfig(name, "fake")] for name in "abc"}, create)
    [first] = providers.get("a")
    assert providers.get("a") == (first,)
    [second] = providers.get("b")
    assert made == ["a", "b"]
    await providers.aclose()
    assert not await first.is_available()
    assert not await second.is_available()


async def test_a_provider_that_does_not_close_keeps_no_other_open():
    class Stuck(FakeProvider):
        async def aclose(self) -> None:
            raise RuntimeError("stuck")

    kinds = {"bad": Stuck, "good": FakeProvider}
    providers = ProviderSet({name: [ProviderConfig(name, "fake")] for name in kinds}, lambda c: kinds[c.name](c))
    [good] = providers.get("good")
    providers.get("bad")
    with pytest.raises(ExceptionGroup, match="did not close"):
        await providers.aclose()
    assert not await good.is_available()


@pytest.mark.parametrize(
    ("analysis", "context"), [("skill_extraction", None), ("code_quality", None), ("text_classification", LABELS)]
)
async def test_a_composed_gateway_answers_every_analysis_with_the_fake_provider(analysis, context):
    env = {"ASSAYLINE_FAKE": "1"}
    gateway = build_gateway(Settings.from_env(env), load_catalog(None, env), env)
    result = await gateway.analyze(analysis, "def f(): ...", context=context)
    assert (result.provider, result.calls, result.cost_usd) == ("fake", 1, 0)
    assert set(result.data) == set(
        REGISTRY.get(analysis).analysis.shape_for(Ask("x", context or {})).model.model_fields
    )
    await gateway.aclose()


def test_composition_refuses_a_catalog_entry_for_no_analysis():
    only_skills = replace(REGISTRY, entries={"skill_extraction": REGISTRY.get("skill_extraction")})
    with pytest.raises(CatalogError, match=r"catalog\.yaml:[0-9]+: analyses\.text_classification"):
        build_gateway(Settings(), catalog(), ENV, only_skills)


def test_an_adapter_is_told_what_its_entry_and_the_environment_say(tmp_path):
    key = tmp_path / "key"
    key.write_text("from-a-file\n")
    env = {"OPENAI_API_KEY_FILE": str(key), "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    config = provider_config("openai", catalog(env).providers["openai"], env)
    assert config == ProviderConfig(
        "openai",
        "openai_compatible",
        base_url="http://127.0.0.1:9/v1",
        api_key="from-a-file",
        timeout_s=120,
        options={},
        account="default",
    )
