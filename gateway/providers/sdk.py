"""What all adapters over an official SDK of the httpx2 family share: one call, or one stream, under one deadline.

An adapter says how a request is written, how an answer is read and what its SDK's failures mean; the deadline, the
translation and the end of a stream are here. The call is the SDK's `post` with the bare response: the typed methods
rewrite the body by its type hints and build response models, 1.4 to 2.7 times the CPU of a call, and check nothing.
"""

from __future__ import annotations

import asyncio
import json
from abc import abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import httpx2

from gateway.errors import InvalidRequest, MalformedCompletion, ProviderError, Throttled, Timeout
from gateway.providers.base import Provider, check_stream_end, whole
from gateway.providers.wire import AVAILABLE_TIMEOUT_S, MOST_BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping

    from gateway.messages import Completion, CompletionRequest, FinishReason, JsonObject
    from gateway.providers.limit_headers import LimitHeaders

ONE_USE = {"Connection": "close"}
"""Sent with a stream. llama.cpp promises to keep the connection and drops it once the stream has ended, so the next
call would be sent into a closed one."""

NO_KEY = "none"
"""Sent where no key is configured. Without one an SDK would look for one in the environment itself."""


class EventStream(Protocol):
    """A stream of events that can be left early."""

    @property
    def response(self) -> Any:
        """What came before the events, as `SdkProvider.headers` takes it."""

    def __aiter__(self) -> AsyncIterator[Any]:
        """Yield the events."""

    async def close(self) -> None:
        """Close the connection."""


class BodyTooLong(httpx2.DecodingError):
    """An answer is longer than `MOST_BODY_BYTES`, decompressed."""


class BoundedAnswers(httpx2.AsyncClient):
    """Put before an SDK's own client: a whole answer is read up to `MOST_BODY_BYTES`. A stream is not bounded here."""

    async def send(self, request: httpx2.Request, *, stream: bool = False, **kwargs: Any) -> httpx2.Response:
        """Send a request as `httpx2.AsyncClient.send` does.

        Raises:
            BodyTooLong: of a whole answer.
        """
        response = await super().send(request, stream=True, **kwargs)
        if stream:
            return response
        try:
            return await _read_bounded(response)
        finally:
            await response.aclose()


class SdkProvider(Provider):
    """A provider whose SDK posts JSON and streams server-sent events."""

    failures: ClassVar[tuple[type[Exception], ...]]
    """What a call through the SDK may raise because of the other side."""

    limit_headers: ClassVar[LimitHeaders]
    """How it tells its limits."""

    @abstractmethod
    def body(self, request: CompletionRequest) -> JsonObject:
        """Write the request."""

    @abstractmethod
    async def post(self, request: CompletionRequest, body: JsonObject) -> Any:
        """Send it and return the bare response, as `read` takes it."""

    @abstractmethod
    async def post_stream(self, request: CompletionRequest, body: JsonObject) -> EventStream:
        """Send it and return the SDK's stream of events, as `read_event` takes them."""

    @abstractmethod
    async def ask_for_models(self) -> None:
        """Ask for the list of models: free of charge."""

    @abstractmethod
    def read(self, response: Any, request: CompletionRequest) -> Completion:
        """Read a whole answer, finished or not."""

    @abstractmethod
    def read_event(self, event: Any) -> tuple[str, FinishReason | None]:
        """Read one event's text ("" if it has none) and why the model stopped, once it did."""

    @abstractmethod
    def translate(self, error: Exception) -> ProviderError:
        """Return our error for one of `failures`."""

    def headers(self, response: Any) -> Mapping[str, str]:
        """Return a bare response's headers, found by lower-case names."""
        found: Mapping[str, str] = response.headers
        return found

    async def complete(self, request: CompletionRequest) -> Completion:
        """Ask once; see `Provider.complete`."""
        allowed_s = self.deadline_s(request)
        body = self.body(request)
        with self._translated(allowed_s), _unsendable_refused():
            async with asyncio.timeout(allowed_s):
                response = await self.post(request, body)
        with self.limit_headers.added_to_errors(self.headers(response)):
            return whole(self.limit_headers.added_to(self.read(response, request)))

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[str, None]:
        """Ask once and yield text; see `Provider.stream`.

        The deadline is set around each wait and never across a `yield`, where it would cancel the consumer's own work
        (PEP 789).
        """
        allowed_s = self.deadline_s(request)
        deadline = asyncio.get_running_loop().time() + allowed_s
        finish_reason: FinishReason | None = None
        body = self.body(request)
        with self._translated(allowed_s), _unsendable_refused():
            async with asyncio.timeout_at(deadline):
                stream = await self.post_stream(request, body)
        try:
            with self.limit_headers.added_to_errors(self.headers(stream.response)):
                events = aiter(stream)
                while (event := await self._next(events, deadline, allowed_s)) is not None:
                    text, stopped = self.read_event(event)
                    finish_reason = stopped or finish_reason
                    if text:
                        yield text
                check_stream_end(finish_reason)
        finally:
            await stream.close()

    async def is_available(self) -> bool:
        """Ask for the models. True too where the server is only busy, or has no such list."""
        try:
            with self._translated(AVAILABLE_TIMEOUT_S):
                async with asyncio.timeout(AVAILABLE_TIMEOUT_S):
                    await self.ask_for_models()
        except (Throttled, InvalidRequest):
            return True
        except ProviderError:
            return False
        return True

    async def _next(self, events: AsyncIterator[object], deadline: float, allowed_s: float) -> object | None:
        """Return the next event, or None at the end."""
        with self._translated(allowed_s):
            try:
                async with asyncio.timeout_at(deadline):
                    return await anext(events, None)
            except (ValueError, RecursionError) as error:
                raise MalformedCompletion("a chunk of the stream is not JSON") from error

    @contextmanager
    def _translated(self, allowed_s: float) -> Iterator[None]:
        """Let no exception of the SDK, its transport or the deadline pass as it is."""
        try:
            yield
        except TimeoutError as error:
            raise Timeout(f"no answer within {allowed_s:g} s") from error
        except self.failures as error:
            raise self.translate(error) from error


async def _read_bounded(response: httpx2.Response) -> httpx2.Response:
    """Return the response with its body. One that says its length, and is not compressed, need not be counted."""
    said = response.headers.get("content-length", "")
    if said.isdecimal() and int(said) <= MOST_BODY_BYTES and "content-encoding" not in response.headers:
        await response.aread()
        return response
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MOST_BODY_BYTES:
            raise BodyTooLong(f"the response is longer than {MOST_BODY_BYTES:,} bytes", request=response.request)
    decoded = ("content-encoding", "content-length", "transfer-encoding")
    kept = [(name, value) for name, value in response.headers.raw if name.decode("latin-1").lower() not in decoded]
    return httpx2.Response(response.status_code, headers=kept, content=bytes(body), request=response.request)


@contextmanager
def _unsendable_refused() -> Iterator[None]:
    """Turn what cannot be written as UTF-8 JSON into InvalidRequest; nothing was sent then."""
    try:
        yield
    except json.JSONDecodeError:
        raise  # of what came back
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the request cannot be written as UTF-8 JSON: {type(error).__name__}") from error
