"""The dispatcher process: `tasks.dispatch` on a loop, publishing through Celery."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from gateway.analyses.registry import load_analyses
from gateway.catalog import Catalog
from gateway.journal.journal import Journal
from gateway.limits.groups import LimitGroups
from gateway.limits.limiter import Limiter
from gateway.redis_line import RedisLine
from gateway.settings import Settings
from tasks.announce import Announcer
from tasks.dispatch import Dispatcher
from tasks.dispatch_policy import Policy
from tasks.engine import create_engine
from tasks.headroom import LimitHeadroom
from tasks.listen import ENDED, listen
from tasks.mirror import mirror
from tasks.patience import patiently
from workers.app import app
from workers.build import configured, mirrored, required
from workers.celery_settings import SYSTEM_QUEUE
from workers.health.dispatcher import DispatcherHealth
from workers.health.neighbours import Broker, postgres_answers
from workers.health.server import Address, answering
from workers.health.thresholds import Thresholds
from workers.leaving import GONE_WITHIN_S, gone_within
from workers.publisher import CeleryPublisher


def run_dispatcher(
    settings: Settings,
    catalog: Catalog,
    policy: Policy | None = None,
    *,
    health: Address | None = None,
    thresholds: Thresholds | None = None,
) -> None:
    """Dispatch until SIGTERM or Ctrl-C. Then it is gone in seconds, though Postgres or the broker hang.

    Nothing of it is worth more time: what it has committed and not published is published again.

    Args:
        settings: names the stores.
        catalog: whose jobs are released.
        policy: figures.
        health: where to tell its health; None: nowhere.
        thresholds: how it is judged.

    Raises:
        ConfigurationError: a store is not named, or the health cannot be told where it should be.
    """
    policy = policy or Policy()
    database_url = required(settings.database_url, "ASSAYLINE_DATABASE_URL")
    watched = DispatcherHealth(
        policy.periods_s(configured(catalog)),
        Broker(app, [SYSTEM_QUEUE]),
        lambda: postgres_answers(database_url),
        thresholds=thresholds or Thresholds(),
    )
    with (
        gone_within(GONE_WITHIN_S) as told_to_stop,
        answering(health, watched),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_dispatch(settings, catalog, policy, watched, told_to_stop))


async def _dispatch(
    settings: Settings, catalog: Catalog, policy: Policy, health: DispatcherHealth, told_to_stop: Callable[[], None]
) -> None:
    stop = asyncio.Event()

    def end() -> None:
        told_to_stop()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    engine = create_engine(required(settings.database_url, "ASSAYLINE_DATABASE_URL"), pool_size=4, durable=False)
    publisher = CeleryPublisher(app)
    line = RedisLine.from_url(required(settings.redis_url, "ASSAYLINE_REDIS_URL"))
    headroom = LimitHeadroom(Limiter(line, "dispatcher"), LimitGroups(catalog))
    telling = asyncio.create_task(listen(engine, ENDED, Announcer(line).pass_on))
    try:
        entries = mirrored(catalog, load_analyses())
        if not await _unless(stop, patiently(lambda: mirror(engine, *entries))):
            return
        dispatcher = Dispatcher(
            engine,
            publisher,
            configured(catalog),
            policy,
            headroom=headroom,
            weights=catalog.weights(),
            announcer=Announcer(line),
            answers=Journal(line) if settings.journal_enabled else None,
            passed=health.passed,
        )
        health.loop.start()
        await dispatcher.run(stop)
    finally:
        telling.cancel()
        await asyncio.wait([telling])
        await line.aclose()
        await asyncio.to_thread(publisher.close)
        await engine.dispose()


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do what may have to wait for Postgres; whether it was done before one was told to stop."""
    doing, told = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({doing, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not doing.done():
        doing.cancel()
        return False
    doing.result()
    return True
