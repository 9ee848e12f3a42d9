"""One suite over both layers of the answer cache, memory and a real Redis; then what only Redis has to promise."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis

from gateway.cache.answers import AnswerCache
from gateway.cache.entry import MAX_ENTRY_BYTES, Entry, NotAnEntry, decoded, encoded
from gateway.cache.layer import Layer
from gateway.cache.memory import MemoryLayer
from gateway.cache.shared import ALIVE_S, LEASE_SLACK_S, PREFIX, SharedLayer
from gateway.errors import AnswerAwaited
from gateway.messages import Usage
from gateway.redis_line import RedisAway, RedisLine

KEY, OTHER = "a" * 64, "b" * 64
ENTRY = Entry("good", "model-1", "v1", Usage(10, 5, 3, 1))
RAW = encoded(KEY, ENTRY)
LONG_S = 60.0
WITHIN_S = 10.0
"""For what takes milliseconds: longer means it will never come."""
ALL_LAYERS = pytest.mark.parametrize("kind", ["memory", "redis"])

Layers = Callable[..., Layer]
Lines = Callable[..., RedisLine]


@pytest.fixture
async def lines(redis_url: str) -> AsyncIterator[Lines]:
    """Make lines to the test's own database; each stands for a process."""
    made: list[RedisLine] = []

    def make(url: str = redis_url, **settings: Any) -> RedisLine:
        made.append(RedisLine.from_url(url, **settings))
        return made[-1]

    yield make
    for line in made:
        await line.aclose()


@pytest.fixture
def server(redis_url: str) -> Any:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def layers(kind: str, lines: Lines) -> Layers:
    """Make what two askers hold: in memory the same layer, over Redis one of another process each."""
    memory = MemoryLayer()
    return lambda: memory if kind == "memory" else SharedLayer(lines())


async def soon(work: Awaitable[Any]) -> Any:
    async with asyncio.timeout(WITHIN_S):
        return await work


async def until(condition: Callable[[], Any]) -> None:
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(WITHIN_S / 1_000)
    raise AssertionError("it never came")


async def waiting(layer: Layer, key: str = KEY) -> asyncio.Task[Any]:
    """An asker that stands behind somebody's lead."""
    task = asyncio.create_task(layer.take(key, LONG_S))
    await asyncio.wait([task], timeout=0.02)
    assert not task.done()
    return task


# Both layers ------------------------------------------------------------------------------------------------------


@ALL_LAYERS
async def test_the_first_leads_and_what_it_keeps_is_found(layers: Layers) -> None:
    one, two = layers(), layers()
    assert await one.take(KEY, LONG_S) is None
    one.keep(KEY, RAW, LONG_S)
    for layer in (one, two):
        async with asyncio.timeout(WITHIN_S):
            kept = await layer.take(KEY, LONG_S)
        assert kept is not None
        assert kept.raw == RAW
        assert 0 < kept.ttl_s <= LONG_S
    assert await two.take(OTHER, LONG_S) is None


@ALL_LAYERS
async def test_those_behind_a_leader_get_what_it_keeps(layers: Layers) -> None:
    one, two = layers(), layers()
    assert await one.take(KEY, LONG_S) is None
    behind = await waiting(two)
    one.keep(KEY, RAW, LONG_S)
    assert (await soon(behind)).raw == RAW


@ALL_LAYERS
async def test_after_a_lead_without_an_answer_exactly_one_leads(layers: Layers) -> None:
    one, followers = layers(), [layers() for _ in range(3)]
    assert await one.take(KEY, LONG_S) is None
    behind = [await waiting(layer) for layer in followers]
    one.give_up(KEY)
    [leader], others = await asyncio.wait(behind, timeout=WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
    assert leader.result() is None
    await asyncio.wait(others, timeout=0.1)
    assert not any(task.done() for task in others), "one at a time"
    followers[behind.index(leader)].keep(KEY, RAW, LONG_S)
    assert [(await soon(task)).raw for task in others] == [RAW, RAW]


@ALL_LAYERS
async def test_who_is_cancelled_stands_in_nobodys_way(layers: Layers) -> None:
    one, two, three = layers(), layers(), layers()
    assert await one.take(KEY, LONG_S) is None
    gone, behind = await waiting(two), await waiting(three)
    gone.cancel()
    await asyncio.wait([gone])
    one.give_up(KEY)
    assert await soon(behind) is None


@ALL_LAYERS
async def test_what_is_too_large_is_not_kept(layers: Layers) -> None:
    one, two = layers(), layers()
    assert await one.take(KEY, LONG_S) is None
    one.keep(KEY, b"x" * (MAX_ENTRY_BYTES + 1), LONG_S)
    assert await soon(two.take(KEY, LONG_S)) is None


# An entry ---------------------------------------------------------------------------------------------------------


def test_an_entry_comes_back_as_it_was() -> None:
    text = 'quotes " and \x00 and \ud800 and \N{SNOWMAN}'
    entry = Entry(text, "m", "v2", ENTRY.usage)
    assert decoded(KEY, encoded(KEY, entry)) == entry


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"A1",
        b"A1 ",
        b"hello",
        RAW[:-1],
        RAW + b" ",
        RAW.replace(b"good", b"goof"),
        RAW.replace(b"A1", b"A0"),
        encoded(OTHER, ENTRY),
    ],
)
def test_what_is_damaged_or_anothers_is_no_entry(raw: bytes) -> None:
    with pytest.raises(NotAnEntry):
        decoded(KEY, raw)


