"""Answers of earlier claims through the gateway: what is found is not asked again, and nothing wrong comes of it."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from callworld import Sleep, Told
from dictline import DictLine

from gateway.analyses.registry import AnalysisRegistry, load_analyses
from gateway.cache.answers import AnswerCache
from gateway.cache.memory import MemoryLayer
from gateway.calls.admission import Admission
from gateway.calls.answered import Answered
from gateway.catalog import load_catalog
from gateway.errors import BreakerOpen, ContentRefused, InvalidOutput, OutputTruncated, RepairDeferred, Throttled
from gateway.gateway import Gateway
from gateway.journal.entry import MAX_ENTRY_BYTES, Kept, encoded
from gateway.journal.journal import COUNTS, PREFIX, ClaimJournal, Journal
from gateway.ledger import CallKind, MemoryLedger
from gateway.messages import AnalysisResult, Completion, FinishReason, ModelRef, Usage
from gateway.provider_set import ProviderSet
from gateway.providers.base import ProviderConfig
from gateway.providers.fake.provider import Answer, FakeProvider

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.catalog_entries import Lane
    from gateway.limits.group import LimitGroup
    from gateway.limits.rates import Need
    from gateway.limits.reservation import Reservation

ENV = {"OPENAI_API_KEY": "k"}
MINI, LUNA = ModelRef("openai", "gpt-5.4-mini"), ModelRef("openai", "gpt-6-luna")
GOOD = {"evidence": "it crashes", "label": "bug", "confidence_percent": 90}
OTHER = GOOD | {"label": "praise"}
LABELS = {"labels": ["bug", "praise"]}
USAGE = Usage(1_000, 100)
REGISTRY = load_analyses([])
JOB = "a-job"
KEY = PREFIX + JOB


def said(text: str | dict[str, Any], reason: FinishReason = FinishReason.STOP) -> Completion:
    text = text if isinstance(text, str) else json.dumps(text)
    return Completion(text, reason, USAGE, "gpt-5.4-mini-served", "req-1")


@dataclass
class ClaimLedger(MemoryLedger):
    """One claim's ledger, with a journal."""

    own: ClaimJournal
    found: list[Kept] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    @property
    def journal(self) -> ClaimJournal:  # type: ignore[override]
        return self.own

    async def recovered(self, found: Sequence[Kept]) -> None:
        self.found += found


class World:
    """A job whose claims are made by process after process, over one Redis."""

    def __init__(
        self,
        *answers: Answer,
        registry: AnalysisRegistry = REGISTRY,
        cache: AnswerCache | None = None,
        admission: Admission | None = None,
    ) -> None:
        self.line = DictLine()
        self.provider = FakeProvider(ProviderConfig("openai", "fake"), script=answers)
        providers = ProviderSet({"openai": [self.provider.config]}, lambda _: self.provider)
        self.gateway = Gateway(load_catalog(None, ENV), registry, providers, cache=cache, admission=admission)
        self.claims: list[ClaimLedger] = []

    def claim(self) -> ClaimLedger:
        journal = Journal(self.line, pause_s=0).of(JOB, len(self.claims) + 1)  # type: ignore[arg-type]
        self.claims.append(ClaimLedger(journal))
        return self.claims[-1]

    async def classify(self, content: str = "it crashes", **wishes: Any) -> AnalysisResult:
        given = {"context": LABELS, "model": MINI, "ledger": self.claim()} | wishes
        return await self.gateway.analyze("text_classification", content, **given)


def kinds(ledger: MemoryLedger) -> list[CallKind]:
    return [call.start.kind for call in ledger.calls]


async def test_an_answer_that_was_not_stored_is_found_and_not_bought_again() -> None:
    world = World(said(GOOD), said(OTHER))
    first = await world.classify()
    second = await world.classify()
    assert world.provider.calls == 1
    assert replace(second, latency_s=first.latency_s) == first
    assert (second.usage, second.cost_usd, second.calls, second.cached) == (USAGE, first.cost_usd, 1, False)
    assert world.claims[1].calls == []
    [kept] = world.claims[1].found
    assert (kept.claim_no, kept.call_no) == (1, 1)
    assert kept.answered.completion == replace(said(GOOD), told=None)


