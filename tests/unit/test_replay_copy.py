"""A replay that goes on for long leaves its dispatcher time to say that it lives."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

import tasks.replay.copy as copying


async def test_a_replay_without_end_is_left_for_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def portion(_: Any, most: int) -> Any:
        await asyncio.sleep(0.001)
        return SimpleNamespace(state="making")

    monkeypatch.setattr(copying, "portion", portion)
    monkeypatch.setattr(copying, "LONGEST_S", 0.02)
    async with asyncio.timeout(5.0):
        assert await copying.copy(None, 200) >= 1  # type: ignore[arg-type]
