"""What every request passes first and last: its id, the key, the size of its body, the log line, and no internals out.

Plain ASGI around the application, so that whatever happens inside or before it is answered the same way. Knows no route
but the open ones, and no job.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.limits import BODY_WITHIN_S, MAX_BODY_BYTES, MAX_IN_FLIGHT, MAX_TEXT
from api.problems import BUSY, FAULT, NOT_HTTP, STOPPING, TOO_LARGE, TOO_SLOW, UNAUTHORIZED, Problem, later

log = logging.getLogger("api.access")

OPEN = frozenset({"/health", "/health/ready"})
"""What needs no key: the probes of orchestrators carry none, and the answers name no address, tenant or job. They take
no body."""

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""A caller's own `X-Request-ID` that is taken over; any other is replaced."""

MAX_METHOD_CHARS = 20
"""Of a method in the log; no real one is longer."""

GONE_STATUS = 499
"""What the log says of a caller that went away before its answer (nginx's number)."""

ALWAYS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


class ClientGone(Exception):
    """The caller hung up: there is nobody to answer."""


class Guard:
    """The ASGI application to serve. `key`: what callers must bring as `Authorization: Bearer`."""

    def __init__(
        self,
        app: ASGIApp,
        key: str,
        *,
        body_within_s: float = BODY_WITHIN_S,
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> None:
        self._app = app
        self._digest = _digest(key.encode())
        self._body_within_s = body_within_s
        self._max_in_flight = max_in_flight
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI 3."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, send)
        try:
            await self._answer(exchange, receive)
        except ClientGone:
            exchange.status = GONE_STATUS
        finally:
            exchange.note()

    async def _answer(self, exchange: Exchange, receive: Receive) -> None:
        try:
            _check_framing(exchange)
            if exchange.scope["path"] in OPEN:
                # No place is taken and no body read: whoever has no key costs those who have one nothing.
                await self._app(exchange.scope, Replay(b"", receive), exchange.send)
                return
            self._check_key(exchange.header(b"authorization"))
            with self._place():
                body = await self._body(exchange.header(b"content-length"), receive)
                await self._app(exchange.scope, Replay(body, receive), exchange.send)
        except Problem as problem:
            await exchange.refuse(problem)
        except ClientGone:
            raise
        except asyncio.CancelledError:
            # Only the server cancels, when the grace of its end is over; the task ends with this answer.
            await exchange.refuse(later(STOPPING, "what was asked for may have been done, or not"))
        except Exception:
            # The one place where anything at all is caught: it is told to the log, and not to the caller.
            log.exception("fault", extra={"request_id": exchange.request_id})
            await exchange.refuse(Problem(FAULT, "it is in the log under this request_id"))

    def _check_key(self, given: bytes) -> None:
        scheme, _, token = given.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(_digest(token.strip()), self._digest):
            error = ', error="invalid_token"' if given else ""
            challenge = f'Bearer realm="assayline"{error}'
            raise Problem(UNAUTHORIZED, _hint(given), headers={"WWW-Authenticate": challenge})

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the places, for as long as a request is answered."""
        if self._in_flight >= self._max_in_flight:
            raise later(BUSY, f"{self._max_in_flight} requests are being answered, and that is the most")
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    async def _body(self, length: bytes, receive: Receive) -> bytes:
        """Read the whole body, within its bounds."""
        if length.isdigit() and (len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES):
            raise _too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_within_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    body += message.get("body", b"")
                    if len(body) > MAX_BODY_BYTES:
                        raise _too_large()
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError as error:
            detail = f"it was not whole after {self._body_within_s:g} s"
            raise Problem(TOO_SLOW, detail, headers={"Connection": "close"}) from error


class Exchange:
    """One request and its answer: adds the headers that every answer has, and remembers its status for the log."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self._began = time.monotonic()
        self.status: int | None = None
        given = _header(scope, b"x-request-id").decode("latin-1")
        self.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        # The application reads it where it writes problems of its own.
        self.scope: Scope = {**scope, "request_id": self.request_id}

    def header(self, name: bytes) -> bytes:
        """A header of the request; empty where it is not there."""
        return _header(self.scope, name)

    async def send(self, message: Message) -> None:
        """See ASGI: `send`."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", []), *ALWAYS, (b"x-request-id", self.request_id.encode())]
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem, unless an answer is on its way."""
        if self.status is None:
            response = problem.response(self.scope["path"], self.request_id)
            await response(self.scope, _nothing, self.send)

    def note(self) -> None:
        """Write the log line. The query stays out of it: it may name a person."""
        level = logging.DEBUG if self.scope["path"] in OPEN else logging.INFO
        took_ms = round((time.monotonic() - self._began) * 1000, 1)
        facts: dict[str, Any] = {"status": self.status, "took_ms": took_ms, "request_id": self.request_id}
        log.log(
            level, "%s %s", self.scope["method"][:MAX_METHOD_CHARS], quote(self.scope["path"])[:MAX_TEXT], extra=facts
        )


class Replay:
    """The `receive` of the application: the body that was read, then whatever the server still says (a disconnect)."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._first: Message | None = {"type": "http.request", "body": body, "more_body": False}
        self._receive = receive

    async def __call__(self) -> Message:
        """See ASGI: `receive`."""
        first, self._first = self._first, None
        return await self._receive() if first is None else first


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for known, value in scope["headers"] if known == name), b"")


def _check_framing(exchange: Exchange) -> None:
    """Refuse a body with two ends: a proxy in front may see another request in what follows (RFC 9112, 6.1)."""
    if exchange.header(b"content-length") and exchange.header(b"transfer-encoding"):
        detail = "it has both Content-Length and Transfer-Encoding"
        raise Problem(NOT_HTTP, detail, headers={"Connection": "close"})


def _digest(token: bytes) -> bytes:
    """Of one length whatever the token's, so that comparing takes the same time for all."""
    return hashlib.sha256(token).digest()


def _hint(given: bytes) -> str:
    return "the key is wrong" if given else "send the key as `Authorization: Bearer <key>`"


def _too_large() -> Problem:
    return Problem(TOO_LARGE, errors=[("body", f"{MAX_BODY_BYTES} bytes is the most")])