async def test_a_claim_that_dies_too_leaves_it_to_the_next() -> None:
    world = World(said(GOOD))
    for _ in range(3):
        assert (await world.classify()).data == GOOD
    assert world.provider.calls == 1
    assert [kept.claim_no for kept in world.claims[2].found] == [1]


async def test_the_first_claim_does_not_look() -> None:
    world = World(said(GOOD))
    await world.classify()
    assert world.line.said == ["SET"]


async def test_what_it_says_is_read_by_the_same_rules_as_a_fresh_answer() -> None:
    world = World(said("```json\n" + json.dumps(GOOD) + "\n```"))
    first, second = await world.classify(), await world.classify()
    assert (first.repaired, second.repaired, second.data) == (True, True, GOOD)


async def test_killed_in_mid_repair_only_the_repair_is_asked_for() -> None:
    world = World(said("no idea"), Throttled("the process dies here"), said(GOOD))
    with pytest.raises(Throttled):
        await world.classify()
    result = await world.classify()
    assert (result.data, result.repaired, result.calls, world.provider.calls) == (GOOD, True, 2, 3)
    assert kinds(world.claims[1]) == [CallKind.REPAIR]
    assert result.usage == Usage(2_000, 200)
    assert "no idea" in world.provider.requests[2].messages[-2].content


@dataclass(slots=True)
class Shuts(Told):
    """Lets the first call in, and after `refusals` refusals the others."""

    refusals: int = 2

    async def reserve(
        self, group: LimitGroup, need: Need, lane: Lane, *, may_wait: bool = True, retry: bool = False
    ) -> Reservation:
        if self.asked:
            self.says = [BreakerOpen("lately failed")] if len(self.asked) <= self.refusals else []
        return await super(Shuts, self).reserve(group, need, lane, may_wait=may_wait, retry=retry)


async def test_a_repair_that_found_no_room_is_all_that_is_asked_for_later() -> None:
    """And while there is still none, the job waits like one that has made no call: this time it has not."""
    admission = Admission(Shuts(), sleep=Sleep())  # type: ignore[arg-type]
    world = World(said("no idea"), said(GOOD), admission=admission)
    with pytest.raises(RepairDeferred) as deferred:
        await world.classify()
    assert (deferred.value.raw_text, deferred.value.usage) == ("no idea", USAGE)

    with pytest.raises(BreakerOpen):
        await world.classify()
    assert world.provider.calls == 1

    result = await world.classify()
    assert (result.data, result.repaired, world.provider.calls) == (GOOD, True, 2)


async def test_a_repair_that_found_no_room_is_not_put_off_for_an_answer_that_is_kept_nowhere() -> None:
    """Its question would be paid for again, as often as the job has attempts."""
    admission = Admission(Shuts(), sleep=Sleep())  # type: ignore[arg-type]
    world = World(said("no idea"), said(GOOD), admission=admission)
    world.line.away = True
    with pytest.raises(InvalidOutput):
        await world.classify()


async def test_an_answer_is_sent_before_its_repair_is_put_off() -> None:
    """However short a time ago it came."""
    admission = Admission(Shuts(), sleep=Sleep())  # type: ignore[arg-type]
    world = World(said("no idea"), admission=admission)
    ledger = ClaimLedger(Journal(world.line, pause_s=3_600.0).of(JOB, 1))  # type: ignore[arg-type]
    with pytest.raises(RepairDeferred):
        await world.classify(ledger=ledger)
    assert list(world.line.kept) == [KEY]


