"""Wire doubles for adapters (`llmock`, a plugin, for what it can say, `wire` for what it cannot), and limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from limitworld import Admitted, LimitWorld

from gateway.catalog_entries import Limits
from gateway.limits.rates import Need
from gateway.messages import CompletionRequest, Message
from gateway.providers.base import Provider, ProviderConfig
from gateway.providers.registry import create

KEY = "sk-test-0123456789abcdef"
HANG_GUARD_S = 20.0
"""Longest wait for a signal before a test is called hung; no test waits this long when it passes."""


def _completion_body(**changes: Any) -> dict[str, Any]:
    """A good answer as OpenAI writes it; `changes` replace its top-level fields."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-served",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "hello", "refusal": None}, "finish_reason": "stop"}
        ],
        "usage": {
            "prompt_tokens": 20,
            "completion_tokens": 7,
            "total_tokens": 27,
            "prompt_tokens_details": {"cached_tokens": 16},
        },
    } | changes


@dataclass
class WireRequest:
    """One request as it came over the wire."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        """Answer whole: JSON unless `body` is bytes."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {"content-type": "application/json", "content-length": str(len(raw))} | (headers or {})
        await self.send_raw(_head(status, lines) + raw)

    async def start_stream(self) -> None:
        await self.send_raw(_head(200, {"content-type": "text/event-stream", "connection": "close"}))

    async def send_event(self, data: str) -> None:
        await self.send_raw(f"data: {data}\n\n".encode())

    async def send_text(self, text: str, finish_reason: str | None = None) -> None:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
        await self.send_event(json.dumps({"id": "c", "choices": [choice]}))

    async def send_raw(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Drop the connection with an RST."""
        linger_off = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_off)
        self.writer.transport.abort()

    async def until_client_is_gone(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self.reader.read()


Handler = Callable[[WireRequest], Awaitable[None]]


@dataclass
class Wire:
    """An HTTP/1.1 server of this test alone, in its event loop. `handler` answers each request."""

    url: str = ""
    handler: Handler | None = None
    requests: list[WireRequest] = field(default_factory=list)
    connections: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def answers(self, status: int = 200, body: Any = None, headers: dict[str, str] | None = None) -> None:
        """Answer every request alike."""
        sent = _completion_body() if body is None else body

        async def answer(request: WireRequest) -> None:
            await request.send(status, sent, headers)

        self.handler = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                request = await _read_request(reader, writer)
                self.requests.append(request)
                assert self.handler is not None, "the test set no handler"
                await self.handler(request)
        writer.close()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> WireRequest:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    raw = await reader.readexactly(int(headers.get("content-length", "0")))
    return WireRequest(method, path, headers, json.loads(raw) if raw else None, reader, writer)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    double = Wire()
    server = await asyncio.start_server(double.serve, "127.0.0.1", 0, backlog=4096)
    host, port = server.sockets[0].getsockname()
    double.url = f"http://{host}:{port}/v1"
    yield double
    server.close()
    await double.stop()


@pytest.fixture
async def build() -> AsyncIterator[Callable[..., Provider]]:
    """Build a provider from keyword arguments of ProviderConfig; all are closed at the end."""
    built: list[Provider] = []

    def builder(**settings: Any) -> Provider:
        defaults = {"name": "p", "dialect": "openai_compatible", "api_key": KEY}
        built.append(create(ProviderConfig(**{**defaults, **settings})))
        return built[-1]

    yield builder
    for provider in built:
        await provider.aclose()


@pytest.fixture
def provider(wire: Wire, build: Callable[..., Provider]) -> Provider:
    """The OpenAI-compatible adapter, pointed at `wire`."""
    return build(base_url=wire.url)


@pytest.fixture
def ask() -> Callable[..., CompletionRequest]:
    """Make a request; keyword arguments replace its fields."""

    def request(**changes: Any) -> CompletionRequest:
        defaults: dict[str, Any] = {
            "model": "gpt-4o",
            "messages": (Message("system", "Be short."), Message("user", "Say hello.")),
            "max_tokens": 100,
            "timeout_s": HANG_GUARD_S,
        }
        return CompletionRequest(**{**defaults, **changes})

    return request


@pytest.fixture
def completion_body() -> Callable[..., dict[str, Any]]:
    """Make a good answer as OpenAI writes it; keyword arguments replace its top-level fields."""
    return _completion_body


# Limits --------------------------------------------------------------------------------------------------------------

IDLE_S = 3_600.0
"""After so long every bucket is full."""


@pytest.fixture
def world(redis_url: str) -> Iterator[Callable[..., LimitWorld]]:
    """Make a world with some limits; its buckets are full."""
    made: list[LimitWorld] = []

    def make(*, fresh: bool = False, **limits: int) -> LimitWorld:
        made.append(LimitWorld(redis_url, Limits(**limits)))
        if not fresh:
            process = made[-1].process()
            first = made[-1].reserve(process, Need(1, 0, 0))
            assert isinstance(first, Admitted)
            made[-1].settle(first, None)
            made[-1].pass_s(IDLE_S)
        return made[-1]

    yield make
    for one in made:
        one.close()
