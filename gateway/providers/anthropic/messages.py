"""Anthropic's Messages API, through the official SDK over its aiohttp transport.

The bare `post` takes 0.5 ms of CPU a call, `messages.create` 0.7 ms, at a hundred in flight on a two-core machine. The
typed method would also open a trace span, which holds the prompt where the environment says so.
"""

from __future__ import annotations

from typing import ClassVar

import httpx2
from anthropic import AsyncAnthropic, AsyncStream, DefaultAioHttpClient

from gateway.errors import ProviderError
from gateway.messages import Capabilities, Completion, CompletionRequest, FinishReason, JsonObject
from gateway.providers.anthropic.errors import SDK_FAILURES, translate
from gateway.providers.anthropic.limits import LIMIT_HEADERS
from gateway.providers.anthropic.request import AnthropicOptions, messages_body
from gateway.providers.anthropic.response import read_completion, read_event
from gateway.providers.base import ProviderConfig, read_options
from gateway.providers.limit_headers import LimitHeaders
from gateway.providers.sdk import NO_KEY, ONE_USE, BoundedAnswers, SdkProvider
from gateway.providers.wire import CONNECT_TIMEOUT_S, UNLIMITED_CONNECTIONS, check_sendable_key, checked_base_url

MESSAGES_PATH = "/v1/messages"
MODELS_PATH = "/v1/models"
BASE_URL = "https://api.anthropic.com"


class AnthropicMessages(SdkProvider):
    """A provider that speaks Anthropic's Messages API. Options: `request.AnthropicOptions`."""

    failures: ClassVar[tuple[type[Exception], ...]] = SDK_FAILURES
    limit_headers: ClassVar[LimitHeaders] = LIMIT_HEADERS

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(config)
        self._options = read_options(AnthropicOptions, config)
        self._client = _client(config, self._options)

    @property
    def capabilities(self) -> Capabilities:
        """Structured output and streaming, always."""
        return Capabilities(structured_output=True, streaming=True)

    def body(self, request: CompletionRequest) -> JsonObject:
        """See `SdkProvider.body`."""
        return messages_body(request, self._options)

    async def post(self, request: CompletionRequest, body: JsonObject) -> httpx2.Response:
        """See `SdkProvider.post`."""
        return await self._client.post(MESSAGES_PATH, cast_to=httpx2.Response, body=body)

    async def post_stream(self, request: CompletionRequest, body: JsonObject) -> AsyncStream[object]:
        """See `SdkProvider.post_stream`."""
        return await self._client.post(
            MESSAGES_PATH,
            cast_to=object,
            body=body | {"stream": True},
            options={"headers": ONE_USE},
            stream=True,
            stream_cls=AsyncStream[object],
        )

    async def ask_for_models(self) -> None:
        """See `SdkProvider.ask_for_models`."""
        await self._client.get(MODELS_PATH, cast_to=httpx2.Response)

    def read(self, response: httpx2.Response, request: CompletionRequest) -> Completion:
        """See `SdkProvider.read`."""
        return read_completion(response, request.model, self.config.api_key)

    def read_event(self, event: object) -> tuple[str, FinishReason | None]:
        """See `SdkProvider.read_event`."""
        return read_event(event, self.config.api_key)

    def translate(self, error: Exception) -> ProviderError:
        """See `SdkProvider.translate`."""
        return translate(error, self.config.api_key)

    async def aclose(self) -> None:
        """Close the SDK's client and with it every connection."""
        await self._client.close()


class _HttpClient(BoundedAnswers, DefaultAioHttpClient):
    """The SDK's client over aiohttp, its answers bounded."""


def _client(config: ProviderConfig, options: AnthropicOptions) -> AsyncAnthropic:
    """Build the SDK's client. Its session, and so its first connection, comes with the first call."""
    check_sendable_key(config.name, config.api_key)
    client = AsyncAnthropic(
        base_url=checked_base_url(config, BASE_URL),
        api_key=config.api_key or NO_KEY,
        max_retries=0,
        open_telemetry=False,
        timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),
        http_client=_HttpClient(
            limits=httpx2.Limits(max_connections=UNLIMITED_CONNECTIONS, keepalive_expiry=options.keepalive_s),
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),
            follow_redirects=False,
        ),
    )
    # The SDK adds ANTHROPIC_CUSTOM_HEADERS of the environment, and has no argument that says not to.
    client._custom_headers = {"anthropic-beta": ",".join(options.betas)} if options.betas else {}
    return client
