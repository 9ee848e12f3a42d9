"""Peer: one process of callers over LiteLLM's Router, whose limits are counted in Redis and enforced before each call.

Runs in a virtual environment of its own (`ops.bench.litellm_venv`) and so imports nothing of this project. Its one
argument is JSON: {"base_url", "model", "max_tokens", "content", "limits", "callers", "redis"}. Prints "ready", begins
at SIGUSR1, and calls until it is killed.

Set up as somebody would who knows it: `enforce_model_rate_limits`, which refuses before the call where a
limit's minute is used up; tokens are reserved by `max_tokens` and corrected afterwards where input and output have
limits of their own. The Router's retries are off, as for every limit it enforces; callers who are refused, by it or by
the provider, come again after what they are told, at most ten seconds, with jitter.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from random import uniform
from typing import Any

import litellm  # type: ignore[import-not-found,unused-ignore]
import uvloop
from litellm import Router

LONGEST_WAIT_S = 10.0
"""The Router tells callers "60" whatever is left of its minute: who believes it sleeps through the next one."""


async def run(question: dict[str, Any]) -> None:
    """Call for ever, once told to begin."""
    deployment = {
        "model": question["model"],
        "api_base": question["base_url"],
        "api_key": "bench",
        **question["limits"],
    }
    router = Router(
        model_list=[{"model_name": "strict", "litellm_params": deployment, "model_info": {"id": "strict-1"}}],
        optional_pre_call_checks=["enforce_model_rate_limits"],
        num_retries=0,
        **question["redis"],
    )
    begin = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, begin.set)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await begin.wait()
    await asyncio.gather(*(_caller(router, question) for _ in range(question["callers"])))


async def _caller(router: Any, question: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": question["content"]}]
    refused = 0
    while True:
        try:
            await router.acompletion(model="strict", messages=messages, max_tokens=question["max_tokens"])
            refused = 0
        except litellm.RateLimitError as error:
            refused += 1
            await asyncio.sleep(_wait_s(error, refused))


def _wait_s(error: Exception, refused: int) -> float:
    """Seconds to wait after the given refusal in a row: what was told, else exponential; bounded, with jitter."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    headers = getattr(error, "litellm_response_headers", None) or headers
    told_s = float(headers.get("retry-after") or 2.0 ** min(refused, 10))
    return uniform(0.5, 1.0) * min(told_s, LONGEST_WAIT_S)


if __name__ == "__main__":
    litellm.suppress_debug_info = True
    uvloop.run(run(json.loads(sys.argv[1])))
