"""Where a process can be made to halt: it says so through a pipe, and stands still until it is told to go on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from gateway.journal.journal import PAUSE_S
from gateway.redis_line import RedisAway

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from multiprocessing.connection import Connection

    from tasks.run import Runner


class Step(StrEnum):
    """The steps of a message through a worker, and of a release through a dispatcher."""

    BEFORE_CLAIM = "before_claim"
    AFTER_CLAIM = "after_claim"
    ANSWERED = "answered"
    """The provider's answer has come to its adapter, and nobody else knows of it."""
    BEFORE_FINISH = "before_finish"
    """The answer is here and paid for, and the journal has it."""
    BEFORE_STORE = "before_store"
    """The verdict is made."""
    BEFORE_ANNOUNCE = "before_announce"
    AFTER_ANNOUNCE = "after_announce"
    """Before the acknowledgement."""
    BEFORE_PUBLISH = "before_publish"
    """The dispatcher's: `queued` is committed."""


PLACES: dict[Step, tuple[str, str, bool]] = {
    Step.BEFORE_CLAIM: ("store", "claim", True),
    Step.AFTER_CLAIM: ("store", "claim", False),
    Step.ANSWERED: ("adapter", "complete", False),
    Step.BEFORE_FINISH: ("analyst", "analyze", False),
    Step.BEFORE_STORE: ("store", "succeed", True),
    Step.BEFORE_ANNOUNCE: ("announcer", "ended", True),
    Step.AFTER_ANNOUNCE: ("announcer", "ended", False),
}
"""Part of the runner (or its provider's adapter), its method, and whether to halt before it (else after it)."""


def halt_runner(runner: Runner, at: Step, pipe: Connection) -> None:
    """Make a worker's runner halt at a step."""
    part_name, method, before = PLACES[at]
    part = _adapter(runner) if part_name == "adapter" else getattr(runner, part_name)
    told = _written(runner) if at in (Step.BEFORE_FINISH, Step.BEFORE_STORE) else None
    setattr(part, method, halting(getattr(part, method), at, pipe, before=before, once=told))


def _written(runner: Runner) -> Callable[[], Awaitable[object]]:
    """What waits until Redis has all that is on its way; it does not wait for a Redis that is away."""

    async def written() -> None:
        await asyncio.sleep(2 * PAUSE_S)  # the journal's timer is older than this one
        with suppress(RedisAway):
            await runner.announcer._line.ask(("PING",))

    return written


def _adapter(runner: Runner) -> Any:
    [provider] = runner.incarnation.providers
    return runner.analyst._gateway.providers.get(provider)[0]  # type: ignore[attr-defined]


def halting(
    method: Callable[..., Any],
    at: Step,
    pipe: Connection,
    *,
    before: bool,
    once: Callable[[], Awaitable[object]] | None = None,
) -> Callable[..., Any]:
    """Wrap an async method so that it halts before its work, or after it; and not before `once` is done, too."""

    async def stand() -> None:
        if once is not None:
            await once()
        await asyncio.to_thread(_stand, at, pipe)

    async def halted(*args: Any, **kwargs: Any) -> Any:
        if before:
            await stand()
        result = await method(*args, **kwargs)
        if not before:
            await stand()
        return result

    return halted


def _stand(at: Step, pipe: Connection) -> None:
    pipe.send(at)
    pipe.recv()
