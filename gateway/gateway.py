"""The gateway: one LLM analysis, done well.

`analyze` is the seeds' `LLMGateway.analyze`, in named steps:

    look the analysis up → choose the model → write the question → look for an answer: the job's own, in the
    journal; else a remembered one → ask → read the answer → once, if it is unusable: show the model what is wrong,
    and ask again

Limits are kept inside `gateway.calls.call`. It knows HTTP through its providers, Redis through
its answer cache and the ledger through its port. It must not know Celery, SQL or jobs: falling back
to the next model is the job's business.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gateway.analyses.base import Ask
from gateway.cache.key import answer_key
from gateway.calls.admission import LEAST_LEFT_S
from gateway.calls.call import Caller
from gateway.calls.hops import Hops
from gateway.calls.terms import Terms
from gateway.catalog_entries import Lane
from gateway.errors import (
    AnswerAwaited,
    BreakerOpen,
    BudgetSpent,
    DayBudgetSpent,
    ExceedsLimit,
    GatewayError,
    LimitReached,
)
from gateway.ledger import CallKind, CallLedger, MemoryLedger
from gateway.log_lines import GatewayOptions, log_result
from gateway.messages import AnalysisResult, Completion, CompletionRequest, JsonObject, Message, ModelRef
from gateway.providers.base import whole
from gateway.question import Question, Wishes, write_question
from gateway.response import Parsed, Unusable, reask_messages
from gateway.results import entry_of, fresh_result, invalid_output, remembered_result, repair_deferred, spared_call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gateway.analyses.registry import AnalysisRegistry
    from gateway.cache.answers import AnswerCache
    from gateway.cache.entry import Entry
    from gateway.calls.admission import Admission
    from gateway.calls.answered import Answered
    from gateway.catalog import Catalog
    from gateway.provider_set import ProviderSet

NOTED_WAIT_S = 0.1
"""A look into the cache takes a millisecond; only a wait longer than this shortens the call's own deadline."""


@dataclass(frozen=True, slots=True)
class _Asking:
    """One analysis under way: its question, where its calls are written down, and its times by the gateway's clock."""

    question: Question
    ledger: CallLedger
    lane: Lane
    retry: bool
    started: float
    ends_at: float


