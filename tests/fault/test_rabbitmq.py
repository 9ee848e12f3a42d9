"""RabbitMQ as the broker: quorum queues, confirms, its death and its alarms. Skipped where no RabbitMQ is installed.

All other worker and fault tests go through it too with `ASSAYLINE_TEST_BROKER=rabbitmq`.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import amqp
import pytest
from nodes.brokers import RabbitBroker, started_rabbitmq
from nodes.cluster import MODEL, PROVIDER, QUEUES
from nodes.waiting import eventually

from gateway.settings import Settings
from ops.cli.doctor import brokers
from ops.cli.doctor.finding import Verdict
from tasks.job import Released
from workers.beat import TICK_OPTIONS
from workers.brokers.drivers import AMQP, DRIVERS
from workers.celery_settings import SYSTEM_QUEUE, TICK_TASK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodes.cluster import AssaylineSetup
    from nodes.rabbitmq import RabbitMq

PAID_ONCE = [(1, 1, "succeeded")]
INTERACTIVE, BULK = QUEUES
SAFELY_DECLARED_S = 3.0
"""RabbitMQ 3.10 loses a queue that was declared less than two seconds before a kill -9, and hangs when asked for it."""
AT_ONCE_S = 5.0
"""Far less than the 10 s for which a confirm is waited for, and than the 15 s after which a message goes out again."""


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    """A node that may be killed: nobody else uses it."""
    yield from started_rabbitmq(tmp_path_factory.mktemp("rabbitmq"))


@pytest.fixture
def broker(rabbitmq: RabbitMq) -> RabbitBroker:
    found = RabbitBroker(rabbitmq.url, QUEUES)
    found.clear()
    return found


def one_message() -> list[Released]:
    return [Released(uuid4(), 1, PROVIDER, "interactive")]


def test_a_job_through_quorum_queues(celery_setup: AssaylineSetup, broker: RabbitBroker) -> None:
    """Whoever came first has declared them; anything else by that name is refused."""
    setup = celery_setup
    setup.start_dispatcher()
    worker = setup.workers.start()
    job, marker = setup.enqueue()

    assert setup.ended(job)["release"] == 1
    assert setup.wire.calls(marker) == 1
    eventually(lambda: worker.endings(job) == [(1, "succeeded")])
    assert setup.waiting_messages() == 0
    for queue in (*QUEUES, SYSTEM_QUEUE):
        with broker.channel() as channel, pytest.raises(amqp.PreconditionFailed, match="x-queue-type"):
            channel.queue_declare(queue, durable=True, auto_delete=False)
    worker.terminate()


def test_copies_of_a_message_are_one_call(celery_setup: AssaylineSetup) -> None:
    setup = celery_setup
    setup.store.mirror([MODEL], "text_classification", [MODEL])
    job, marker = setup.enqueue()
    release = setup.store.release(job)
    setup.publish(*[(job, release)] * 5)
    assert setup.waiting_messages() == 5

    worker = setup.workers.start()
    eventually(lambda: len(worker.endings(job)) == 5)

    assert sorted(worker.endings(job)) == [*[(release, "stale")] * 4, (release, "succeeded")]
    assert setup.store.calls(job) == PAID_ONCE
    assert setup.wire.calls(marker) == 1


def test_a_worker_without_a_free_slot_takes_no_message(celery_setup: AssaylineSetup) -> None:
    """Of two workers with a slot each one is busy with bulk work: what is urgent all goes to the other, at once."""
    setup = celery_setup
    setup.store.mirror([MODEL], "text_classification", [MODEL])
    busy = setup.workers.start(slots=1)
    held, marker = setup.enqueue(held=True, lane="bulk")
    setup.publisher._publish([Released(held, setup.store.release(held), PROVIDER, "bulk")])
    eventually(lambda: setup.wire.calls(marker) == 1)
    free = setup.workers.start(slots=1)

    for _ in range(6):
        job, _marker = setup.enqueue()
        setup.publish((job, setup.store.release(job)))
        setup.ended(job, within_s=AT_ONCE_S)
        eventually(lambda done=job: free.endings(done) == [(1, "succeeded")])  # type: ignore[misc]
    assert "succeeded" not in busy.logs()
    setup.wire.release(marker)
    setup.ended(held)


def test_a_publish_is_confirmed_or_raises(
    celery_setup: AssaylineSetup, broker: RabbitBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Into a queue that somebody has deleted nothing is published silently; the next time it is declared anew."""
    publish = celery_setup.publisher._publish
    publish(one_message())
    assert broker.depth(INTERACTIVE) == 1
    broker.lose_all()

    with caplog.at_level(logging.WARNING), pytest.raises(ConnectionError, match="Returned"):
        publish(one_message())
    assert f"there is no queue {INTERACTIVE}" in caplog.text

    publish([*one_message() * 500])
    assert broker.depth(INTERACTIVE) == 500


