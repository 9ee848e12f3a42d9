"""Peer: the official SDK alone, over aiohttp on uvloop, a number of calls in flight.

A program of its own, so that its CPU is its own: reads {"base_url", "body", "calls", "in_flight"} as JSON from stdin,
prints {"cpu_ms_per_call"}.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from typing import Any

import uvloop
from openai import AsyncOpenAI, DefaultAioHttpClient


async def run(question: dict[str, Any]) -> dict[str, float]:
    """Warm up with as many calls as are to be in flight, then measure."""
    # The SDK's own limits: its aiohttp transport takes 1,000 connections.
    async with AsyncOpenAI(
        base_url=question["base_url"], api_key="bench", max_retries=0, http_client=DefaultAioHttpClient()
    ) as client:
        await _calls(client, question["body"], question["in_flight"], question["in_flight"])
        before = _cpu_s()
        await _calls(client, question["body"], question["calls"], question["in_flight"])
        return {"cpu_ms_per_call": (_cpu_s() - before) * 1_000 / question["calls"]}


async def _calls(client: AsyncOpenAI, body: dict[str, Any], calls: int, in_flight: int) -> None:
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            await client.chat.completions.create(**body)

    await asyncio.gather(*(caller() for _ in range(in_flight)))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    json.dump(uvloop.run(run(json.load(sys.stdin))), sys.stdout)
