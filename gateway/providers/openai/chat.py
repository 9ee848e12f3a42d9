"""OpenAI's chat completions, spoken to OpenAI and to every server that copies them.

The official SDK makes the call, over its aiohttp transport: its default pool searches all
connections for each request. The call is the SDK's `post` with the bare response and not
`chat.completions.create`: the typed method rewrites the body by its type hints and builds response
models, 1.6 ms of CPU a call against 0.6 ms, at a hundred in flight on a two-core machine.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import httpx2
from openai import AsyncOpenAI, AsyncStream, DefaultAioHttpClient

from gateway.errors import ConfigurationError, InvalidRequest, MalformedCompletion, ProviderError, Throttled, Timeout
from gateway.messages import Capabilities, Completion, CompletionRequest, FinishReason
from gateway.providers.base import Provider, ProviderConfig, check_stream_end, read_options, whole
from gateway.providers.openai.chat_request import OpenAIOptions, chat_body
from gateway.providers.openai.chat_response import read_chunk, read_completion
from gateway.providers.openai.errors import SDK_FAILURES, translate
from gateway.providers.wire import AVAILABLE_TIMEOUT_S, CONNECT_TIMEOUT_S, UNLIMITED_CONNECTIONS, check_sendable_key

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

CHAT_PATH = "/chat/completions"
MODELS_PATH = "/models"
ONE_USE = {"Connection": "close"}
"""Sent with a stream. llama.cpp promises to keep the connection and drops it once the stream has ended, so the next
call would be sent into a closed one."""
NO_KEY = "none"
"""Sent where no key is configured. Without one the SDK would look for OPENAI_API_KEY itself."""

_Item = TypeVar("_Item")


class OpenAICompatible(Provider):
    """A provider that speaks OpenAI's chat completions. Options: `chat_request.OpenAIOptions`."""

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(config)
        self._options = read_options(OpenAIOptions, config)
        self._client = _client(config, self._options.keepalive_s)

    @property
    def capabilities(self) -> Capabilities:
        """Structured output as configured; streaming always."""
        return Capabilities(structured_output=self._options.structured_output, streaming=True)

    async def complete(self, request: CompletionRequest) -> Completion:
        """Ask once; see `Provider.complete`."""
        body = chat_body(request, self._options)
        with self._translated(self.deadline_s(request)):
            async with asyncio.timeout(self.deadline_s(request)):
                response = await self._post(body)
        return whole(read_completion(response, request.model, self.config.api_key))

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[str, None]:
        """Ask once and yield text; see `Provider.stream`.

        The deadline is set around each wait and never across a `yield`, where it would cancel the
        consumer's own work (PEP 789).
        """
        allowed_s = self.deadline_s(request)
        deadline = asyncio.get_running_loop().time() + allowed_s
        finish_reason: FinishReason | None = None
        with self._translated(allowed_s):
            async with asyncio.timeout_at(deadline):
                stream = await self._post_stream(chat_body(request, self._options) | {"stream": True})
        try:
            chunks = aiter(stream)
            while (chunk := await self._next(chunks, deadline, allowed_s)) is not None:
                text, stopped = read_chunk(chunk)
                finish_reason = stopped or finish_reason
                if text:
                    yield text
        finally:
            await stream.close()
        check_stream_end(finish_reason)

    async def is_available(self) -> bool:
        """Ask for the list of models: free of charge. True too where the server is only busy, or has no such list."""
        try:
            with self._translated(AVAILABLE_TIMEOUT_S):
                async with asyncio.timeout(AVAILABLE_TIMEOUT_S):
                    await self._client.get(MODELS_PATH, cast_to=httpx2.Response)
        except (Throttled, InvalidRequest):
            return True
        except ProviderError:
            return False
        return True

    async def aclose(self) -> None:
        """Close the SDK's client and with it every connection."""
        await self._client.close()

    async def _post(self, body: object) -> httpx2.Response:
        with _unsendable_refused():
            return await self._client.post(CHAT_PATH, cast_to=httpx2.Response, body=body)

    async def _post_stream(self, body: object) -> AsyncStream[object]:
        with _unsendable_refused():
            return await self._client.post(
                CHAT_PATH,
                cast_to=object,
                body=body,
                options={"headers": ONE_USE},
                stream=True,
                stream_cls=AsyncStream[object],
            )

    async def _next(self, chunks: AsyncIterator[_Item], deadline: float, allowed_s: float) -> _Item | None:
        """Return the next chunk, or None at the end."""
        with self._translated(allowed_s):
            try:
                async with asyncio.timeout_at(deadline):
                    return await anext(chunks, None)
            except ValueError as error:
                raise MalformedCompletion("a chunk of the stream is not JSON") from error

    @contextmanager
    def _translated(self, allowed_s: float) -> Iterator[None]:
        """Let no exception of the SDK, its transport or the deadline pass as it is."""
        try:
            yield
        except TimeoutError as error:
            raise Timeout(f"no answer within {allowed_s:g} s") from error
        except SDK_FAILURES as error:
            raise translate(error, self.config.api_key) from error


def _client(config: ProviderConfig, keepalive_s: float) -> AsyncOpenAI:
    """Build the SDK's client. Its session, and so its first connection, comes with the first call."""
    if not config.base_url:
        raise ConfigurationError(f"provider {config.name!r}: dialect openai_compatible needs a base_url")
    check_sendable_key(config.name, config.api_key)
    return AsyncOpenAI(
        base_url=config.base_url,
        api_key=config.api_key or NO_KEY,
        max_retries=0,
        timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),
        http_client=DefaultAioHttpClient(
            limits=httpx2.Limits(max_connections=UNLIMITED_CONNECTIONS, keepalive_expiry=keepalive_s),
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),
            follow_redirects=False,
        ),
    )


@contextmanager
def _unsendable_refused() -> Iterator[None]:
    """Turn what cannot be written as UTF-8 JSON into InvalidRequest; nothing was sent then."""
    try:
        yield
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the request cannot be written as UTF-8 JSON: {type(error).__name__}") from error
