"""The composition root of the processes: settings and catalog in, a whole worker or dispatcher out.

The only place where gateway, store, Redis and Celery are put together.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from uuid import uuid4

import beat_schedule
from gateway.analyses.registry import AnalysisRegistry
from gateway.breaker.account import Account
from gateway.breaker.breakers import Breakers
from gateway.build import build_gateway
from gateway.calls.admission import Admission
from gateway.catalog import Catalog, load_catalog
from gateway.catalog_entries import Lane
from gateway.errors import ConfigurationError, DeadlinePassed, RequestError
from gateway.gateway import Gateway
from gateway.journal.journal import Journal
from gateway.ledger import CallLedger
from gateway.limits.groups import LimitGroups
from gateway.limits.limiter import Limiter
from gateway.messages import AnalysisResult, ModelRef
from gateway.redis_line import RedisLine
from gateway.settings import Settings
from tasks.announce import Announcer
from tasks.clock.clock import Clock
from tasks.clock.runs import Runs
from tasks.clock.schedule import in_force
from tasks.engine import create_engine
from tasks.job import Claim
from tasks.listen import listen, worker_channel
from tasks.mirror import MirroredAnalysis
from tasks.producer import AsyncClient
from tasks.run import Runner
from tasks.spending import LedgerSpending
from tasks.store import Incarnation, JobStore
from tasks.upkeep import upkeep
from workers.runtime import Services

MAX_ATTEMPTS = 4
"""Provider calls a job may make where its caller does not say: DESIGN's budget over all providers."""
LEASE_SLACK_S = 60.0
"""Beyond the analysis's own deadline, which holds for both its calls: time to write while Postgres is away."""


class GatewayAnalyst:
    """Implements `tasks.run.Analyst` over gateway, catalog and what the process knows of the accounts' breakers."""

    def __init__(self, gateway: Gateway, catalog: Catalog, breakers: Breakers) -> None:
        self._gateway = gateway
        self._catalog = catalog
        self._breakers = breakers

    def account(self, provider: str) -> str:
        """See `Analyst.account`."""
        return self._catalog.account(provider)

    def lease_s(self, provider: str) -> float:
        """See `Analyst.lease_s`."""
        return self._catalog.providers[provider].timeout_s + LEASE_SLACK_S

    def window_tokens(self, model: ModelRef) -> int:
        """See `Analyst.window_tokens`; 0 for a model the catalog has lost since the job was enqueued."""
        try:
            return self._catalog.model(model).context_window
        except RequestError:
            return 0

    def moves_on_refusal(self, analysis: str) -> bool:
        """See `Analyst.moves_on_refusal`."""
        return self._gateway.analyses.get(analysis).analysis.moves_on_refusal

    def spare_account(self, provider: str, account: str) -> bool:
        """See `Analyst.spare_account`."""
        return any(
            self._breakers.may_let_in(Account(provider, name))
            for name in self._catalog.accounts(provider)
            if name != account
        )

    def is_out(self, provider: str) -> bool:
        """See `Analyst.is_out`."""
        accounts = (Account(provider, name) for name in self._catalog.accounts(provider))
        return not any(self._breakers.standing(account).closed for account in accounts)

    def _timeout_s(self, claim: Claim) -> float:
        """Seconds for the whole attempt: the provider's bound, which the lease is made for, or less for a deadline."""
        usual_s = self._catalog.providers[claim.model.provider].timeout_s
        return usual_s if claim.deadline_in_s is None else min(usual_s, claim.deadline_in_s)

    async def analyze(self, claim: Claim, ledger: CallLedger) -> AnalysisResult:
        """See `Analyst.analyze`."""
        if claim.deadline_in_s is not None and claim.deadline_in_s <= 0:
            raise DeadlinePassed(f"the deadline was over {-claim.deadline_in_s:.1f} s before the claim")
        return await self._gateway.analyze(
            claim.analysis,
            claim.content,
            context=claim.context,
            messages=claim.messages,
            schema=claim.schema,
            output_format=claim.output_format,
            tenant=claim.tenant,
            model=claim.model,
            prompt_version=claim.prompt_version,
            max_tokens=claim.max_tokens,
            temperature=claim.temperature,
            timeout_s=self._timeout_s(claim),
            deadline_s=claim.deadline_in_s,
            lane=Lane(claim.lane),
            retry=claim.is_retry,
            use_cache=claim.use_cache,
            ledger=ledger,
        )


