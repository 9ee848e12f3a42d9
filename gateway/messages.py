"""The words a call is made of: what goes to a provider and what comes back.

Plain frozen values, provider-neutral. A provider adapter translates them to and from its SDK;
nothing here knows an SDK, a job or a queue.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from gateway.limits.told import ToldLimits

Role = Literal["system", "user", "assistant"]
JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `content` is text; images come with a later version."""

    role: Role
    content: str


class FinishReason(StrEnum):
    """Why the model stopped, in our words; each adapter maps its provider's."""

    STOP = "stop"
    LENGTH = "length"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them.

    `cached_tokens` is the part of `input_tokens` read from its cache, `cache_write_tokens` the part written to it.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Which model, where: a catalog provider's name and one of its models."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """Read `provider/model` (the model may hold further slashes).

        Raises:
            ValueError: there is no slash, or one side is empty.
        """
        provider, slash, model = text.partition("/")
        if not (slash and provider and model):
            raise ValueError(f"a model is written provider/model, not {text!r}")
        return cls(provider, model)


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One question to one model.

    `schema` is a JSON schema the answer must satisfy (None: free text); `schema_name` names it to
    providers that want a name. `timeout_s` is the deadline of this call, connection included.
    `extra_body`: further fields in the provider's own words; what the adapter writes itself wins.
    """

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float | None = None
    schema: JsonObject | None = None
    schema_name: str = "result"
    timeout_s: float = 120.0
    extra_body: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer: the text as it came, why it ended, and what the provider says it used.

    `usage_estimated`: the provider tells no usage, by its own description in the catalog, and this one is our estimate.
    `told`: what it said of its limits with the answer; None where it said nothing.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    model: str
    provider_request_id: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    usage_estimated: bool = False
    told: ToldLimits | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider's dialect can do, as far as routing must know."""

    structured_output: bool
    streaming: bool
    system_messages: bool = True


@dataclass(frozen=True, slots=True)
class AnalysisResult:
    """A validated answer to one analysis.

    `data` satisfies the analysis's result model. `repaired` says that the text had to be mended
    or asked for again before it did; `raw_text` is then the text as the model gave it.
    `cost_usd` is None where a price is unknown: never 0 for "unknown". `cached`: the answer was remembered, no call
    was made for it, and so its usage, cost and calls are 0; `model` is the one that gave it.
    """

    analysis: str
    data: JsonObject
    provider: str
    model: str
    prompt_version: str
    usage: Usage
    cost_usd: Decimal | None
    latency_s: float
    calls: int
    repaired: bool
    raw_text: str | None = None
    cached: bool = False