async def test_what_is_let_go_is_sent_no_more_and_stays_where_it_lies() -> None:
    world = World(said(GOOD), said(GOOD))
    await world.classify()
    world.claims[0].own.close()
    assert list(world.line.kept) == [KEY]
    world.line.kept.clear()
    ledger = ClaimLedger(Journal(world.line, pause_s=0.001).of(JOB, 1))  # type: ignore[arg-type]
    await world.classify(ledger=ledger)
    ledger.own.close()
    assert ledger.own._pausing is None
    assert world.line.kept == {}


async def test_killed_after_the_repair_nothing_is_asked_for() -> None:
    world = World(said("no idea"), said(GOOD))
    first = await world.classify()
    second = await world.classify()
    assert replace(second, latency_s=first.latency_s) == first
    assert world.provider.calls == 2
    assert [(kept.claim_no, kept.call_no) for kept in world.claims[1].found] == [(1, 1), (1, 2)]


async def test_a_repair_is_kept_behind_the_answer_of_the_claim_before() -> None:
    world = World(said("no idea"), Throttled("the process dies here"), said(GOOD))
    with pytest.raises(Throttled):
        await world.classify()
    await world.classify()
    third = await world.classify()
    assert (third.data, world.provider.calls) == (GOOD, 3)
    assert [(kept.claim_no, kept.call_no) for kept in world.claims[2].found] == [(1, 1), (2, 1)]


async def test_a_repair_that_is_none_either_ends_as_it_did() -> None:
    world = World(said("no idea"), said("none"))
    for _ in range(2):
        with pytest.raises(InvalidOutput) as caught:
            await world.classify()
        assert (caught.value.usage, caught.value.raw_text) == (Usage(2_000, 200), "none")
    assert world.provider.calls == 2


@pytest.mark.parametrize(
    ("reason", "error"), [(FinishReason.LENGTH, OutputTruncated), (FinishReason.REFUSAL, ContentRefused)]
)
async def test_a_cut_or_refused_answer_is_one_when_it_is_found_too(
    reason: FinishReason, error: type[Exception]
) -> None:
    """An adapter that says so in its answer, rather than by raising, is believed at either time."""
    world = World(said(GOOD))
    await world.classify()
    question = world.claims[0].own._question
    assert question is not None
    world.line.kept[KEY] = encoded(JOB, question, [Kept(1, 1, Answered(said(GOOD, reason), None, 1.0))])
    with pytest.raises(error):
        await world.classify()
    assert world.provider.calls == 1


OTHERWISE: dict[str, dict[str, Any]] = {
    "another model": {"model": LUNA},
    "another content": {"content": "it crashes."},
    "another context": {"context": {"labels": ["bug", "praise", "other"]}},
    "other bounds": {"max_tokens": 200},
    "another temperature": {"temperature": 0.9},
    "another tenant": {"tenant": "another"},
}


