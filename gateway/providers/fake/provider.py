"""A provider that calls nobody: scripted answers, or an example built from the request's schema.

It ships because users test with it too, and because a system can be looked at without a key or a
model. What it answers by itself is marked in `Completion.model`, so that nobody takes it for a
model's judgement. No I/O: its sleep is handed in.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator

from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import ConfigurationError, Timeout
from gateway.messages import Capabilities, Completion, CompletionRequest, FinishReason, JsonObject, Usage
from gateway.providers.base import BYTES_PER_TOKEN, Provider, ProviderConfig, read_options, whole
from gateway.providers.fake.schema_example import example

EXAMPLE_MODEL = "fake-example"
"""`Completion.model` of an answer made up from the schema."""
SCRIPTED_MODEL = "fake-scripted"
"""`Completion.model` of an answer somebody wrote beforehand, given as text only."""
FREE_TEXT = "This text was not written by a model."
REMEMBERED_REQUESTS = 1_000
STREAM_PIECE_CHARS = 16

Answer = Completion | str | Exception
"""One scripted answer: a whole completion, its text alone, or the error to raise."""
Script = Iterable[Answer] | Callable[[CompletionRequest], Answer]
Sleep = Callable[[float], Awaitable[None]]


class FakeOptions(BaseModel):
    """`options` of a catalog entry whose dialect is fake."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latency_s: float = Field(default=0.0, ge=0)
    """How long each answer takes."""
    answer: str | JsonObject | None = None
    """The text of every answer, or the object it is the JSON of."""
    available: bool = True
    """What `is_available` says."""


class FakeProvider(Provider):
    """Answers from `script`, else with the option `answer`, else with an example of the request's schema.

    A list is used up one answer a call; a function is asked each time. `requests` remembers the last
    thousand, `calls` counts all.
    """

    def __init__(self, config: ProviderConfig, *, script: Script | None = None, sleep: Sleep = asyncio.sleep) -> None:
        super().__init__(config)
        self._options = read_options(FakeOptions, config)
        self._decide = self._own_answer if script is None else _decider(script)
        self._sleep = sleep
        self.calls = 0
        self.requests: deque[CompletionRequest] = deque(maxlen=REMEMBERED_REQUESTS)
        self.closed = False

    @property
    def capabilities(self) -> Capabilities:
        """Everything."""
        return Capabilities(structured_output=True, streaming=True)

    async def complete(self, request: CompletionRequest) -> Completion:
        """Answer after the configured latency; see `Provider.complete`.

        Raises:
            Timeout: the latency is longer than the deadline.
            ConfigurationError: the script is used up, or no example fits the schema.
        """
        self.calls += 1
        self.requests.append(request)
        answer = self._decide(request)
        await self._wait(request)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            answer = self._completion(request, answer, SCRIPTED_MODEL)
        return whole(answer)

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[str, None]:
        """Yield the same answer in pieces of 16 characters; an error comes before the first."""
        text = (await self.complete(request)).text
        for start in range(0, len(text), STREAM_PIECE_CHARS):
            yield text[start : start + STREAM_PIECE_CHARS]

    async def is_available(self) -> bool:
        """Say what the option `available` says, and no after `aclose`."""
        return self._options.available and not self.closed

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    async def _wait(self, request: CompletionRequest) -> None:
        allowed_s = self.deadline_s(request)
        await self._sleep(min(self._options.latency_s, allowed_s))
        if self._options.latency_s > allowed_s:
            raise Timeout(f"no answer within {allowed_s:g} s")

    def _own_answer(self, request: CompletionRequest) -> Answer:
        answer = self._options.answer
        if isinstance(answer, str):
            return answer
        if answer is not None:
            return json.dumps(answer)
        text = FREE_TEXT if request.schema is None else json.dumps(example(request.schema))
        return self._completion(request, text, EXAMPLE_MODEL)

    def _completion(self, request: CompletionRequest, text: str, model: str) -> Completion:
        """Wrap `text`; the usage is this provider's own count, bytes / 3, and its real one."""
        output_tokens = math.ceil(len(text.encode()) / BYTES_PER_TOKEN)
        return Completion(
            text=text,
            finish_reason=FinishReason.STOP,
            usage=Usage(self.count_tokens(request), output_tokens),
            model=model,
            provider_request_id=f"fake-{self.calls}",
        )


def _decider(script: Script) -> Callable[[CompletionRequest], Answer]:
    if callable(script):
        return script
    answers: Iterator[Answer] = iter(script)

    def next_answer(_: CompletionRequest) -> Answer:
        answer = next(answers, None)
        if answer is None:
            raise ConfigurationError("the fake provider's script is used up")
        return answer

    return next_answer
