"""Gemini's generateContent, through the official SDK over aiohttp.

The call goes by the SDK's request layer and not by `models.generate_content`: the typed method turns a schema into its
own types (a truthy additionalProperties raises), turns an answer into models of which unknown enum values are warnings,
and by itself asks and pays for a continuation. It takes 1.7 ms of CPU a call against 0.2 ms, at a hundred in flight on
a two-core machine; over the SDK's default httpx2 pool it is 2.5 ms against 0.9 ms. A stream's response is held here,
so that leaving it closes its connection at once; the SDK's own method hides it behind a chain of generators.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import aiohttp

from gateway.errors import MalformedCompletion, ProviderError
from gateway.messages import Capabilities, Completion, CompletionRequest, FinishReason, JsonObject
from gateway.providers.base import ProviderConfig, read_options
from gateway.providers.gemini.client import endpoint, open_client, open_session
from gateway.providers.gemini.errors import SDK_FAILURES, listed_error, translate
from gateway.providers.gemini.request import GeminiOptions, generate_body, model_path
from gateway.providers.gemini.response import parsed, read_completion, read_event
from gateway.providers.limit_headers import WAIT_ONLY, LimitHeaders
from gateway.providers.sdk import SdkProvider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from google import genai

MODELS_PATH = "models?pageSize=1"


class Gemini(SdkProvider):
    """A provider that speaks Gemini's API. Options: `request.GeminiOptions`."""

    failures: ClassVar[tuple[type[Exception], ...]] = SDK_FAILURES
    limit_headers: ClassVar[LimitHeaders] = WAIT_ONLY

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(config)
        self._options = read_options(GeminiOptions, config)
        self._root, self._version = endpoint(config, self._options)
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
        return await self._answered("post", f"{model_path(request.model)}:generateContent", body)

    async def post_stream(self, request: CompletionRequest, body: JsonObject) -> _Events:
        """See `SdkProvider.post_stream`."""
        path = f"{model_path(request.model)}:streamGenerateContent?alt=sse"
        api = self._api()
        with _told_apart():
            return _Events(await api._async_request(http_request=api._build_request("post", path, body), stream=True))

    async def ask_for_models(self) -> None:
        """See `SdkProvider.ask_for_models`."""
        parsed((await self._answered("get", MODELS_PATH, {})).body)

    def read(self, response: Any, request: CompletionRequest) -> Completion:
        """See `SdkProvider.read`."""
        return read_completion(response.body, self.headers(response), request.model, self.config.api_key)

    def headers(self, response: Any) -> Mapping[str, str]:
        """See `SdkProvider.headers`."""
        return {name.lower(): value for name, value in (response.headers or {}).items()}

    def read_event(self, event: Any) -> tuple[str, FinishReason | None]:
        """See `SdkProvider.read_event`."""
        return read_event(event, self.config.api_key)

    def translate(self, error: Exception) -> ProviderError:
        """See `SdkProvider.translate`."""
        return translate(error, self.config.api_key)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._client is not None:
            await self._client.aio.aclose()
        if self._session is not None:
            await self._session.close()

    async def _answered(self, method: str, path: str, body: JsonObject) -> Any:
        with _told_apart():
            return await self._api().async_request(method, path, body)

    def _api(self) -> Any:
        """Return the SDK's request layer; made at the first call, because its session belongs to the running loop."""
        if self._session is None or self._client is None:
            self._session = open_session(self._options.keepalive_s)
            self._client = open_client(self._root, self._version, self.config.api_key, self._session)
        return self._client._api_client


class _Events:
    """The SDK's iterator of parsed events."""

    def __init__(self, response: Any) -> None:
        self.response = response

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for event in self.response:
                yield event
        except ValueError as error:
            # Outside its events Google lists an error, `[{"error": …}]`, which the SDK cuts after the object.
            found = listed_error(error)
            if found is None:
                raise
            yield found

    async def close(self) -> None:
        self.response.response_stream.close()


@contextmanager
def _told_apart() -> Iterator[None]:
    """Name two failures that would pass for others: as our deadline, and as a request that cannot be written."""
    try:
        yield
    except aiohttp.ServerTimeoutError as error:
        raise translate(error, None) from error
    except UnicodeDecodeError as error:
        raise MalformedCompletion("the response is not text in the encoding it names") from error
