"""Gemini's generateContent, through the official SDK over aiohttp.

The call goes by the SDK's request layer and not by `models.generate_content`: the typed method turns a schema into its
own types (a truthy additionalProperties raises, the order of fields is lost) and an answer into models of which unknown
enum values are warnings.

Over aiohttp the SDK by itself sends a request a second time when its connection breaks, after up to ten seconds, paid
or not. Retry options with a single attempt switch that off, and nothing else does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import aiohttp
from google import genai
from google.genai.types import HttpOptions, HttpRetryOptions

from gateway.errors import ProviderError
from gateway.messages import Capabilities, Completion, CompletionRequest, FinishReason, JsonObject
from gateway.providers.base import ProviderConfig, read_options
from gateway.providers.gemini.errors import SDK_FAILURES, translate
from gateway.providers.gemini.request import GeminiOptions, generate_body
from gateway.providers.gemini.response import read_completion, read_event
from gateway.providers.sdk import NO_KEY, SdkProvider
from gateway.providers.wire import CONNECT_TIMEOUT_S, UNLIMITED_CONNECTIONS, check_sendable_key

BASE_URL = "https://generativelanguage.googleapis.com"
MODELS_PATH = "models?pageSize=1"


class Gemini(SdkProvider):
    """A provider that speaks Gemini's API. Options: `request.GeminiOptions`."""

    failures: ClassVar[tuple[type[Exception], ...]] = SDK_FAILURES

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(config)
        self._options = read_options(GeminiOptions, config)
        check_sendable_key(config.name, config.api_key)
        self._session: aiohttp.ClientSession | None = None
        self._client: genai.Client | None = None

    @property
    def capabilities(self) -> Capabilities:
        """Structured output and streaming, always."""
        return Capabilities(structured_output=True, streaming=True)

    def body(self, request: CompletionRequest) -> JsonObject:
        """See `SdkProvider.body`."""
        return generate_body(request, self._options)

    async def post(self, request: CompletionRequest, body: JsonObject) -> Any:
        """See `SdkProvider.post`."""
        return await self._api().async_request("post", f"models/{request.model}:generateContent", body)

    async def post_stream(self, request: CompletionRequest, body: JsonObject) -> _Events:
        """See `SdkProvider.post_stream`."""
        api = self._api()
        path = f"models/{request.model}:streamGenerateContent?alt=sse"
        return _Events(await api._async_request(http_request=api._build_request("post", path, body), stream=True))

    async def ask_for_models(self) -> None:
        """See `SdkProvider.ask_for_models`."""
        await self._api().async_request("get", MODELS_PATH, {})

    def read(self, response: Any, request: CompletionRequest) -> Completion:
        """See `SdkProvider.read`."""
        return read_completion(response.body, response.headers or {}, request.model, self.config.api_key)

    def read_event(self, event: Any) -> tuple[str, FinishReason | None]:
        """See `SdkProvider.read_event`."""
        return read_event(event, self.config.api_key)

    def translate(self, error: Exception) -> ProviderError:
        """See `SdkProvider.translate`."""
        return translate(error, self.config.api_key)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    def _api(self) -> Any:
        """Return the SDK's request layer; made at the first call, because its session belongs to the running loop."""
        if self._client is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=UNLIMITED_CONNECTIONS, keepalive_timeout=self._options.keepalive_s
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
                trust_env=False,
            )
            self._client = genai.Client(
                api_key=self.config.api_key or NO_KEY,
                vertexai=False,
                http_options=HttpOptions(
                    base_url=self.config.base_url or BASE_URL,
                    api_version=self._options.api_version,
                    aiohttp_client=self._session,
                    async_client_args={"allow_redirects": False},
                    retry_options=HttpRetryOptions(attempts=1),
                ),
            )
        return self._client._api_client


class _Events:
    """The SDK's iterator of parsed events. Its own streaming method hides the response, which then nobody can close."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __aiter__(self) -> AsyncIterator[Any]:
        return aiter(self._response)

    async def close(self) -> None:
        self._response.response_stream.close()
