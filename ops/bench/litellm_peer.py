"""Peer: LiteLLM's Router with its limits in Redis, a number of calls in flight.

Runs in a virtual environment of its own (`ops.bench.litellm_venv`) and so imports nothing of this project. Reads
{"base_url", "body", "calls", "in_flight", "redis"} as JSON from stdin, prints {"cpu_ms_per_call"}.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from typing import Any

import uvloop
from litellm import Router  # type: ignore[import-not-found,unused-ignore]

UNREACHED = 10_000_000
"""A limit that is counted and never met: what is measured is the counting."""


async def run(question: dict[str, Any]) -> dict[str, float]:
    """Warm up with as many calls as are to be in flight, then measure."""
    body = question["body"]
    deployment = {
        "model": f"openai/{body['model']}",
        "api_base": question["base_url"],
        "api_key": "bench",
        "rpm": UNREACHED,
        "tpm": UNREACHED,
    }
    router = Router(
        model_list=[{"model_name": body["model"], "litellm_params": deployment}],
        routing_strategy="usage-based-routing-v2",
        num_retries=0,
        **question["redis"],
    )
    await _calls(router, body, question["in_flight"], question["in_flight"])
    before = _cpu_s()
    await _calls(router, body, question["calls"], question["in_flight"])
    return {"cpu_ms_per_call": (_cpu_s() - before) * 1_000 / question["calls"]}


async def _calls(router: Any, body: dict[str, Any], calls: int, in_flight: int) -> None:
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            await router.acompletion(**body)

    await asyncio.gather(*(caller() for _ in range(in_flight)))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    answer = uvloop.run(run(json.load(sys.stdin)))
    sys.stdout.write("\n" + json.dumps(answer))
