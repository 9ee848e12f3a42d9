"""Starts an `assayline` process with one of its mechanisms switched off, so that a bench can show what it is worth.

`python -m ops.bench.without MECHANISM worker …`. What stands in for the mechanism is what one would have without it: stock
parts, usual advice, no artificial slowness.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

from ops.bench.without_loop import LoopPerJob


def without_aiohttp() -> None:
    """The SDK's default transport: httpx2's own pool, unlimited as ours is."""
    import httpx2
    from openai import DefaultAsyncHttpxClient

    from gateway.providers import openai_compatible

    def pool(*, limits: httpx2.Limits, **rest: Any) -> Any:
        unlimited = httpx2.Limits(max_connections=None, keepalive_expiry=limits.keepalive_expiry)
        return DefaultAsyncHttpxClient(limits=unlimited, **rest)

    openai_compatible.DefaultAioHttpClient = pool  # type: ignore[misc, assignment]
