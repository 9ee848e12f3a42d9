"""The adapter: what a provider does, by the pieces of `wire`."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from gateway.messages import Capabilities, Completion, CompletionRequest, FinishReason
from gateway.providers.base import Provider, ProviderConfig, check_stream_end, read_options, whole
from gateway.providers.json_http import JsonHttp
from gateway.providers.rest.events import sse_data

from assayline_cohere.wire import CohereOptions, chat_body, read_completion, read_event, refused

CHAT_PATH = "/v2/chat"
MODELS_PATH = "/v1/models"


class Cohere(Provider):
    """A provider that speaks Cohere's chat API, version 2. Options: `CohereOptions`."""

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(config)
        self._options = read_options(CohereOptions, config)
        self._http = JsonHttp(config, {"authorization": f"Bearer {config.api_key}"} if config.api_key else {})

    @property
    def capabilities(self) -> Capabilities:
        """Structured output and streaming, always."""
        return Capabilities(structured_output=True, streaming=True)

    async def complete(self, request: CompletionRequest) -> Completion:
        """Ask once; see `Provider.complete`."""
        body = chat_body(request, self._options, stream=False)
        answer = await self._http.post(CHAT_PATH, body, self.deadline_s(request))
        if not answer.good:
            raise refused(answer, self.config.api_key)
        return whole(read_completion(answer, request.model))

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[str, None]:
        """Ask once and yield text; see `Provider.stream`."""
        body = chat_body(request, self._options, stream=True)
        finish_reason: FinishReason | None = None
        async with self._http.exchange("POST", CHAT_PATH, body, self.deadline_s(request)) as exchange:
            if not exchange.good:
                raise refused(await exchange.answer(), self.config.api_key)
            async for data in sse_data(exchange.lines()):
                text, stopped = read_event(data)
                finish_reason = stopped or finish_reason
                if text:
                    yield text
        check_stream_end(finish_reason)

    async def is_available(self) -> bool:
        """Ask for the models: free of charge."""
        return await self._http.is_there(MODELS_PATH)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()
