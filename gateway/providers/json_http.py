"""JSON over HTTP for the providers that have no SDK: one request, its answer bounded, broken connections in our words.

It rides on aiohttp itself, as the SDKs do through their httpx2 transports: its pool finds a connection at the same
price however many are open, where httpx2's own searches all of them (`docs/adr/0003`). Must not know any provider: what
a status or a body means is the adapter's business.

Nothing is repeated here. aiohttp would send an idempotent method twice when a kept connection breaks; so questions are
POSTed, and GET only asks whether somebody is there. Redirects are not followed (a key must not wander), proxies and
passwords of the environment are not read, and cookies are not kept.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError

from gateway.errors import InvalidRequest, MalformedCompletion, ProviderError, Timeout, Unreachable
from gateway.providers.wire import (
    AVAILABLE_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    MOST_BODY_BYTES,
    TRANSPORT_FAILURES,
    UNLIMITED_CONNECTIONS,
    by_status,
    check_sendable_key,
    checked_base_url,
    from_transport,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping

    from gateway.providers.base import ProviderConfig

MOST_LINE_BYTES = 1024 * 1024
"""Longest line of a stream: a line carries a token or a few, or at most a whole answer of an ordinary length."""

KEEPALIVE_S = 4.0
"""How long an idle connection is kept: shorter than the 5 s after which most Python servers close theirs, or a call may
be sent into a closing connection."""

USER_AGENT = "assayline"


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer. `headers` finds a name in any case; `raw_headers` are those of the wire."""

    status: int
    headers: Mapping[str, str]
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def good(self) -> bool:
        """Whether the status is one of success. A redirect is none: it is not followed."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as text, for an error to keep; what is not UTF-8 is replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the body parsed.

        Raises:
            MalformedCompletion: it is not JSON. `raw_text` has it.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise MalformedCompletion("the response is not JSON", raw_text=self.text) from error


class Exchange:
    """One request under way, from the head of its answer on. Each wait ends at the deadline."""

    def __init__(self, response: aiohttp.ClientResponse, deadline: float, allowed_s: float) -> None:
        self._response = response
        self._deadline = deadline
        self._allowed_s = allowed_s

    @property
    def status(self) -> int:
        """The answer's status."""
        return self._response.status

    @property
    def good(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers, found by a name in any case."""
        return self._response.headers

    async def answer(self) -> Answer:
        """Read the answer to its end.

        Raises:
            ProviderError: the connection broke, the deadline passed, or the body is longer than `MOST_BODY_BYTES`.
        """
        body = b"".join([piece async for piece in self._pieces()])
        return Answer(self._response.status, self._response.headers, self._response.raw_headers, body)

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield the answer's lines as they come, without their ends; the last need not have one.

        Raises:
            ProviderError: as `answer` does, or a line is longer than `MOST_LINE_BYTES`.
        """
        rest, searched = bytearray(), 0
        async for piece in self._pieces():
            rest += piece
            while (end := rest.find(b"\n", searched)) >= 0:
                yield bytes(rest[:end]).removesuffix(b"\r")
                del rest[: end + 1]
                searched = 0
            searched = len(rest)
            if searched > MOST_LINE_BYTES:
                raise MalformedCompletion(f"a line of the stream is longer than {MOST_LINE_BYTES:,} bytes")
        if rest:
            yield bytes(rest).removesuffix(b"\r")

    async def _pieces(self) -> AsyncIterator[bytes]:
        read_bytes = 0
        while piece := await self._piece():
            read_bytes += len(piece)
            if read_bytes > MOST_BODY_BYTES:
                raise MalformedCompletion(f"the response is longer than {MOST_BODY_BYTES:,} bytes")
            yield piece

    async def _piece(self) -> bytes:
        # The deadline is set around each wait and never across a `yield`, where it would cancel the consumer's own
        # work (PEP 789).
        with translated(self._allowed_s):
            async with asyncio.timeout_at(self._deadline):
                return await self._response.content.readany()


class JsonHttp:
    """The connections to one provider. Lives on one event loop; the first connection comes with the first call."""

    def __init__(self, config: ProviderConfig, headers: Mapping[str, str]) -> None:
        """Check what every call will use; nothing connects.

        Raises:
            ConfigurationError: the base URL or the key cannot be used. Neither password nor key is shown.
        """
        self._provider = config.name
        self._base_url = checked_base_url(config)
        check_sendable_key(config.name, config.api_key)
        self._headers = {"user-agent": USER_AGENT, **{name.lower(): value for name, value in headers.items()}}
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def post(self, path: str, body: object, allowed_s: float) -> Answer:
        """Send `body` as JSON and return the whole answer, of whatever status.

        Raises:
            InvalidRequest: the body cannot be written as UTF-8 JSON; nothing was sent.
            ProviderError: the connection broke, the deadline passed, or the answer is too long.
        """
        async with self.exchange("POST", path, body, allowed_s) as exchange:
            return await exchange.answer()

    async def is_there(self, path: str) -> bool:
        """Whether a GET of `path` is answered, the key not rejected, within 3 s; see `Provider.is_available`.

        A server that is only busy is there, and so is one that does not know the path.
        """
        try:
            async with self.exchange("GET", path, None, AVAILABLE_TIMEOUT_S) as exchange:
                answer = await exchange.answer()
        except ProviderError:
            return False
        unknown = answer.status >= 400 and by_status(answer.status) is InvalidRequest
        return answer.good or answer.status == 429 or unknown

    @asynccontextmanager
    async def exchange(
        self, method: Literal["GET", "POST"], path: str, body: object, allowed_s: float
    ) -> AsyncGenerator[Exchange, None]:
        """Send a request and hand over its answer from the head on. What is not read by the end is hung up on.

        Raises:
            InvalidRequest: the body cannot be written as UTF-8 JSON; nothing was sent.
            ProviderError: the connection broke, or the deadline (`allowed_s` from now, in seconds) passed.
        """
        deadline = asyncio.get_running_loop().time() + allowed_s
        content = None if body is None else _written(body)
        with translated(allowed_s):
            async with asyncio.timeout_at(deadline):
                response = await self._send(method, path, content)
        try:
            yield Exchange(response, deadline, allowed_s)
        finally:
            response.close()

    async def aclose(self) -> None:
        """Close all connections; no request is sent after that."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _send(self, method: str, path: str, content: bytes | None) -> aiohttp.ClientResponse:
        headers = self._headers if content is None else {**self._headers, "content-type": "application/json"}
        return await self._open_session().request(
            method,
            self._base_url + path,
            data=content,
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise Unreachable(f"provider {self._provider!r} is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=UNLIMITED_CONNECTIONS, keepalive_timeout=KEEPALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


@contextmanager
def translated(allowed_s: float) -> Iterator[None]:
    """Let no exception of aiohttp or of the deadline pass as it is."""
    try:
        yield
    except aiohttp.ServerTimeoutError as error:
        # The only wait that aiohttp itself bounds is the one for a connection.
        raise Unreachable(f"no connection within {CONNECT_TIMEOUT_S:g} s") from error
    except TimeoutError as error:
        raise Timeout(f"no answer within {allowed_s:g} s") from error
    except TRANSPORT_FAILURES as error:
        # wire knows what the SDKs' transport makes of an undecodable body; here aiohttp itself decodes.
        if isinstance(error.__cause__, ContentEncodingError):
            raise MalformedCompletion("the response's body cannot be decompressed") from error
        raise from_transport(error) from error


def _written(body: object) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the request cannot be written as UTF-8 JSON: {type(error).__name__}") from error
