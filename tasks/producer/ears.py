"""Listening to a job's events, sync and async. Without Redis, or once it fails, an ear is a plain pause."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import UUID

from .watch import REDIS_TIMEOUT_S, channel, note_deaf, says_ended


class Ear:
    """One job's subscription. `redis` is a redis-py client, or None.

    Any exception of it makes the ear deaf, whatever its class: the client may be the caller's, of a package of its own
    choice, and nothing is lost but speed.
    """

    def __init__(self, redis: Any, job_id: UUID) -> None:
        self._redis = redis
        self._job_id = job_id
        self._pubsub: Any = None

    @property
    def hearing(self) -> bool:
        """Whether the subscription stands."""
        return self._pubsub is not None

    def __enter__(self) -> Ear:
        if self._redis is not None:
            try:
                self._pubsub = self._redis.pubsub()
                self._pubsub.subscribe(channel(self._job_id))
                # The confirmation: from here on no event is missed, so the first look may follow.
                self._pubsub.get_message(timeout=REDIS_TIMEOUT_S)
            except Exception as error:
                self._go_deaf(error)
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def listen(self, pause_s: float) -> None:
        """Return when the job is said to have ended, or Redis fails, or `pause_s` seconds are over."""
        if not self.hearing:
            time.sleep(pause_s)
            return
        until = time.monotonic() + pause_s
        try:
            while (left_s := until - time.monotonic()) > 0:
                if says_ended(self._pubsub.get_message(timeout=left_s)):
                    return
        except Exception as error:
            self._go_deaf(error)

    def _go_deaf(self, error: Exception) -> None:
        note_deaf(self._job_id, error)
        self._close()

    def _close(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            pubsub.close()


class AsyncEar:
    """The same over a `redis.asyncio` client."""

    def __init__(self, redis: Any, job_id: UUID) -> None:
        self._redis = redis
        self._job_id = job_id
        self._pubsub: Any = None

    @property
    def hearing(self) -> bool:
        """Whether the subscription stands."""
        return self._pubsub is not None

    async def __aenter__(self) -> AsyncEar:
        if self._redis is not None:
            try:
                self._pubsub = self._redis.pubsub()
                await self._pubsub.subscribe(channel(self._job_id))
                await self._pubsub.get_message(timeout=REDIS_TIMEOUT_S)
            except Exception as error:
                await self._go_deaf(error)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def listen(self, pause_s: float) -> None:
        """Return when the job is said to have ended, or Redis fails, or `pause_s` seconds are over."""
        if not self.hearing:
            await asyncio.sleep(pause_s)
            return
        until = time.monotonic() + pause_s
        try:
            while (left_s := until - time.monotonic()) > 0:
                if says_ended(await self._pubsub.get_message(timeout=left_s)):
                    return
        except Exception as error:
            await self._go_deaf(error)

    async def _go_deaf(self, error: Exception) -> None:
        note_deaf(self._job_id, error)
        await self._close()

    async def _close(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            await pubsub.aclose()