# Redis ------------------------------------------------------------------------------------------------------------


async def recall(cache: AnswerCache, *answers: Entry | Exception | None, wait_s: float = LONG_S) -> str:
    """Ask; if that makes a call, it brings the next of `answers`."""
    script = iter(answers)

    async def fetch() -> tuple[str, Entry | None]:
        answer = next(script)
        if isinstance(answer, Exception):
            raise answer
        return "fresh", answer

    async with asyncio.timeout(WITHIN_S):
        return await cache.recall(KEY, lambda entry: entry.text, fetch, ttl_s=LONG_S, wait_s=wait_s)


def cache_over(line: RedisLine) -> AnswerCache:
    return AnswerCache(MemoryLayer(), SharedLayer(line))


async def test_what_lies_in_redis(lines: Lines, server: redis.Redis) -> None:
    """One key for each question and one for each process, each with an end; of the tenant only the hash."""
    line = lines()
    await recall(cache_over(line), ENTRY)
    await line.ask(("PING",))
    names = {name.decode() for name in server.keys("*")}
    [alive] = names - {PREFIX + KEY}
    assert alive.startswith(f"{PREFIX}alive:")
    assert 0 < server.pttl(alive) <= ALIVE_S * 1_000
    assert 0 < server.pttl(PREFIX + KEY) <= LONG_S * 1_000
    assert server.get(PREFIX + KEY) == RAW


async def test_another_process_recalls_and_keeps_it_no_longer_than_redis(lines: Lines, server: redis.Redis) -> None:
    server.set(PREFIX + KEY, RAW, px=7_000)
    memory = MemoryLayer()
    cache = AnswerCache(memory, SharedLayer(lines()))
    assert await recall(cache) == "good"
    kept = await memory.take(KEY, LONG_S)
    assert kept is not None
    assert kept.ttl_s <= 7.0
    server.delete(PREFIX + KEY)
    assert await recall(cache) == "good", "from memory"


async def test_a_lease_ends_with_the_leaders_deadline(lines: Lines, server: redis.Redis) -> None:
    assert await SharedLayer(lines()).take(KEY, 30.0) is None
    assert 29_000 < server.pttl(PREFIX + KEY) <= (30 + LEASE_SLACK_S) * 1_000


async def test_an_error_is_nobody_elses_and_leaves_nothing(lines: Lines, server: redis.Redis) -> None:
    line = lines()
    with pytest.raises(ValueError, match="mine"):
        await recall(cache_over(line), ValueError("mine"))
    await line.ask(("PING",))
    assert not server.exists(PREFIX + KEY)
    assert await recall(cache_over(line), None) == "fresh"
    await line.ask(("PING",))
    assert not server.exists(PREFIX + KEY)


async def test_a_dead_leaders_lease_falls_with_its_signs_of_life(lines: Lines, server: redis.Redis) -> None:
    """A killed process gives none; its lease is there still, for as long as its call might have taken."""
    killed = SharedLayer(lines())
    assert await killed.take(KEY, 3_600.0) is None
    behind = await waiting(SharedLayer(lines()))
    server.delete(*server.keys(f"{PREFIX}alive:*"))
    assert await soon(behind) is None


async def test_of_those_who_find_a_lease_void_one_leads(lines: Lines, server: redis.Redis) -> None:
    server.set(PREFIX + KEY, b"L1 dead", px=3_600_000)
    layers = [SharedLayer(lines()) for _ in range(5)]
    tasks = [asyncio.create_task(layer.take(KEY, LONG_S)) for layer in layers]
    done, others = await asyncio.wait(tasks, timeout=0.3)
    assert [task.result() for task in done] == [None]
    layers[tasks.index(done.pop())].keep(KEY, RAW, LONG_S)
    assert {(await soon(task)).raw for task in others} == {RAW}