def mirrored(catalog: Catalog, registry: AnalysisRegistry) -> tuple[list[MirroredAnalysis], list[str]]:
    """What enqueueing must know of the catalog: analyses with their configured hops, and the configured models."""
    analyses = [
        MirroredAnalysis(
            name=name,
            chain=tuple(str(hop) for hop in catalog.chain(name)),
            lane=catalog.route(name).lane.value,
            max_attempts=MAX_ATTEMPTS,
        )
        for name in registry.names()
    ]
    return analyses, [str(ref) for ref in catalog.models()]


def configured(catalog: Catalog) -> tuple[str, ...]:
    """Names of the configured providers."""
    return tuple(dict.fromkeys(queue.partition(".")[0] for queue in catalog.queues()))


def required(value: str | None, variable: str) -> str:
    """Return a setting that a process cannot do without.

    Raises:
        ConfigurationError: it is not set; the message names its variable.
    """
    if not value:
        raise ConfigurationError(f"{variable} is not set; `assayline up` sets it for the processes it starts")
    return value


def load(env: Mapping[str, str] | None = None) -> tuple[Settings, Catalog]:
    """Read settings and catalog of an environment (None: the process's own)."""
    env = os.environ if env is None else env
    settings = Settings.from_env(env)
    return settings, load_catalog(settings.catalog_path, env)


async def build_worker(
    settings: Settings, catalog: Catalog, env: Mapping[str, str], *, providers: tuple[str, ...], slots: int
) -> Services:
    """Compose a worker's services on the running loop.

    Raises:
        ConfigurationError: a store is not named, or the adapter of one of `providers` cannot be made.
    """
    database_url = required(settings.database_url, "ASSAYLINE_DATABASE_URL")
    engine = create_engine(database_url, replan=False)
    beats = create_engine(database_url, pool_size=1, replan=False)
    books = create_engine(database_url, pool_size=1)
    line = RedisLine.from_url(required(settings.redis_url, "ASSAYLINE_REDIS_URL"))
    incarnation = Incarnation(uuid4(), socket.gethostname(), os.getpid(), providers, slots)
    limiter = Limiter(line, str(incarnation.id), spending=LedgerSpending(books, LimitGroups(catalog)))
    gateway = build_gateway(settings, catalog, env, line=line, admission=Admission(limiter, slots=slots))
    for name in providers:
        # An entry whose adapter cannot be made stops the process here: each of its jobs would be a dead letter.
        gateway.providers.get(name)
    store = JobStore(engine, beats)
    runner = Runner(
        store=store,
        analyst=GatewayAnalyst(gateway, catalog, limiter.breakers),
        announcer=Announcer(line),
        incarnation=incarnation,
        journal=Journal(line) if settings.journal_enabled else None,
    )

    producer = AsyncClient(database_url)
    clock = Clock(in_force(beat_schedule.SCHEDULES, env), Runs(engine), producer)

    async def close() -> None:
        await producer.aclose()
        await gateway.aclose()
        limiter.close()
        await line.aclose()
        await store.aclose()
        await books.dispose()

    def hear(standing: Callable[[bool], None]) -> Coroutine[Any, Any, None]:
        return listen(engine, worker_channel(incarnation.id), runner.heard, standing=standing)

    ticks = {"upkeep": lambda: upkeep(engine), "schedules": clock.tick}
    return Services(runner=runner, ticks=ticks, close=close, hear=hear)