def test_a_queue_of_another_kind_is_said_to_be_one(
    celery_setup: AssaylineSetup, broker: RabbitBroker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.lose_all()
    with broker.channel() as channel:
        channel.queue_declare(INTERACTIVE, durable=True, auto_delete=False)

    with caplog.at_level(logging.WARNING), pytest.raises(ConnectionError, match="PreconditionFailed"):
        celery_setup.publisher._publish(one_message())

    assert INTERACTIVE in caplog.text
    findings = {f.subject: f for f in brokers.examine(Settings(broker_url=broker.url), QUEUES)}
    assert findings[f"broker queue {INTERACTIVE}"].verdict is Verdict.WRONG
    assert "rabbitmqctl delete_queue" in findings[f"broker queue {INTERACTIVE}"].mend
    broker.lose_all()


def test_a_memory_alarm_blocks_nobody_for_ever(
    celery_setup: AssaylineSetup, broker: RabbitBroker, rabbitmq: RabbitMq, caplog: pytest.LogCaptureFixture
) -> None:
    """RabbitMQ stops reading from publishers then: a publish that waits for it would wait until the alarm is over."""
    publish = celery_setup.publisher._publish
    publish(one_message())
    rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        began = time.monotonic()
        with caplog.at_level(logging.WARNING), pytest.raises(ConnectionError):
            publish(one_message())
        assert time.monotonic() - began < AT_ONCE_S
        assert "alarm" in caplog.text
        [told] = [f for f in brokers.examine(Settings(broker_url=broker.url), QUEUES) if f.subject == "broker confirms"]
        assert (told.verdict, "alarm" in told.said) == (Verdict.WRONG, True)
    finally:
        rabbitmq.ctl("set_vm_memory_high_watermark", "0.4")
    publish(one_message())
    assert broker.depth(INTERACTIVE) >= 2


def test_doctor_says_what_the_broker_is(celery_setup: AssaylineSetup, broker: RabbitBroker) -> None:
    broker.lose_all()
    celery_setup.publisher._publish(one_message())

    findings = list(brokers.examine(Settings(broker_url=broker.url), QUEUES))

    assert {finding.verdict for finding in findings} == {Verdict.GOOD}, findings
    assert [finding.subject for finding in findings] == ["broker", "broker queues", "broker confirms"]
    assert "RabbitMQ" in findings[0].said
    assert findings[1].said == f"quorum queues; messages that wait: 1 in {INTERACTIVE}"
    assert broker.depth(BULK) == 0, "it was not declared by asking"
    assert not any(broker.url.split("@")[0].split(":")[-1] in finding.said for finding in findings)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.replace("assayline:", "somebody:"), "refuses"),
        (lambda url: url + "elsewhere", "vhost"),
        (lambda url: "amqp://127.0.0.1:1//", "127.0.0.1:1"),
    ],
)
def test_doctor_says_why_it_gets_in_nowhere(broker: RabbitBroker, change: object, said: str) -> None:
    assert callable(change)
    [finding] = brokers.examine(Settings(broker_url=change(broker.url)), QUEUES)
    assert finding.verdict is Verdict.WRONG
    assert said in finding.said
    assert "ASSAYLINE_BROKER_URL" in finding.mend


def test_a_message_may_be_held_longer_than_any_call_may_last() -> None:
    """The catalog allows a provider an hour for one call (`timeout_s`), RabbitMQ by default half of that."""
    assert DRIVERS[AMQP].queue_arguments["x-consumer-timeout"] >= 2 * 3_600_000


def test_rabbitmq_killed_in_mid_call(celery_setup: AssaylineSetup, rabbitmq: RabbitMq) -> None:
    """The answer is written without it. Back again, worker, dispatcher and beat go on; the old message is stale."""
    setup = celery_setup
    dispatcher = setup.start_dispatcher()
    worker = setup.workers.start()
    job, marker = setup.enqueue(held=True)
    eventually(lambda: setup.wire.calls(marker) == 1)
    beats = setup.app.amqp.Producer(setup.app.connection_for_write())
    setup.app.send_task(TICK_TASK, ("upkeep",), producer=beats, **TICK_OPTIONS)
    began = time.monotonic()

    time.sleep(max(0.0, began + SAFELY_DECLARED_S - time.monotonic()))
    rabbitmq.kill()
    setup.wire.release(marker)
    setup.ended(job)
    rabbitmq.start()

    late, _ = setup.enqueue()
    setup.ended(late, within_s=30)
    assert setup.store.calls(job) == PAID_ONCE
    assert setup.wire.calls(marker) == 1
    setup.app.send_task(TICK_TASK, ("upkeep",), producer=beats, **TICK_OPTIONS)
    beats.connection.release()
    assert dispatcher.container.status == worker.container.status == "running"
    worker.terminate()
