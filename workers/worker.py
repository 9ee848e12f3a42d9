"""A worker process: Celery's stock threads pool over our runtime."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery.platforms import SecurityWarning
from celery.signals import worker_shutting_down

from gateway.catalog import DEFAULTS, Catalog
from gateway.catalog_entries import Lane
from gateway.errors import ConfigurationError
from gateway.limits.groups import LimitGroups
from gateway.settings import Settings
from tasks.patience import LONGEST_S as LONGEST_WRITE_S
from workers.app import app
from workers.brokers.drivers import queue
from workers.brokers.intake import Intake
from workers.build import LEASE_SLACK_S, build_worker, configured, required
from workers.celery_settings import SYSTEM_QUEUE
from workers.departure import Departure
from workers.events import EventBatches
from workers.health.consumer import Consuming
from workers.health.neighbours import Broker, postgres_answers
from workers.health.pulse import Pulse
from workers.health.server import Address, answering
from workers.health.thresholds import Thresholds
from workers.health.worker import WorkerHealth
from workers.leaving import Leaving
from workers.runtime import Runtime, install_runtime

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What `assayline worker` was told.

    `slots` None: the catalog's figure for the provider. `departure`: how it ends. `health`: where to tell its health,
    None: nowhere; `thresholds`: how it is judged.
    """

    providers: tuple[str, ...] = ()
    slots: int | None = None
    events: bool = True
    departure: Departure = field(default_factory=Departure)
    health: Address | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)


def run_worker(settings: Settings, catalog: Catalog, options: WorkerOptions) -> int:
    """Serve the queues of some providers until SIGTERM or Ctrl-C; returns the exit code.

    Raises:
        ConfigurationError: a provider is unknown or not configured, or its health cannot be told where it should be.
    """
    providers = chosen(catalog, options.providers)
    slots = options.slots or max(catalog.providers[name].slots for name in providers)
    pulse = Pulse()
    runtime = Runtime(
        lambda: build_worker(settings, catalog, os.environ, providers=providers, slots=slots), pulse=pulse
    )
    leaving = Leaving(runtime, options.departure)
    try:
        with answering(options.health, _health(settings, catalog, pulse, providers, slots, options)):
            return _run(catalog, runtime, leaving, providers, slots, options)
    finally:
        leaving.done()


def _run(
    catalog: Catalog, runtime: Runtime, leaving: Leaving, providers: tuple[str, ...], slots: int, options: WorkerOptions
) -> int:
    runtime.start()
    install_runtime(runtime)

    def on_shutting_down(**_: Any) -> None:
        runtime.begin_stop(options.departure)
        leaving.begin()

    worker_shutting_down.connect(on_shutting_down, weak=False)
    try:
        return _consume(catalog, providers, slots, options)
    finally:
        worker_shutting_down.disconnect(on_shutting_down)
        leaving.let_go()
        runtime.stop()
        install_runtime(None)


def _health(
    settings: Settings, catalog: Catalog, pulse: Pulse, providers: Sequence[str], slots: int, options: WorkerOptions
) -> WorkerHealth:
    """What is judged by: the broker and Postgres are asked over connections of its own. Nothing connects here."""
    database_url = required(settings.database_url, "ASSAYLINE_DATABASE_URL")
    longest_attempt_s = max(catalog.providers[name].timeout_s for name in providers) + LEASE_SLACK_S
    return WorkerHealth(
        pulse,
        Broker(app, [*queues(providers), SYSTEM_QUEUE]),
        lambda: postgres_answers(database_url),
        slots=slots,
        longest_s=longest_attempt_s + LONGEST_WRITE_S,
        thresholds=options.thresholds,
    )


def queues(providers: Sequence[str]) -> list[str]:
    """Names of the providers' queues."""
    return [f"{provider}.{lane.value}" for provider in providers for lane in Lane]


def chosen(catalog: Catalog, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the providers to serve: those wanted, or all that are configured.

    Raises:
        ConfigurationError: one of them is unknown or not configured, or none is.
    """
    available = configured(catalog)
    for name in wanted:
        if name not in available:
            these = ", ".join(available) or "none"
            raise ConfigurationError(f"provider {name!r} is not configured ({these} are); see `assayline doctor`")
    if not (wanted or available):
        raise ConfigurationError("no provider is configured; `assayline doctor` says which variable configures which")
    return tuple(wanted) or available


def kept_limits(catalog: Catalog, providers: Sequence[str]) -> Iterator[str]:
    """Say which limits are kept: they are the catalog's, and an account's own may be higher."""
    groups = LimitGroups(catalog)
    for provider in providers:
        for shared in groups.at(provider):
            for group in shared.groups:
                limits = group.limits.model_dump(exclude_none=True)
                if limits:
                    yield f"{group} is kept to {', '.join(f'{n} {kind}' for kind, n in limits.items())} (the catalog)"


def primary_and_fallbacks(catalog: Catalog) -> str:
    """Say where an analysis without a route of its own goes: the first provider, and those after it."""
    primary, *fallbacks = dict.fromkeys(hop.provider for hop in catalog.chain(DEFAULTS)) or ["none"]
    return f"primary provider: {primary}" + (f", fallbacks: {', '.join(fallbacks)}" if fallbacks else "")


def _consume(catalog: Catalog, providers: Sequence[str], slots: int, options: WorkerOptions) -> int:
    names = queues(providers)
    driver = app.connection_for_read().transport.driver_type
    for name in (*names, SYSTEM_QUEUE):
        app.amqp.queues.add(queue(name, driver))
    _quieten()
    app.steps["consumer"].update((EventBatches, Consuming, Intake))
    worker = app.Worker(
        hostname=f"{'+'.join(providers)}.{os.getpid()}@{socket.gethostname()}",
        pool="threads",
        concurrency=slots,
        queues=[*names, SYSTEM_QUEUE],
        task_events=options.events,
        loglevel=logging.getLogger().level,
        quiet=True,
        without_mingle=True,
        without_gossip=True,
        optimization="fair",
    )
    log.info("LLM gateway initialized with %s", primary_and_fallbacks(catalog))
    for line in kept_limits(catalog, providers):
        log.info("%s", line)
    log.info("serving %s with %d slots", ", ".join(names), slots)
    worker.start()
    return int(worker.exitcode or 0)


def _quieten() -> None:
    """Leave out what says nothing here: two lines per message, and a warning meant for pickled messages."""
    for noisy in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Root is dangerous where messages are unpickled; ours are JSON. Containers run as another user anyway.
    warnings.filterwarnings("ignore", category=SecurityWarning)
