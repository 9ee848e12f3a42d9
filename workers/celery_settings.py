"""Celery's settings, each with its reason. What is the same for every broker stands here, the rest in their room."""

from __future__ import annotations

from typing import Any

from workers.brokers.kinds import settings_of

PREFIX = "assayline"

RUN_TASK = f"{PREFIX}.run"
TICK_TASK = f"{PREFIX}.tick"
SYSTEM_QUEUE = "system"

SETTINGS: dict[str, Any] = {
    # JSON only: a message is an id and a number, and unpickling what lies in a broker runs whatever it says.
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    # Ours lies in Redis and Postgres under the job's id; Celery's would be a second, unread write per job.
    "task_ignore_result": True,
    "result_backend": None,
    # Acknowledged after the run, so that a running job counts against the prefetch: a worker never holds a message
    # that it has no slot for.
    "task_acks_late": True,
    # 5.7 splits acks_on_failure_or_timeout in two. A failed job is finished in Postgres before its task fails, so its
    # message is done; there are no Celery time limits, so nothing is ever timed out by it.
    "task_acks_on_failure": True,
    "task_acks_on_timeout": True,
    # An unbounded poison loop: a message that kills its worker would come back for ever. Rescue counts attempts.
    "task_reject_on_worker_lost": False,
    # Running jobs go on when the broker's connection breaks: their truth is in Postgres, a second delivery is stale.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # One message per free slot and no more: what a worker holds back, no other worker can take.
    "worker_prefetch_multiplier": 1,
    # Our pool size is our limiter; Celery's per-process rate limits multiply by the number of processes.
    "worker_disable_rate_limits": True,
    # Ours: one readable format for all processes.
    "worker_hijack_root_logger": False,
    # None: 100 tries by default, after which the worker gives up and dies for good.
    "broker_connection_max_retries": None,
    "broker_connection_retry_on_startup": True,
    # What a broker refuses for a while (a Redis that was demoted in mid-wait, a channel that RabbitMQ closed) is a
    # reason to connect again, not to die.
    "broker_channel_error_retry": True,
    # Ours connects again sooner.
    "worker_consumer": "workers.consumer:Consumer",
    # The default exchange everywhere: it needs no binding that a FLUSHALL could take away.
    "task_create_missing_queues": True,
    "task_default_queue": SYSTEM_QUEUE,
    "task_default_exchange": "",
    "task_default_exchange_type": "direct",
    "task_default_routing_key": SYSTEM_QUEUE,
    # Publishing is tried once; what fails is published again by the dispatcher from Postgres.
    "task_publish_retry": False,
    # Flower needs the events; `assayline worker --no-events` switches them off.
    "worker_send_task_events": True,
    "task_send_sent_event": False,
    # UTC everywhere; windows in local time are decided by the schedule, with zoneinfo.
    "enable_utc": True,
    "timezone": "UTC",
    # The pidbox lets Flower ask what runs. Its reply queues expire by themselves.
    "worker_enable_remote_control": True,
    "control_queue_ttl": 300.0,
    "control_queue_expires": 300.0,
}


def for_broker(url: str) -> dict[str, Any]:
    """All settings, for the broker at `url`.

    Raises:
        ConfigurationError: see `workers.brokers.kinds.settings_of`.
    """
    return {**SETTINGS, **settings_of(url, system_queue=SYSTEM_QUEUE)}
