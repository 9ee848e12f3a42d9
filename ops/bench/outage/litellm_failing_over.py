"""Peer: LiteLLM's Router with a fallback model group and cooldowns, called steadily.

Runs in a virtual environment of its own (`ops.bench.litellm_venv`) and so imports nothing of this project. Its one
argument is JSON: {"primary", "secondary", "timeout_s", "per_s"}, the first two as base URLs. Prints "ready", begins at
SIGUSR1, and calls until it is killed. A line "asked MARKER" says what was asked for; a marker ends with the time, in
nanoseconds since 1970.

Set up as somebody would who knows it: by default a model group of one deployment never cools down, so the policy names
the errors for which it shall: after five failures, for five seconds, which is LiteLLM's own `cooldown_time`. The
Router's retries are off: each would go to the primary again before the fallback is asked.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from typing import Any

import litellm  # type: ignore[import-not-found,unused-ignore]
import uvloop
from litellm import Router
from litellm.types.router import AllowedFailsPolicy  # type: ignore[import-not-found,unused-ignore]

ALLOWED_FAILS = 4
COOLDOWN_S = 5.0


async def run(question: dict[str, Any]) -> None:
    """Call for ever, once told to begin."""
    router = Router(
        model_list=[
            {
                "model_name": name,
                "litellm_params": {
                    "model": "openai/bench",
                    "api_base": question[name],
                    "api_key": "bench",
                    "timeout": question["timeout_s"],
                },
                "model_info": {"id": name},
            }
            for name in ("primary", "secondary")
        ],
        fallbacks=[{"primary": ["secondary"]}],
        num_retries=0,
        cooldown_time=COOLDOWN_S,
        allowed_fails_policy=AllowedFailsPolicy(
            InternalServerErrorAllowedFails=ALLOWED_FAILS,
            TimeoutErrorAllowedFails=ALLOWED_FAILS,
            RateLimitErrorAllowedFails=ALLOWED_FAILS,
        ),
    )
    begin = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, begin.set)
    _say("ready")
    await begin.wait()
    due, number, calls = loop.time(), 0, set()
    while True:
        marker = f"litellm.{number}.{time.time_ns()}"
        _say(f"asked {marker}")
        call = asyncio.create_task(_call(router, marker))
        calls.add(call)
        call.add_done_callback(calls.discard)
        due, number = due + 1 / question["per_s"], number + 1
        await asyncio.sleep(due - loop.time())


async def _call(router: Any, marker: str) -> None:
    try:
        await router.acompletion(model="primary", messages=[{"role": "user", "content": f"marker-{marker} "}])
    except Exception as error:  # what was not answered is seen in the endpoints' records
        _say(f"{type(error).__name__} {marker}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    litellm.suppress_debug_info = True
    uvloop.run(run(json.loads(sys.argv[1])))