class Gateway:
    """Asks the catalog's models, one call at a time per analysis, any number of analyses at once."""

    def __init__(
        self,
        catalog: Catalog,
        analyses: AnalysisRegistry,
        providers: ProviderSet,
        *,
        admission: Admission | None = None,
        cache: AnswerCache | None = None,
        options: GatewayOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.analyses = analyses
        self.providers = providers
        self._hops = Hops(catalog, providers)
        self._cache = cache
        self._options = options or GatewayOptions()
        self._clock = clock
        self._caller = Caller(admission, clock=clock, trace_requests=self._options.trace_requests)

    async def analyze(
        self,
        analysis: str,
        content: str,
        *,
        context: Mapping[str, Any] | None = None,
        messages: Sequence[Message] = (),
        schema: JsonObject | None = None,
        output_format: str | None = None,
        tenant: str = "default",
        model: ModelRef | None = None,
        prompt_version: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout_s: float | None = None,
        deadline_s: float | None = None,
        lane: Lane = Lane.INTERACTIVE,
        retry: bool = False,
        ledger: CallLedger | None = None,
        use_cache: bool = True,
    ) -> AnalysisResult:
        """Run one analysis on one model and return its validated answer.

        Args:
            analysis: a registered name.
            content: the untrusted text to judge; for `completion` the question itself.
            context: the prompt's other variables, JSON values by name.
            messages: for `completion`: earlier turns.
            schema: for `completion`: a JSON schema that the answer satisfies.
            output_format: for `completion`: text, markdown, code or json.
            tenant: whose answer it is; nobody else's cache may hold it.
            model: where to ask; None: the first configured hop of the analysis's chain.
            prompt_version: None: the analysis's default.
            max_tokens: bound of one answer; None: the analysis's. The model's own bound holds anyway.
            temperature: None: the analysis's. Not sent to a model that takes none.
            timeout_s: deadline of the whole analysis, a re-ask and a wait for an equal question included; a wait for
                room in a limit is not. None: the provider's.
            deadline_s: seconds until the answer is of no use any more, whatever it waits for; None: always of use.
            lane: whether somebody waits for it; bulk leaves room in the limits for those.
            retry: whether its call repeats one that failed, and draws on the budget of all processes' retries.
            ledger: where the calls are written down; None: nowhere that lasts.
            use_cache: whether a remembered answer will do, and this one may be remembered.

        Raises:
            RequestError: the analysis, the model, the prompt version, the context or the content cannot be used.
            ConfigurationError: no model of the chain is configured.
            LedgerRefusal: the ledger forbids the call.
            LimitReached: there is no room for the call in the account's limits now, or too little time left for it;
                nothing was sent.
            BreakerOpen: calls of the model's provider lately failed; nothing was sent.
            RetriesSpent: it is a retry, and too many of the account's calls are; nothing was sent.
            DayBudgetSpent: its account may spend no more today; nothing was sent.
            ExceedsLimit: the call needs more than a limit can ever hold.
            AnswerAwaited: an equal question was being asked until the deadline, and had no answer.
            ProviderError: the provider did not answer, or cut or refused the answer.
            RepairDeferred: the answer was unusable, and there was no room or no time left to have it mended; it is in
                the ledger's journal.
            InvalidOutput: the answer stayed unusable; of this and the one before `raw_text` and the summed `usage` are
                kept.
        """
        started = self._clock()
        entry = self.analyses.get(analysis)
        hop = self._hops.first(analysis) if model is None else self._hops.of(model)
        wishes = Wishes(prompt_version, max_tokens, temperature, timeout_s)
        ask = Ask(content, context or {}, tuple(messages), schema, output_format)
        question = write_question(entry, ask, hop, wishes)
        ledger = ledger or MemoryLedger()
        use_cache = use_cache and self._ttl_s(question) > 0
        key = answer_key(question, ask, tenant) if use_cache or ledger.journal is not None else None
        asking = _Asking(
            question,
            ledger,
            lane,
            retry,
            started,
            started + (math.inf if deadline_s is None else deadline_s),
        )
        found = await self._found(key, ledger)
        if found:
            result = await self._finished(asking, found, key if use_cache else None)
        elif key is None or not use_cache:
            result, _ = await self._fresh(asking)
        else:
            result = await self._recalled(key, asking)
        log_result(result, self._options)
        return result

    async def complete(
        self, provider: str, request: CompletionRequest, *, ledger: CallLedger | None = None
    ) -> Completion:
        """Ask one question of the caller's own making: its messages, perhaps its own schema, nothing validated.

        Args:
            provider: the catalog's name of it; `request.model` is one of its models.
            request: sent as it is.
            ledger: where the call is written down; None: nowhere that lasts.

        Raises:
            RequestError: the catalog has no such provider or model.
            ConfigurationError: the provider is not configured.
            LedgerRefusal: the ledger forbids the call.
            ProviderError: the provider did not answer, or cut or refused the answer.
        """
        hop = self._hops.of(ModelRef(provider, request.model))
        answered = await self._caller.call(hop, request, ledger or MemoryLedger(), CallKind.ANSWER, Terms(like=hop.ref))
        return answered.completion

    async def aclose(self) -> None:
        """Close all connections."""
        await self.providers.aclose()

    def _ttl_s(self, question: Question) -> int:
        return 0 if self._cache is None else self._cache.ttl_s(question.analysis)

    async def _found(self, key: str | None, ledger: CallLedger) -> Sequence[Answered]:
        """Return what earlier claims of the job were answered to this question and had no time to store."""
        if ledger.journal is None:
            return ()
        found = await ledger.journal.open(key)
        if found:
            await ledger.recovered(found)
        return [one.answered for one in found]

    async def _finished(self, asking: _Asking, found: Sequence[Answered], key: str | None) -> AnalysisResult:
        """Go on from answers as if they had just come; where one lacks its repair, only that is asked for.

        `key`: what the answer is remembered by; None: it is not.
        """
        result, entry = await self._fresh(asking, found)
        if self._cache is not None and key is not None and entry is not None:
            self._cache.share(key, entry, ttl_s=self._ttl_s(asking.question))
        return result

    async def _recalled(self, key: str, asking: _Asking) -> AnalysisResult:
        """Return the remembered answer, waiting for it where an equal question is being asked; else a fresh one."""
        assert self._cache is not None
        question = asking.question
        result = await self._cache.recall(
            key,
            lambda entry: remembered_result(question, entry, self._clock() - asking.started),
            lambda: self._fresh(asking),
            ttl_s=self._ttl_s(question),
            wait_s=question.request.timeout_s,
        )
        if result.cached:
            await asking.ledger.spared(*spared_call(question, result))
        return result

    async def _fresh(self, asking: _Asking, found: Sequence[Answered] = ()) -> tuple[AnalysisResult, Entry | None]:
        """Ask for what is not `found`, in the time that is left; return the result, and what is remembered of it."""
        waited_s = self._clock() - asking.started
        if waited_s > NOTED_WAIT_S:
            asking = replace(asking, question=_in_what_is_left(asking.question, waited_s))
        parsed, answers = await self._ask(asking, found)
        result = fresh_result(asking.question, parsed, answers, self._clock() - asking.started)
        return result, entry_of(asking.question, parsed, answers)

    async def _ask(self, asking: _Asking, found: Sequence[Answered]) -> tuple[Parsed, Sequence[Answered]]:
        """Ask, and once again if the answer is unusable. `found`: answers that are there already, in this order."""
        for answered in found:
            whole(answered.completion)
        question = asking.question
        deadline = self._clock() + question.request.timeout_s
        first = found[0] if found else await self._first(asking)
        read = question.shape.read(first.completion.text)
        if isinstance(read, Parsed):
            return read, (first,)
        if len(found) > 1:
            second = found[1]
        else:
            left_s = min(deadline + first.waited_s, asking.ends_at) - self._clock()
            second = await self._reask(asking, first, read, left_s, unpaid=bool(found))
        read_again = question.shape.read(second.completion.text)
        if isinstance(read_again, Unusable):
            raise invalid_output(read_again, (first, second))
        return replace(read_again, repaired=True), (first, second)

    async def _first(self, asking: _Asking) -> Answered:
        question = asking.question
        terms = Terms(asking.lane, question.likeness, asking.ends_at - self._clock(), retry=asking.retry)
        return await self._caller.call(question.hop, question.request, asking.ledger, CallKind.ANSWER, terms)

    async def _reask(
        self, asking: _Asking, first: Answered, problem: Unusable, left_s: float, *, unpaid: bool
    ) -> Answered:
        """Show the model what is wrong with its answer, as a call of its own.

        `unpaid`: this analysis has made no call so far, for the answer was found.

        Raises:
            RepairDeferred: there is no time or no room left for it now, and the answer is in the journal. Where this
                analysis has made no call the error that says so is raised instead: the job may wait at no cost.
            InvalidOutput: there is no budget for it, its limit could never hold it, or the answer is not kept.
        """
        if left_s <= 0:
            raise self._unrepaired(asking, problem, first)
        question = asking.question
        messages = reask_messages(question.request.messages, first.completion.text, problem)
        request = replace(question.request, messages=messages, timeout_s=left_s)
        # What the first answer cost is lost without it: it waits for its turn.
        terms = Terms(asking.lane, question.likeness, left_s, patient=True)
        try:
            return await self._caller.call(question.hop, request, asking.ledger, CallKind.REPAIR, terms)
        except (BudgetSpent, ExceedsLimit) as error:
            raise invalid_output(problem, (first,)) from error
        except (LimitReached, BreakerOpen, DayBudgetSpent) as error:
            if unpaid:
                raise
            raise self._unrepaired(asking, problem, first) from error

    def _unrepaired(self, asking: _Asking, problem: Unusable, first: Answered) -> GatewayError:
        """To be repaired later where the answer is kept until then; without it the question would be paid for again."""
        journal = asking.ledger.journal
        kept = journal is not None and journal.holds()
        return repair_deferred(problem, first) if kept else invalid_output(problem, (first,))


def _in_what_is_left(question: Question, waited_s: float) -> Question:
    left_s = question.request.timeout_s - waited_s
    if left_s < LEAST_LEFT_S:
        raise AnswerAwaited(f"an equal question was being asked for {waited_s:.1f} s; there is no time left to ask it")
    return replace(question, request=replace(question.request, timeout_s=left_s))
