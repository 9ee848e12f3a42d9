"""Cutting an attempt off: once, only while it makes its calls, and so that what comes after them is not cut too."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from tasks.attempts import REMEMBERED, Attempts

JOB = UUID(int=7)


class Calls:
    """An attempt whose calls never end by themselves, and need a while to be given up properly."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self.calling, self.clean, self.written = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.given_up = False
        self.cancellations_after = -1

    async def run(self) -> bool:
        """Whether it was cut."""
        attempt = self._attempts.begin(JOB, 1)
        try:
            self.calling.set()
            await self._call()
        except asyncio.CancelledError:
            if not attempt.cut:
                raise
        finally:
            self._attempts.end(attempt)
        self.cancellations_after = attempt.task.cancelling()
        await self.written.wait()
        return attempt.cut

    async def _call(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await self.clean.wait()
            self.given_up = True


async def test_it_is_cut_once_however_often_it_is_said() -> None:
    """A second cancellation would hit the giving up of its call: a connection left open, a program left running."""
    attempts = Attempts()
    calls = Calls(attempts)
    running = asyncio.create_task(calls.run())
    await calls.calling.wait()
    for _ in range(3):
        assert attempts.cut(JOB, 1)
        await asyncio.sleep(0)
    assert len(attempts.tasks) == 1, "its call is still being given up"
    calls.clean.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert calls.given_up
    assert not attempts.cut(JOB, 1), "its calls are over"
    assert calls.cancellations_after == 0
    calls.written.set()
    assert await running


async def test_what_is_cut_by_a_stop_is_not_taken_for_cut() -> None:
    attempts = Attempts()
    calls = Calls(attempts)
    calls.clean.set()
    running = asyncio.create_task(calls.run())
    await calls.calling.wait()
    [task] = attempts.tasks
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert attempts.tasks == set()


async def test_another_claim_of_the_same_job_is_another_attempt() -> None:
    attempts = Attempts()
    calls = Calls(attempts)
    running = asyncio.create_task(calls.run())
    await calls.calling.wait()
    assert not attempts.cut(JOB, 2)
    assert not attempts.cut(UUID(int=8), 1)
    attempts.cut(JOB, 1)
    calls.clean.set()
    calls.written.set()
    assert await running


async def test_what_is_expected_is_cut_from_its_beginning_and_once() -> None:
    attempts = Attempts()
    attempts.expect(JOB, 1)
    first = attempts.begin(JOB, 1)
    assert first.cut
    attempts.end(first)
    again = attempts.begin(JOB, 1)
    assert not again.cut
    attempts.end(again)


async def test_the_latest_of_what_is_expected_are_remembered() -> None:
    attempts = Attempts()
    for number in range(REMEMBERED + 1):
        attempts.expect(UUID(int=number), 1)
    oldest, newest = attempts.begin(UUID(int=0), 1), attempts.begin(UUID(int=REMEMBERED), 1)
    assert (oldest.cut, newest.cut) == (False, True)