@pytest.mark.parametrize("otherwise", OTHERWISE.values(), ids=list(OTHERWISE))
async def test_a_question_that_has_changed_is_asked_anew(
    otherwise: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The job fell back to another hop, say, or its catalog entry or prompt is another since."""
    world = World(said(GOOD), said(OTHER))
    await world.classify()
    assert (await world.classify(**otherwise)).data == OTHER
    assert world.provider.calls == 2
    assert world.claims[1].found == []
    [line] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "answers another question" in line.getMessage()
    assert (JOB in line.getMessage(), "crashes" in line.getMessage()) == (True, False)
    assert world.line.counts == {"unusable": 1}


async def test_a_prompt_whose_text_has_changed_makes_another_question() -> None:
    world = World(said(GOOD), said(OTHER))
    await world.classify()
    entry = REGISTRY.get("text_classification")
    prompt = replace(entry.prompts.version(), fingerprint="another")
    changed = replace(entry, prompts=replace(entry.prompts, versions={prompt.version: prompt}))
    world.gateway.analyses = AnalysisRegistry({"text_classification": changed})
    assert (await world.classify()).data == OTHER


@pytest.mark.parametrize("raw", [b"", b"J9 later", b"J1 not a digest", b"\xff\x00"], ids=repr)
async def test_an_entry_that_is_none_costs_one_log_line_and_a_call(
    raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(said(GOOD), said(OTHER))
    await world.classify()
    world.line.kept[KEY] = raw
    assert (await world.classify()).data == OTHER
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    assert (await world.classify()).data == OTHER, "the new answer took its place"
    assert (world.provider.calls, world.line.counts) == (2, {"unusable": 1, "found": 1})


async def test_an_entry_that_claims_to_be_of_the_claim_that_reads_it_is_none() -> None:
    world = World(said(GOOD), said(OTHER), said(GOOD))
    await world.classify()
    await world.classify(max_tokens=200)
    world.claims.pop()
    assert (await world.classify(max_tokens=200)).data == GOOD
    assert world.provider.calls == 3


async def test_redis_flushed_or_away_means_that_it_is_bought_again() -> None:
    world = World(said(GOOD), said(OTHER), said(GOOD))
    await world.classify()
    world.line.kept.clear()
    assert (await world.classify()).data == OTHER
    world.line.away = True
    assert (await world.classify()).data == GOOD
    assert world.claims[2].own.stored() == ()
    world.claims[2].own.forget()


async def test_without_a_journal_nothing_is_kept() -> None:
    world = World(said(GOOD), said(OTHER))
    for data in (GOOD, OTHER):
        assert (await world.classify(ledger=MemoryLedger())).data == data
    assert world.line.said == []


async def test_what_is_stored_is_removed() -> None:
    world = World(said(GOOD))
    assert world.claim().own.stored() == ()
    await world.classify()
    assert world.claims[1].own.stored() == (("DEL", KEY),)
    world.claims[1].own.forget()
    assert world.line.kept == {}


async def test_a_later_claim_removes_what_it_has_found() -> None:
    world = World(said(GOOD))
    await world.classify()
    await world.classify()
    assert world.claims[1].own.stored() == (("DEL", KEY),)


async def test_an_answer_too_large_is_not_kept_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    world = World(said("x" * MAX_ENTRY_BYTES), said("short"))
    for text in ("x" * MAX_ENTRY_BYTES, "short"):
        result = await world.gateway.analyze("completion", "go", model=MINI, output_format="text", ledger=world.claim())
        assert result.data == {"text": text}
    assert world.line.counts == {"too_large": 1}
    assert "too large for the journal" in caplog.text


async def test_a_repair_too_large_leaves_the_answer_before_it() -> None:
    world = World(said("no idea"), said("x" * MAX_ENTRY_BYTES), said(GOOD))
    with pytest.raises(InvalidOutput):
        await world.classify()
    assert (await world.classify()).data == GOOD
    assert kinds(world.claims[1]) == [CallKind.REPAIR]


async def test_a_call_of_ones_own_making_is_not_kept() -> None:
    """`complete` has no question that a later claim could ask again."""
    world = World(said(GOOD))
    await world.classify()
    request = world.provider.requests[0]
    world = World(said(GOOD))
    await world.gateway.complete("openai", request, ledger=world.claim())
    assert world.line.said == []


async def test_with_an_answer_cache_the_jobs_own_answer_comes_first() -> None:
    """The cache has another job's by now: this one's was paid for, and its ledger is to say so."""
    cache = AnswerCache(MemoryLayer())
    world = World(said(GOOD), said(OTHER), cache=cache)
    first = await world.classify(use_cache=False)
    other = MemoryLedger()
    assert (await world.classify(ledger=other)).data == OTHER
    found = await world.classify()
    assert (found.data, found.cached, found.cost_usd) == (GOOD, False, first.cost_usd)
    assert world.provider.calls == 2


def test_no_job_is_named_as_the_counts_are() -> None:
    assert COUNTS.removeprefix(PREFIX) == "counts"
