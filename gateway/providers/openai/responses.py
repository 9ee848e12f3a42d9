"""OpenAI's Responses API: the same models, key and errors as chat completions, another form of question and answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from gateway.messages import Capabilities, Completion, CompletionRequest, FinishReason, JsonObject
from gateway.providers.base import ProviderConfig, read_options
from gateway.providers.openai.client import OpenAIProvider
from gateway.providers.openai.responses_request import ResponsesOptions, responses_body
from gateway.providers.openai.responses_response import read_event, read_response, without_commentary

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from httpx2 import Response

    from gateway.providers.sdk import EventStream


class OpenAIResponses(OpenAIProvider):
    """A provider that speaks OpenAI's Responses API. Options: `responses_request.ResponsesOptions`."""

    path: ClassVar[str] = "/responses"

    def __init__(self, config: ProviderConfig) -> None:
        self._options = read_options(ResponsesOptions, config)
        super().__init__(config, self._options.keepalive_s)

    @property
    def capabilities(self) -> Capabilities:
        """Structured output and streaming, always."""
        return Capabilities(structured_output=True, streaming=True)

    def body(self, request: CompletionRequest) -> JsonObject:
        """See `SdkProvider.body`."""
        return responses_body(request, self._options)

    async def post_stream(self, request: CompletionRequest, body: JsonObject) -> EventStream:
        """See `SdkProvider.post_stream`."""
        return AnswerEvents(await super().post_stream(request, body))

    def read(self, response: Response, request: CompletionRequest) -> Completion:
        """See `SdkProvider.read`."""
        return read_response(response, request.model, self.config.api_key)

    def read_event(self, event: object) -> tuple[str, FinishReason | None]:
        """See `SdkProvider.read_event`."""
        return read_event(event, self.config.api_key)


class AnswerEvents:
    """A stream's events without what is no part of the answer."""

    def __init__(self, events: EventStream) -> None:
        self._events = events

    def __aiter__(self) -> AsyncGenerator[object, None]:
        """Yield the events."""
        return without_commentary(aiter(self._events))

    @property
    def response(self) -> Response:
        """What came before the events."""
        return cast("Response", self._events.response)

    async def close(self) -> None:
        """Close the connection."""
        await self._events.close()
