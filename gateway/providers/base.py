"""What every provider adapter offers, and what it is built from.

This room knows the words of `gateway.messages` and `gateway.errors`. It must not know the catalog
(whoever composes the process makes a `ProviderConfig` from an entry), nor limits, nor jobs.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from gateway.errors import ConfigurationError, ContentRefused, MalformedCompletion, OutputTruncated
from gateway.messages import Capabilities, Completion, CompletionRequest, FinishReason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

BYTES_PER_TOKEN = 3
"""UTF-8 bytes to one token, for the offline estimate. Three characters hold for code and JSON, where four
under-count; bytes rather than characters, because one CJK character (three bytes) is about one token."""

MESSAGE_OVERHEAD_TOKENS = 4
"""Tokens that frame one message: three for its start, role and end, one for its share of the reply's priming
(OpenAI's cookbook, "How to count tokens with tiktoken")."""

Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """One provider of one installation, as an adapter needs it.

    `name` is the catalog's name for it, `dialect` the adapter's (see `registry`). `base_url` is the
    API's root, as its SDK wants it. `api_key` is never shown. `timeout_s` bounds every call; a
    request's own shorter deadline wins. `options` are the dialect's own; unknown ones are refused.
    `account` is the catalog's name for whose key and address these are.
    """

    name: str
    dialect: str
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 120.0
    options: Mapping[str, Any] = field(default_factory=dict)
    account: str = "default"


class Provider(ABC):
    """One configured provider. Safe for any number of calls at once, on one event loop.

    No call is ever repeated in here: retries are one budget, held elsewhere.
    """

    def __init__(self, config: ProviderConfig) -> None:
        self.config = config

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this dialect can do, with this configuration."""

    @abstractmethod
    async def complete(self, request: CompletionRequest) -> Completion:
        """Ask once and return the whole answer, whose finish reason is always STOP.

        Raises:
            ProviderError: one of its subclasses, for everything that can go wrong. The SDK's own
                exception is its `__cause__` and escapes in no other way.
        """

    @abstractmethod
    def stream(self, request: CompletionRequest) -> AsyncIterator[str]:
        """Ask once and yield the answer's text as it comes.

        The deadline covers the whole stream. Closing the iterator early closes the connection.

        Raises:
            MalformedCompletion: the stream ended without saying why, so the text is not whole.
            ProviderError: as `complete` does, at the first item or later.
        """

    @abstractmethod
    async def is_available(self) -> bool:
        """Whether the provider answers and accepts the key. Quick, never raises, never costs money."""

    def count_tokens(self, request: CompletionRequest) -> int:
        """Estimate the input tokens of `request` without any I/O.

        UTF-8 bytes / 3 of all texts and of the schema, and 4 for each message: see the constants
        for their sources. Meant for admission, so it errs upwards; `Usage` has the truth.
        """
        sent_bytes = sum(_utf8_bytes(message.content) for message in request.messages)
        if request.schema is not None:
            sent_bytes += _utf8_bytes(json.dumps(request.schema))
        return math.ceil(sent_bytes / BYTES_PER_TOKEN) + MESSAGE_OVERHEAD_TOKENS * len(request.messages)

    @abstractmethod
    async def aclose(self) -> None:
        """Close all connections. The provider answers no call after that."""

    def deadline_s(self, request: CompletionRequest) -> float:
        """Return how long a call for `request` may take, in seconds."""
        return min(request.timeout_s, self.config.timeout_s)


def read_options(model: type[Options], config: ProviderConfig) -> Options:
    """Return the options of `config`, checked against the dialect's `model` of them.

    Raises:
        ConfigurationError: one is unknown or has an unusable value. The value itself is not shown.
    """
    try:
        return model.model_validate(dict(config.options))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"provider {config.name!r}: option {where!r}: {first['msg']}") from error


def whole(completion: Completion) -> Completion:
    """Return `completion` if the model finished it. An estimated usage is not handed on as if it were counted.

    Raises:
        OutputTruncated: it was cut at max_tokens.
        ContentRefused: the model or a filter declined.
    """
    if completion.finish_reason is FinishReason.STOP:
        return completion
    failure, message = UNFINISHED[completion.finish_reason]
    raise failure(
        message,
        usage=None if completion.usage_estimated else completion.usage,
        provider_request_id=completion.provider_request_id,
        raw_text=completion.text,
    )


def check_stream_end(finish_reason: FinishReason | None) -> None:
    """Check, at the end of a stream, that the model said it was done.

    Raises:
        MalformedCompletion: it never said why it stopped: the text is not whole.
        OutputTruncated: it was cut at max_tokens.
        ContentRefused: the model or a filter declined.
    """
    if finish_reason is None:
        raise MalformedCompletion("the stream ended without a finish reason: its text is not whole")
    if finish_reason in UNFINISHED:
        failure, message = UNFINISHED[finish_reason]
        raise failure(message)


UNFINISHED: Mapping[FinishReason, tuple[type[OutputTruncated | ContentRefused], str]] = MappingProxyType(
    {
        FinishReason.LENGTH: (OutputTruncated, "the answer was cut at max_tokens"),
        FinishReason.REFUSAL: (ContentRefused, "the model declined to answer"),
    }
)
"""What a finish reason other than STOP means to the caller."""


def _utf8_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
