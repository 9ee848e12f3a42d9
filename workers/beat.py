"""The beat process: stock Celery beat over `beat_schedule.TICKS`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import beat_schedule
from workers.app import app
from workers.celery_settings import SYSTEM_QUEUE, TICK_TASK
from workers.health.beat import BeatHealth, TurningScheduler
from workers.health.server import Address, answering
from workers.health.thresholds import Thresholds

TICK_OPTIONS = {
    "queue": SYSTEM_QUEUE,
    "expires": 300,
    # Over RabbitMQ a connection that broke is not made good by itself; tried once, beat would never tick again.
    "retry": True,
    "retry_policy": {"max_retries": 3, "interval_start": 0, "interval_step": 1, "interval_max": 2},
}
"""A tick that nobody took for five minutes says nothing that the next one does not say."""


def run_beat(state_dir: Path, *, health: Address | None = None) -> None:
    """Tick until stopped. Beat keeps its own last-run file in `state_dir`; losing it costs at most one tick.

    `health`: where to tell its health; None: nowhere.

    Raises:
        ConfigurationError: the health cannot be told where it should be.
    """
    app.conf.beat_schedule = {
        name: {"task": TICK_TASK, "schedule": when, "args": (name,), "options": TICK_OPTIONS}
        for name, when in beat_schedule.TICKS.items()
    }
    state_dir.mkdir(parents=True, exist_ok=True)
    watched = BeatHealth(Thresholds())
    scheduler = partial(TurningScheduler, health=watched)
    with answering(health, watched):
        app.Beat(
            schedule=str(state_dir / "beat"),
            scheduler_cls=scheduler,
            loglevel="INFO",
            quiet=True,
            working_directory=None,
        ).run()
