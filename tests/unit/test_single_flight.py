"""Equal questions at once: one is asked, in its own name; the others wait, and lose nothing by it but time."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from gateway.cache.answers import AnswerCache
from gateway.cache.entry import MAX_ENTRY_BYTES, Entry
from gateway.cache.memory import MemoryLayer
from gateway.errors import AnswerAwaited, Throttled
from gateway.messages import Usage

KEY, OTHER = "a" * 64, "b" * 64
ENTRY = Entry("good", "model-1", "v1", Usage(10, 5))
LONG_S = 60.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Askers:
    """Any number of equal questions. Each call waits until the test answers it; calls are numbered from 0."""

    def __init__(self, cache: AnswerCache | None = None) -> None:
        self.cache = cache or AnswerCache(MemoryLayer())
        self.calls: list[asyncio.Future[Entry | None]] = []
        self.asked = asyncio.Event()

    def ask(self, key: str = KEY, wait_s: float = LONG_S) -> asyncio.Task[str]:
        return asyncio.create_task(self._recall(key, wait_s))

    async def _recall(self, key: str, wait_s: float) -> str:
        return await self.cache.recall(key, lambda entry: entry.text, self._fetch, ttl_s=LONG_S, wait_s=wait_s)

    async def _fetch(self) -> tuple[str, Entry | None]:
        call: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        number = len(self.calls)
        self.calls.append(call)
        self.asked.set()
        entry = await call
        return f"fresh {number}", entry

    async def call(self, number: int) -> asyncio.Future[Entry | None]:
        """Wait until this call was made."""
        while len(self.calls) <= number:
            self.asked.clear()
            await self.asked.wait()
        return self.calls[number]


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_hundred_equal_questions_make_one_call() -> None:
    askers = Askers()
    tasks = [askers.ask() for _ in range(100)]
    (await askers.call(0)).set_result(ENTRY)
    answers = await asyncio.gather(*tasks)
    assert answers == ["fresh 0"] + ["good"] * 99
    assert len(askers.calls) == 1


async def test_different_questions_do_not_wait_for_each_other() -> None:
    askers = Askers()
    first, second = askers.ask(), askers.ask(OTHER)
    (await askers.call(1)).set_result(ENTRY)
    assert await second == "fresh 1"
    assert not first.done()
    askers.calls[0].set_result(ENTRY)
    await first


async def test_a_leaders_error_is_its_own_and_the_next_one_leads_alone() -> None:
    askers = Askers()
    tasks = [askers.ask() for _ in range(5)]
    (await askers.call(0)).set_exception(Throttled("slow down"))
    with pytest.raises(Throttled):
        await tasks[0]
    second = await askers.call(1)
    await settle()
    assert len(askers.calls) == 2, "one at a time"
    second.set_result(ENTRY)
    assert await asyncio.gather(*tasks[1:]) == ["fresh 1", "good", "good", "good"]


async def test_an_error_is_not_remembered() -> None:
    askers = Askers()
    first = askers.ask()
    (await askers.call(0)).set_exception(Throttled("slow down"))
    await asyncio.wait([first])
    assert isinstance(first.exception(), Throttled)
    second = askers.ask()
    (await askers.call(1)).set_result(ENTRY)
    assert await second == "fresh 1"


async def test_an_answer_that_may_not_be_kept_is_its_askers_alone() -> None:
    askers = Askers()
    tasks = [askers.ask() for _ in range(3)]
    (await askers.call(0)).set_result(None)
    (await askers.call(1)).set_result(None)
    (await askers.call(2)).set_result(ENTRY)
    assert await asyncio.gather(*tasks) == ["fresh 0", "fresh 1", "fresh 2"]


async def test_a_leaders_cancellation_is_not_its_followers() -> None:
    askers = Askers()
    leader, follower = askers.ask(), askers.ask()
    await askers.call(0)
    leader.cancel()
    (await askers.call(1)).set_result(ENTRY)
    assert await follower == "fresh 1"
    assert leader.cancelled()


async def test_a_followers_cancellation_is_not_its_leaders() -> None:
    askers = Askers()
    leader, gone, follower = askers.ask(), askers.ask(), askers.ask()
    call = await askers.call(0)
    await settle()
    gone.cancel()
    await asyncio.wait([gone])
    call.set_result(ENTRY)
    assert await leader == "fresh 0"
    assert await follower == "good"
    assert len(askers.calls) == 1


async def test_a_follower_cancelled_in_the_moment_it_should_lead_passes_the_lead_on() -> None:
    memory = MemoryLayer()
    assert await memory.take(KEY, LONG_S) is None
    unlucky, following = (asyncio.create_task(memory.take(KEY, LONG_S)) for _ in range(2))
    await settle()
    memory.give_up(KEY)
    unlucky.cancel()
    assert await following is None
    assert unlucky.cancelled()


async def test_nothing_is_left_of_questions_nobody_waits_for() -> None:
    memory = MemoryLayer()
    askers = Askers(AnswerCache(memory))
    tasks = [askers.ask() for _ in range(3)]
    await askers.call(0)
    for task in reversed(tasks):
        task.cancel()
    await asyncio.wait(tasks)
    assert memory._queues == {}
    assert len(memory) == 0


async def test_a_followers_own_deadline_holds() -> None:
    askers = Askers()
    leader, hasty, patient = askers.ask(), askers.ask(wait_s=0.01), askers.ask()
    with pytest.raises(AnswerAwaited, match=r"unanswered for 0\.01 s"):
        await hasty
    askers.calls[0].set_result(ENTRY)
    assert await asyncio.gather(leader, patient) == ["fresh 0", "good"]


async def test_a_lead_has_no_deadline_but_its_calls_own() -> None:
    """The wait is bounded here, the call by whoever makes it."""
    askers = Askers()
    leader = askers.ask(wait_s=0.01)
    call = await askers.call(0)
    await asyncio.wait([leader], timeout=0.03)
    call.set_result(ENTRY)
    assert await leader == "fresh 0"


async def test_what_is_remembered_is_not_fetched() -> None:
    askers = Askers()
    first = askers.ask()
    (await askers.call(0)).set_result(ENTRY)
    await first
    assert await askers.ask() == "good"
    assert len(askers.calls) == 1


async def test_an_answer_too_large_to_be_kept_reaches_those_who_wait_and_no_others() -> None:
    memory = MemoryLayer()
    askers = Askers(AnswerCache(memory))
    leader, follower = askers.ask(), askers.ask()
    (await askers.call(0)).set_result(replace(ENTRY, text="x" * MAX_ENTRY_BYTES))
    assert await leader == "fresh 0"
    assert len(await follower) == MAX_ENTRY_BYTES
    assert (len(memory), memory.size_bytes) == (0, 0)


async def test_an_entry_that_its_reader_refuses_is_forgotten_once(caplog: pytest.LogCaptureFixture) -> None:
    memory = MemoryLayer()
    memory.keep(KEY, b"A1 damaged", LONG_S)
    askers = Askers(AnswerCache(memory))
    with caplog.at_level(logging.WARNING):
        tasks = [askers.ask() for _ in range(3)]
        (await askers.call(0)).set_result(ENTRY)
        assert await asyncio.gather(*tasks) == ["fresh 0", "good", "good"]
    assert len(caplog.records) == 1
    assert KEY in caplog.text


# The table in memory ----------------------------------------------------------------------------------------------


async def found(memory: MemoryLayer, key: str) -> bytes | None:
    kept = await memory.take(key, LONG_S)
    if kept is None:
        memory.give_up(key)
        return None
    return kept.raw


async def test_the_least_recently_used_makes_room_by_number_and_by_bytes() -> None:
    for bounds in ({"max_entries": 2}, {"max_bytes": 25}):
        memory = MemoryLayer(**bounds)
        memory.keep("one", b"x" * 10, LONG_S)
        memory.keep("two", b"x" * 10, LONG_S)
        assert await found(memory, "one")
        memory.keep("three", b"x" * 10, LONG_S)
        assert [await found(memory, key) is not None for key in ("one", "two", "three")] == [True, False, True]
        assert memory.size_bytes == 20


async def test_an_entry_ends_with_its_time_or_after_five_minutes() -> None:
    clock = Clock()
    memory = MemoryLayer(clock=clock)
    memory.keep("short", b"x", 10.0)
    memory.keep("long", b"x", 86_400.0)
    kept = await memory.take("long", LONG_S)
    assert kept is not None
    assert kept.ttl_s == 300.0
    clock.now_s += 10
    assert (await found(memory, "short"), await found(memory, "long")) == (None, b"x")
    clock.now_s += 290
    assert await found(memory, "long") is None


@pytest.mark.parametrize(("own", "override", "wanted"), [(60, None, 60), (60, 5, 5), (0, 5, 0), (0, None, 0)])
def test_how_long_is_the_analysiss_or_the_operators_word(own: int, override: int | None, wanted: int) -> None:
    """What must not be remembered at all is not, whoever says how long."""
    from gateway.analyses.text.text_classification import ANALYSIS

    cache = AnswerCache(MemoryLayer(), ttl_s=override)
    assert cache.ttl_s(replace(ANALYSIS, cache_ttl_s=own)) == wanted