async def test_a_leader_that_lives_is_waited_for_however_long_it_takes(lines: Lines) -> None:
    """Its signs of life are renewed: three lives pass, and nobody takes the lead."""
    leader = SharedLayer(lines(), alive_s=0.3)
    assert await leader.take(KEY, LONG_S) is None
    behind = asyncio.create_task(SharedLayer(lines()).take(KEY, LONG_S))
    await asyncio.wait([behind], timeout=0.9)
    assert not behind.done()
    leader.keep(KEY, RAW, LONG_S)
    assert (await soon(behind)).raw == RAW


@pytest.mark.parametrize("how", ["cancelled", "out of time"])
async def test_who_waits_for_another_process_passes_its_place_on_in_its_own(
    lines: Lines, server: redis.Redis, how: str
) -> None:
    """One of a process waits at Redis for all of it. When it goes, the next one stands there, and finds what comes."""
    elsewhere = SharedLayer(lines())
    assert await elsewhere.take(KEY, LONG_S) is None
    cache = cache_over(lines())
    first = asyncio.create_task(recall(cache, wait_s=0.05 if how == "out of time" else LONG_S))
    second = asyncio.create_task(recall(cache))
    if how == "cancelled":
        await asyncio.wait([first], timeout=0.05)
        first.cancel()
    await asyncio.wait([first])
    assert first.cancelled() or isinstance(first.exception(), AnswerAwaited)
    assert server.get(PREFIX + KEY).startswith(b"L1 "), "the lease is the other process's still"
    elsewhere.keep(KEY, RAW, LONG_S)
    assert await second == "good"


async def test_giving_up_does_not_take_anothers_lead(lines: Lines, server: redis.Redis) -> None:
    late_line = lines()
    late = SharedLayer(late_line)
    assert await late.take(KEY, LONG_S) is None
    server.set(PREFIX + KEY, b"L1 another")
    late.give_up(KEY)
    await late_line.ask(("PING",))
    assert server.get(PREFIX + KEY) == b"L1 another"


@pytest.mark.parametrize(
    "put",
    [
        lambda server: server.set(PREFIX + KEY, "hello"),
        lambda server: server.set(PREFIX + KEY, RAW.replace(b"good", b"goof")),
        lambda server: server.set(PREFIX + KEY, encoded(OTHER, ENTRY)),
    ],
    ids=["foreign", "damaged", "of another key"],
)
async def test_what_cannot_be_read_is_a_miss_told_once_and_replaced(
    lines: Lines, server: redis.Redis, put: Callable[[redis.Redis], Any], caplog: pytest.LogCaptureFixture
) -> None:
    put(server)
    line = lines()
    cache = cache_over(line)
    with caplog.at_level(logging.WARNING):
        assert await recall(cache, ENTRY) == "fresh"
        assert await recall(cache) == "good"
    assert len(caplog.records) == 1
    await line.ask(("PING",))
    assert server.get(PREFIX + KEY) == RAW


async def test_a_key_of_another_kind_is_replaced(lines: Lines, server: redis.Redis) -> None:
    server.rpush(PREFIX + KEY, "a list")
    line = lines()
    assert await recall(cache_over(line), ENTRY) == "fresh"
    await line.ask(("PING",))
    assert server.get(PREFIX + KEY) == RAW


