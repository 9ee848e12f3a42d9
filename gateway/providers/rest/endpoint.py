"""A custom REST endpoint, as its catalog entry describes it (`options.RestOptions`): no code is needed for one more."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from gateway.errors import InvalidRequest
from gateway.messages import Capabilities, Completion, CompletionRequest, FinishReason, JsonObject
from gateway.providers.base import Provider, ProviderConfig, check_stream_end, read_options, whole
from gateway.providers.json_http import JsonHttp
from gateway.providers.limit_headers import OPENAI
from gateway.providers.rest.errors import refused
from gateway.providers.rest.events import READERS
from gateway.providers.rest.options import RestOptions, Stream
from gateway.providers.rest.reading import read_completion, read_event
from gateway.providers.rest.template import Text, values

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class RestEndpoint(Provider):
    """A provider that speaks what its catalog entry says. Options: `options.RestOptions`. The key is optional."""

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(config)
        self._options = read_options(RestOptions, config)
        self._path = Text.parse(self._options.path, ("model",))
        self._http = JsonHttp(config, _headers(self._options, config.api_key))

    @property
    def capabilities(self) -> Capabilities:
        """Structured output where the body holds {schema}; streaming where `stream` is described."""
        return Capabilities(
            structured_output="schema" in self._options.body.names, streaming=self._options.stream is not None
        )

    async def complete(self, request: CompletionRequest) -> Completion:
        """Ask once; see `Provider.complete`."""
        answer = await self._http.post(self._path_for(request), self._body(request), self.deadline_s(request))
        with OPENAI.added_to_errors(answer.headers):
            if not answer.good or answer.status in self._options.errors:
                raise refused(answer, self._options, self.config.api_key)
            estimate_tokens = self.count_tokens(request)
            completion = read_completion(answer, request, self._options, estimate_tokens, self.config.api_key)
            return whole(OPENAI.added_to(completion))

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[str, None]:
        """Ask once and yield text; see `Provider.stream`. An endpoint that does not stream gives it in one piece."""
        described = self._options.stream
        if described is None:
            yield (await self.complete(request)).text
            return
        body = {**self._body(request), **described.body}
        finish_reason: FinishReason | None = None
        allowed_s = self.deadline_s(request)
        async with self._http.exchange("POST", self._path_for(request), body, allowed_s) as exchange:
            with OPENAI.added_to_errors(exchange.headers):
                if not exchange.good or exchange.status in self._options.errors:
                    raise refused(await exchange.answer(), self._options, self.config.api_key)
                async for data in READERS[described.format](exchange.lines()):
                    text, stopped = self._read_event(data, described)
                    finish_reason = stopped or finish_reason
                    if text:
                        yield text
                check_stream_end(finish_reason)

    async def is_available(self) -> bool:
        """GET the availability path, or the base URL: free of charge. True too where that is unknown or busy."""
        return await self._http.is_there(self._options.availability_path or "")

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    def _body(self, request: CompletionRequest) -> JsonObject:
        body = self._options.body
        return {**request.extra_body, **body.render(values(request, body.names))}

    def _path_for(self, request: CompletionRequest) -> str:
        """Return the path of a call; a model's name is one step of it, and must not become two or none."""
        try:
            model = _path_step(request.model) if self._path.names else None
            return str(self._path.render({"model": model}))
        except ValueError as error:
            raise InvalidRequest("the model's name cannot be part of a path, nor written as UTF-8 JSON") from error

    def _read_event(self, data: str, described: Stream) -> tuple[str, FinishReason | None]:
        return read_event(data, described, self._options, self.config.api_key)


def _path_step(model: str) -> str:
    if model in ("", ".", ".."):
        raise ValueError("it would be another path")
    return quote(model, safe="")


def _headers(options: RestOptions, api_key: str | None) -> dict[str, str]:
    if not api_key:
        return dict(options.headers)
    form = Text.parse(options.auth.value, ("key",))
    return {**options.headers, options.auth.header: str(form.render({"key": api_key}))}
