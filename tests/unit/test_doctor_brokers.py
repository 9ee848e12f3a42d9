"""What doctor says of a broker: of Sentinels that disagree or keep silent, of servers that are no RabbitMQ, or old."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import Settings
from ops.cli.doctor.brokers import examine, judged, rabbitmq_version
from ops.cli.doctor.finding import Verdict
from ops.cli.stack import _quoted


def state(port: int = 1, replicas: int = 1) -> dict[str, Any]:
    return {"ip": "10.0.0.1", "port": port, "num-slaves": replicas}


@pytest.mark.parametrize(
    ("said", "verdict", "words"),
    [
        ([state(), state(), state()], Verdict.GOOD, "3 of 3 name 10.0.0.1:1 as mine, with 1 replica"),
        ([state(replicas=2)] * 3, Verdict.GOOD, "with 2 replicas"),
        ([state(1), state(2), state(2)], Verdict.ODD, "10.0.0.1:1 and 10.0.0.1:2"),
        ([state(), state(), "timed out"], Verdict.ODD, "2 of 3 name 10.0.0.1:1 as mine; three: timed out"),
        ([state(), state()], Verdict.ODD, "2 of 2"),
        ([state(replicas=0)] * 3, Verdict.ODD, "no replica"),
        (["No such master"] * 3, Verdict.WRONG, "none names mine: one: No such master; two:"),
    ],
)
def test_sentinels_are_judged_together(said: list[Any], verdict: Verdict, words: str) -> None:
    finding = judged(dict(zip(("one", "two", "three"), said, strict=False)), "mine")
    assert finding.verdict is verdict
    assert words in finding.said
    assert bool(finding.mend) is (verdict is not Verdict.GOOD)


CONFIRMS = {"publisher_confirms": True}


@pytest.mark.parametrize(
    ("properties", "verdict", "words"),
    [
        ({"product": "RabbitMQ", "version": "3.10.8", "capabilities": CONFIRMS}, Verdict.GOOD, "RabbitMQ 3.10.8 at h"),
        ({"product": "RabbitMQ", "version": "4.3.0-rc.1", "capabilities": CONFIRMS}, Verdict.GOOD, "4.3.0-rc.1"),
        ({"product": "RabbitMQ", "version": "3.9.29", "capabilities": CONFIRMS}, Verdict.ODD, "3.9.29"),
        ({"product": "RabbitMQ", "version": "4.0"}, Verdict.WRONG, "confirms no messages"),
        ({"product": "LavinMQ", "version": "2.0", "capabilities": CONFIRMS}, Verdict.ODD, "LavinMQ"),
        ({}, Verdict.ODD, "an AMQP server unknown"),
    ],
)
def test_a_server_is_judged_by_what_it_says_of_itself(properties: Any, verdict: Verdict, words: str) -> None:
    finding = rabbitmq_version(properties, "h")
    assert (finding.verdict, words in finding.said) == (verdict, True), finding


def test_without_a_broker_there_is_one_cause_told_elsewhere() -> None:
    assert list(examine(Settings(), ["one.bulk"])) == []


def test_a_redis_of_its_own_that_is_not_there() -> None:
    settings = Settings(redis_url="redis://127.0.0.1:1/0", broker_url="redis://:secret@127.0.0.1:1/1")
    [finding] = examine(settings, ["one.bulk"])
    assert (finding.verdict, finding.subject) == (Verdict.WRONG, "broker")
    assert "127.0.0.1:1/1" in finding.said
    assert "secret" not in repr(finding)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_any_url_survives_the_shell(value: str) -> None:
    assert shlex.split(f"export NAME={_quoted(value)}") == ["export", f"NAME={value}"]
