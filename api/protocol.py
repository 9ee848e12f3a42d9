"""uvicorn's HTTP protocol, with what it leaves out: a bound for slow senders, and a problem document for no HTTP."""

from __future__ import annotations

import asyncio
import logging
import uuid

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.guard import ALWAYS
from api.limits import HEAD_WITHIN_S
from api.problems import MEDIA_TYPE, NOT_HTTP, Problem

log = logging.getLogger("api.access")


class Protocol(H11Protocol):
    """Bounds the head of a request in bytes, as h11 does (httptools does not), and in time, which uvicorn does not."""

    _giving_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._have_head()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """See uvicorn."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._have_head()

    def on_response_complete(self) -> None:
        """See uvicorn. A request that waits in the pipeline already has its head read in here."""
        self._await_head()
        super().on_response_complete()

    def _await_head(self) -> None:
        self._have_head()
        self._giving_up = self.loop.call_later(HEAD_WITHIN_S, self.transport.close)

    def _have_head(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that could not be read as a request, unless an answer is on its way, and hang up."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(msg)
        self.transport.close()

    def _refuse(self, msg: str) -> None:
        request_id = uuid.uuid4().hex
        body = bytes(Problem(NOT_HTTP, msg).response("", request_id).body)
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *ALWAYS,
            (b"x-request-id", request_id.encode()),
        ]
        response = h11.Response(status_code=NOT_HTTP.status, headers=headers, reason=b"Bad Request")
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        log.info("no HTTP request", extra={"status": NOT_HTTP.status, "request_id": request_id})
