"""A provider double at the wire: an OpenAI-compatible server on a thread of the test's process.

It counts calls and holds them open on demand. A call is known by the marker in its content (`marker-<word>`).
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Coroutine

LABELS = ("invoice", "complaint", "other")
ANSWER = {"evidence": "the amount due", "label": LABELS[0], "confidence_percent": 90}
INPUT_TOKENS, OUTPUT_TOKENS = 700, 30

_MARKER = re.compile(r"marker-([0-9a-z]+)")


class Wire:
    """The server. Methods may be called from any thread but its own."""

    def __init__(self) -> None:
        self.url = ""
        self._calls: Counter[str] = Counter()
        self._held: dict[str, asyncio.Event] = {}
        self._held_from: dict[str, int] = {}
        self._spoilt: set[str] = set()
        self._refused: dict[str, int] = {}
        self._rejected: dict[str, tuple[int, str]] = {}
        self._keys: Counter[str] = Counter()
        self._hung_up: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire")

    def start(self) -> None:
        """Listen on a free port."""
        self._thread.start()
        self._on_loop(self._listen())

    def stop(self) -> None:
        """Let go of what is held, and end."""
        self._on_loop(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def calls(self, marker: str) -> int:
        """How many calls for `marker` arrived."""
        return self._calls[marker]

    def hold(self, marker: str, *, from_call: int = 1) -> None:
        """Leave calls for `marker` open until `release`, from this one of them on."""
        self._held_from[marker] = from_call
        self._on_loop(self._hold(marker))

    def hung_up(self, marker: str) -> int:
        """How many calls for `marker` were held when their caller closed the connection."""
        return self._hung_up[marker]

    def spoil(self, marker: str) -> None:
        """Answer the first call for `marker` with what is no answer, so that another one asks for its repair."""
        self._spoilt.add(marker)

    def release(self, marker: str) -> None:
        """Answer the calls that are held, and those to come."""
        self._on_loop(self._release(marker))

    def refuse(self, marker: str, status: int) -> None:
        """Answer calls for `marker` with an HTTP error."""
        self._refused[marker] = status

    def reject_key(self, key: str, status: int = 401, code: str = "invalid_api_key") -> None:
        """Answer all calls with this key with an HTTP error."""
        self._rejected[key] = status, code

    def calls_with(self, key: str) -> int:
        """How many calls with this key arrived."""
        return self._keys[key]

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> None:
        application = web.Application()
        application.router.add_post("/v1/chat/completions", self._complete)
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def _close(self) -> None:
        for marker in tuple(self._held):
            await self._release(marker)
        await self._runner.cleanup()

    async def _hold(self, marker: str) -> None:
        self._held.setdefault(marker, asyncio.Event())

    async def _release(self, marker: str) -> None:
        self._held.pop(marker).set()

    async def _answer_time(self, held: asyncio.Event, marker: str) -> None:
        try:
            await held.wait()
        except asyncio.CancelledError:
            self._hung_up[marker] += 1
            raise

    async def _complete(self, request: web.Request) -> web.Response:
        found = _MARKER.search(await request.text())
        marker = found[1] if found else ""
        self._calls[marker] += 1
        number = self._calls[marker]
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self._keys[key] += 1
        if (held := self._held.get(marker)) and number >= self._held_from[marker]:
            await self._answer_time(held, marker)
        if status := self._refused.get(marker):
            return web.json_response({"error": {"message": "refused by the test", "code": None}}, status=status)
        if rejected := self._rejected.get(key):
            status, code = rejected
            return web.json_response({"error": {"message": "refused by the test", "code": code}}, status=status)
        return web.json_response(
            _completion("no idea" if number == 1 and marker in self._spoilt else json.dumps(ANSWER))
        )


def _completion(text: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-test",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": INPUT_TOKENS,
            "completion_tokens": OUTPUT_TOKENS,
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        },
    }
