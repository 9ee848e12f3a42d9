"""Ollama, by its own API and without an SDK: `POST /api/chat`.

Its OpenAI-compatible API would do for plain text; the own one takes the size of the context window with each call and
can be told not to cut what does not fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.messages import Capabilities, Completion, CompletionRequest, FinishReason
from gateway.providers.base import Provider, ProviderConfig, check_stream_end, read_options, whole
from gateway.providers.json_http import JsonHttp
from gateway.providers.limit_headers import OPENAI
from gateway.providers.ollama.chat_request import OllamaOptions, Windows, chat_body
from gateway.providers.ollama.chat_response import read_completion, read_line
from gateway.providers.ollama.errors import refused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

CHAT_PATH = "/api/chat"
VERSION_PATH = "/api/version"


class Ollama(Provider):
    """A provider that speaks Ollama's API. Options: `chat_request.OllamaOptions`. The key is optional."""

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(config)
        self._options = read_options(OllamaOptions, config)
        self._windows = Windows(self._options.num_ctx)
        self._http = JsonHttp(config, {"Authorization": f"Bearer {config.api_key}"} if config.api_key else {})

    @property
    def capabilities(self) -> Capabilities:
        """Structured output as configured; streaming always."""
        return Capabilities(structured_output=self._options.structured_output, streaming=True)

    async def complete(self, request: CompletionRequest) -> Completion:
        """Ask once; see `Provider.complete`."""
        window_tokens = self._window_tokens(request)
        body = chat_body(request, self._options, window_tokens, stream=False)
        answer = await self._http.post(CHAT_PATH, body, self.deadline_s(request))
        with OPENAI.added_to_errors(answer.headers):
            if not answer.good:
                raise refused(answer, self.config.api_key)
            completion = read_completion(answer, request.model, window_tokens, self.config.api_key)
            return whole(OPENAI.added_to(completion))

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[str, None]:
        """Ask once and yield text; see `Provider.stream`."""
        window_tokens = self._window_tokens(request)
        body = chat_body(request, self._options, window_tokens, stream=True)
        finish_reason: FinishReason | None = None
        async with self._http.exchange("POST", CHAT_PATH, body, self.deadline_s(request)) as exchange:
            with OPENAI.added_to_errors(exchange.headers):
                if not exchange.good:
                    raise refused(await exchange.answer(), self.config.api_key)
                async for line in exchange.lines():
                    text, stopped = read_line(line, window_tokens, self.config.api_key) if line else ("", None)
                    finish_reason = stopped or finish_reason
                    if text:
                        yield text
                check_stream_end(finish_reason)

    async def is_available(self) -> bool:
        """Ask for the server's version: free of charge. True too where the server is only busy."""
        return await self._http.is_there(VERSION_PATH)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    def _window_tokens(self, request: CompletionRequest) -> int | None:
        return self._windows.tokens_for(request.model, self.count_tokens(request) + request.max_tokens)
