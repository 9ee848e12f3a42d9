"""uvicorn's HTTP protocol, but for one answer: what is no HTTP request at all gets a problem document too."""

from __future__ import annotations

import uuid

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.problems import MEDIA_TYPE, NOT_HTTP, Problem


class Protocol(H11Protocol):
    """Bounds the head of a request to `api.limits.MAX_HEAD_BYTES`, as h11 does; httptools has no such bound."""

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that could not be read as a request, and hang up."""
        body = bytes(Problem(NOT_HTTP, msg).response("", uuid.uuid4().hex).body)
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        response = h11.Response(status_code=NOT_HTTP.status, headers=headers, reason=b"Bad Request")
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