async def test_a_server_that_forgot_its_scripts_is_no_trouble(
    lines: Lines, server: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    server.script_flush()
    with caplog.at_level(logging.WARNING):
        assert await recall(cache_over(lines()), ENTRY) == "fresh"
        assert await recall(cache_over(lines())) == "good"
    assert caplog.records == []


async def test_a_lead_cancelled_while_it_is_taken_is_given_up(lines: Lines, server: redis.Redis) -> None:
    line = lines()
    await line.ask(("PING",))
    task = asyncio.create_task(SharedLayer(line).take(KEY, LONG_S))
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await line.ask(("PING",))
    assert not server.exists(PREFIX + KEY)


# The line ---------------------------------------------------------------------------------------------------------


async def test_what_is_due_at_once_goes_in_one_write_and_in_order(lines: Lines, server: redis.Redis) -> None:
    line = lines()
    await line.ask(("PING",))
    before = server.info("stats")
    line.post(("SET", "a", "1"))
    replies = await asyncio.gather(*(line.ask(("INCR", "a"), ("GET", "a")) for _ in range(50)))
    assert replies == [[number, str(number).encode()] for number in range(2, 52)]
    after = server.info("stats")
    assert after["total_commands_processed"] - before["total_commands_processed"] >= 101
    assert after["total_reads_processed"] - before["total_reads_processed"] <= 3, "the server read twice, with its info"


async def test_a_refusal_is_its_askers_alone(lines: Lines, caplog: pytest.LogCaptureFixture) -> None:
    line = lines()
    await line.ask(("LPUSH", "list", "x"))
    with caplog.at_level(logging.WARNING):
        answers = await asyncio.gather(
            line.ask(("GET", "list")), line.ask(("PING",)), line.ask(("INCR", "list")), return_exceptions=True
        )
    assert [type(answer).__name__ for answer in answers] == ["ResponseError", "list", "ResponseError"]
    assert [record.message for record in caplog.records] == ["Redis refuses a command (ResponseError)"]


async def test_a_connection_that_the_server_closed_is_made_anew(
    lines: Lines, server: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    line = lines()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            await line.ask(("SET", "a", "1"))
            server.client_kill_filter(_type="normal", skipme=True)
            assert await line.ask(("GET", "a")) == [b"1"]
    assert caplog.records == []


class DeafServer:
    """Takes connections and never answers, until it is told to pass everything on to a real server."""

    def __init__(self, url: str) -> None:
        self._url = redis.connection.parse_url(url)
        self.hears = asyncio.Event()
        self.port = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await self.hears.wait()
            upstream, downstream = await asyncio.open_connection(self._url["host"], self._url["port"])
            with contextlib.closing(downstream):
                await asyncio.gather(_pump(reader, downstream), _pump(upstream, writer))
        writer.close()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while piece := await source.read(65_536):
        sink.write(piece)
    sink.close()


@pytest.fixture
async def deaf(redis_url: str) -> AsyncIterator[DeafServer]:
    server = DeafServer(redis_url)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server
        await server.stop()


async def test_nobody_waits_for_a_redis_that_is_away_and_one_line_says_so(
    lines: Lines, deaf: DeafServer, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    own = redis.connection.parse_url(redis_url)
    login = f":{own['password']}@" if own.get("password") else ""
    timeout_s, others = 0.1, 100
    line = lines(f"redis://{login}127.0.0.1:{deaf.port}/{own['db']}", timeout_s=timeout_s, probe_every_s=0.02)
    cache = cache_over(line)
    with caplog.at_level(logging.INFO):
        assert await recall(cache, None) == "fresh"
        assert line.away
        began = asyncio.get_running_loop().time()
        for _ in range(others):
            assert await recall(cache, None) == "fresh"
        waited_s = asyncio.get_running_loop().time() - began
        assert waited_s < others * timeout_s / 4, "one has waited for all of them"
        with pytest.raises(RedisAway):
            await line.ask(("PING",))
        deaf.hears.set()
        await until(lambda: not line.away)
        assert await recall(cache, ENTRY) == "fresh"
        assert await recall(cache_over(line)) == "good"
    assert [record.message.partition(" (")[0] for record in caplog.records] == ["Redis is away", "Redis is back"]


async def test_a_port_where_nobody_listens_is_away_too(lines: Lines, unused_tcp_port: int) -> None:
    cache = cache_over(lines(f"redis://127.0.0.1:{unused_tcp_port}/0"))
    assert await recall(cache, ENTRY) == "fresh"
    assert await recall(cache) == "good", "memory remembers"


async def test_what_is_posted_is_sent_before_the_line_is_closed(lines: Lines, server: redis.Redis) -> None:
    line = lines()
    line.post(("SET", "a", "1"))
    await line.aclose()
    assert server.get("a") == b"1"


async def test_what_is_posted_needs_nobody_to_take_it_along(lines: Lines, server: redis.Redis) -> None:
    lines().post(("SET", "a", "1"))
    await until(lambda: server.exists("a"))


async def test_a_full_redis_is_told_once_and_answers_are_made(
    lines: Lines, server: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """`noeviction`: reads go on, writes are refused."""
    server.set(PREFIX + OTHER, "there")
    server.config_set("maxmemory", 1)
    try:
        line = lines()
        with caplog.at_level(logging.WARNING):
            for _ in range(5):
                assert await recall(cache_over(line), ENTRY) == "fresh"
                await line.ask(("PING",))
    finally:
        server.config_set("maxmemory", 0)
    assert [record.message for record in caplog.records] == ["Redis refuses a command (OutOfMemoryError)"]
