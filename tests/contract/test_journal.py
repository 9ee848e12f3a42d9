"""The journal over a real Redis: when it is written, how long it lies there, what takes it away, and what it costs."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import redis

from gateway.calls.answered import Answered
from gateway.journal.journal import COUNTS, FOUND, PREFIX, TTL_S, UNUSABLE, Journal
from gateway.messages import Completion, FinishReason, Usage
from gateway.redis_line import RedisLine
from tasks.announce import Announcer, result_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

QUESTION = "a" * 64
ANSWERED = Answered(Completion("fine", FinishReason.STOP, Usage(10, 5), "m", "req-1"), None, 1.5)


@pytest.fixture
async def line(redis_url: str) -> AsyncIterator[RedisLine]:
    made = RedisLine.from_url(redis_url)
    yield made
    await made.aclose()


@pytest.fixture
def server(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


async def until(condition: Callable[[], object]) -> None:
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


async def test_what_one_process_kept_another_finds_and_the_announced_end_takes_away(
    line: RedisLine, redis_url: str, server: Any
) -> None:
    job = uuid4()
    first = Journal(line, pause_s=0).of(str(job), 1)
    await first.open(QUESTION)
    first.keep(1, ANSWERED)
    await line.ask(("PING",))
    assert TTL_S - 5 <= server.ttl(PREFIX + str(job)) <= TTL_S

    other = RedisLine.from_url(redis_url)
    second = Journal(other).of(str(job), 2)
    [kept] = await second.open(QUESTION)
    assert (kept.claim_no, kept.call_no, kept.answered) == (1, 1, ANSWERED)
    await Announcer(other).ended(job, "succeeded", {"a": 1}, *second.stored())
    await other.aclose()
    assert server.keys(f"{PREFIX}{job}") == []
    assert server.exists(result_key(job))
    assert server.hgetall(COUNTS) == {FOUND.encode(): b"1"}


async def test_once_it_goes_it_takes_along_what_lingers(redis_url: str, server: Any) -> None:
    """The settlement of its call, which waits for somebody's write."""
    line, written = RedisLine.from_url(redis_url), []
    exchange = line._exchange

    async def noted(commands: Any) -> Any:
        written.append([command[0] for command in commands])
        return await exchange(commands)

    line._exchange = noted  # type: ignore[method-assign]
    journal = Journal(line, pause_s=0).of("a-job", 1)
    await journal.open(QUESTION)
    line.post(("EVAL", "return 1", 0))
    assert written == []
    journal.keep(1, ANSWERED)
    sending = line._sending
    assert sending is not None
    await sending
    assert written == [["EVAL", "SET"]]
    assert server.exists(PREFIX + "a-job")
    await line.aclose()


async def test_what_is_stored_in_time_is_never_sent(line: RedisLine, server: Any) -> None:
    stored, late = (Journal(line, pause_s=0.02).of(job, 1) for job in ("stored", "late"))
    for journal in (stored, late):
        await journal.open(QUESTION)
        journal.keep(1, ANSWERED)
    assert stored.stored() == ()
    await until(lambda: server.exists(PREFIX + "late"))
    assert server.keys(PREFIX + "*") == [(PREFIX + "late").encode()]
    assert late.stored() == (("DEL", PREFIX + "late"),)


async def test_two_answers_within_the_pause_go_together(line: RedisLine, server: Any) -> None:
    journal = Journal(line, pause_s=0.02).of("a-job", 1)
    await journal.open(QUESTION)
    journal.keep(1, ANSWERED)
    journal.keep(2, ANSWERED)
    await until(lambda: server.exists(PREFIX + "a-job"))
    assert [kept.call_no for kept in await Journal(line).of("a-job", 2).open(QUESTION)] == [1, 2]


async def test_a_key_of_another_kind_is_as_if_nothing_were_there(
    line: RedisLine, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.lpush(PREFIX + "a-job", "x")
    journal = Journal(line, pause_s=0).of("a-job", 2)
    assert await journal.open(QUESTION) == ()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "Redis refuses a command (ResponseError)"
    ]
    journal.keep(1, ANSWERED)
    await line.ask(("PING",))
    [kept] = await Journal(line).of("a-job", 3).open(QUESTION)
    assert kept.claim_no == 2


async def test_an_entry_of_no_use_is_counted(line: RedisLine, server: Any) -> None:
    server.set(PREFIX + "a-job", b"J1 what")
    assert await Journal(line).of("a-job", 2).open(QUESTION) == ()
    await line.ask(("PING",))
    assert server.hgetall(COUNTS) == {UNUSABLE.encode(): b"1"}


async def test_a_redis_that_is_not_there_fails_nothing() -> None:
    line = RedisLine.from_url("redis://127.0.0.1:1/0", timeout_s=0.5)
    journal = Journal(line, pause_s=0).of("a-job", 2)
    assert await journal.open(QUESTION) == ()
    journal.keep(1, ANSWERED)
    journal.forget()
    await line.aclose()


async def test_its_time_is_as_it_was_made_for(line: RedisLine, server: Any) -> None:
    first = Journal(line, ttl_s=1, pause_s=0).of("a-job", 1)
    await first.open(QUESTION)
    first.keep(1, ANSWERED)
    await line.ask(("PING",))
    assert 0 < server.pttl(PREFIX + "a-job") <= 1_000
