"""OpenAI's client, as both of its APIs are spoken to: one key, no retries, no deadline and no bound of its own."""

from __future__ import annotations

from typing import ClassVar

import httpx2
from openai import AsyncOpenAI, AsyncStream, DefaultAioHttpClient

from gateway.errors import ProviderError
from gateway.messages import CompletionRequest, JsonObject
from gateway.providers.base import ProviderConfig
from gateway.providers.limit_headers import OPENAI, LimitHeaders
from gateway.providers.openai.errors import SDK_FAILURES, translate
from gateway.providers.sdk import NO_KEY, ONE_USE, BoundedAnswers, EventStream, SdkProvider
from gateway.providers.wire import CONNECT_TIMEOUT_S, UNLIMITED_CONNECTIONS, check_sendable_key, checked_base_url

MODELS_PATH = "/models"


class OpenAIProvider(SdkProvider):
    """What both APIs share; `path` is where a question is posted."""

    failures: ClassVar[tuple[type[Exception], ...]] = SDK_FAILURES
    limit_headers: ClassVar[LimitHeaders] = OPENAI
    path: ClassVar[str]

    def __init__(self, config: ProviderConfig, keepalive_s: float) -> None:
        super().__init__(config)
        self._client = _client(config, keepalive_s)

    async def post(self, request: CompletionRequest, body: JsonObject) -> httpx2.Response:
        """See `SdkProvider.post`."""
        return await self._client.post(self.path, cast_to=httpx2.Response, body=body)

    async def post_stream(self, request: CompletionRequest, body: JsonObject) -> EventStream:
        """See `SdkProvider.post_stream`."""
        return await self._client.post(
            self.path,
            cast_to=object,
            body=body | {"stream": True},
            options={"headers": ONE_USE},
            stream=True,
            stream_cls=AsyncStream[object],
        )

    async def ask_for_models(self) -> None:
        """See `SdkProvider.ask_for_models`."""
        await self._client.get(MODELS_PATH, cast_to=httpx2.Response)

    def translate(self, error: Exception) -> ProviderError:
        """See `SdkProvider.translate`."""
        return translate(error, self.config.api_key)

    async def aclose(self) -> None:
        """Close the SDK's client and with it every connection."""
        await self._client.close()


class _HttpClient(BoundedAnswers, DefaultAioHttpClient):
    """The SDK's client over aiohttp, its answers bounded."""


def _client(config: ProviderConfig, keepalive_s: float) -> AsyncOpenAI:
    """Build the SDK's client over its aiohttp transport: its default pool searches all connections for each request.

    The session, and so the first connection, comes with the first call.

    Raises:
        ConfigurationError: the base URL or the key cannot be used.
    """
    check_sendable_key(config.name, config.api_key)
    client = AsyncOpenAI(
        base_url=checked_base_url(config),
        api_key=config.api_key or NO_KEY,
        max_retries=0,
        timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),
        http_client=_HttpClient(
            limits=httpx2.Limits(max_connections=UNLIMITED_CONNECTIONS, keepalive_expiry=keepalive_s),
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S),
            follow_redirects=False,
        ),
    )
    # The SDK adds OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS of the environment, whoever the server is.
    client.organization = client.project = None
    client._custom_headers = {}
    return client
