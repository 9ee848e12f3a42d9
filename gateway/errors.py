"""Everything that can go wrong with one call, as values that carry facts.

    GatewayError
    ├── ConfigurationError        the catalog, an analysis, a prompt or the environment is wrong
    │   └── CatalogError
    ├── RequestError              what the caller handed in cannot be sent; no call was made
    │   ├── UnknownAnalysis
    │   ├── DeadlinePassed        the caller no longer wants an answer
    │   └── PromptError           a variable is missing, unknown or unusable
    ├── LedgerRefusal             the ledger forbids the call; no call was made
    │   ├── BudgetSpent           the job's retry budget is used up
    │   │   └── CostLimit         the call could cost more than the job may, or nobody knows its price
    │   └── ClaimLost             another claim owns the job
    ├── LimitReached              the account's limits are used up for now; no call was made
    ├── BreakerOpen               the provider is not well, by what other calls met; no call was made
    ├── RetriesSpent              too many of the account's calls are retries; no call was made
    ├── DayBudgetSpent            the account may spend no more today; no call was made
    ├── ExceedsLimit              the call needs more than a limit ever holds; no call was made
    ├── AnswerAwaited             the same question was being asked, and its answer did not come; no call was made
    ├── ProviderError             a call was made, or tried, and did not answer
    │   ├── Throttled             429: too fast; come back later
    │   ├── QuotaExhausted        billing or a daily quota: later does not help soon
    │   ├── Overloaded            the provider is short of capacity
    │   ├── Timeout               no answer within the deadline
    │   ├── Unreachable           no connection, or it broke
    │   ├── AuthRejected          the key is wrong, or may not do this
    │   ├── ContextTooLong        the input does not fit the model's window
    │   ├── ContentRefused        the provider or the model declined the content
    │   ├── OutputTruncated       the answer hit max_tokens
    │   ├── MalformedCompletion   the response is not what the protocol promises
    │   ├── InvalidRequest        the provider does not accept the request
    │   └── ServerError           any other 5xx
    ├── RepairDeferred            the model answered, and there was no room or time left to ask for the repair
    └── InvalidOutput             the model answered, paid for, and no rung of the repair ladder held

Each class states four facts, so nobody needs an isinstance ladder:

`retryable`       the same call, later, may succeed
`try_next_model`  the next model of the chain may succeed where this one did not
`trips_breaker`   it says something about the provider's health
`paid`            True: it cost money. False: it did not. None: nobody can tell (it may have)

An instance adds what the moment knew: `retry_after_s` (seconds, from the provider), `usage`,
`provider_request_id`, `raw_text`, `told` (what the provider said of its limits). The SDK's exception is
kept as `__cause__`; it never leaves its adapter otherwise. Messages are bounded and hold neither keys nor prompts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from gateway.messages import Usage

if TYPE_CHECKING:
    from gateway.limits.told import ToldLimits

MAX_MESSAGE_CHARS = 500
"""Longest message an error keeps: enough for a provider's sentence, too short for a prompt echoed back."""


class GatewayError(Exception):
    """Root of the tree."""

    retryable: ClassVar[bool] = False
    try_next_model: ClassVar[bool] = False
    trips_breaker: ClassVar[bool] = False
    paid: ClassVar[bool | None] = False

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        usage: Usage | None = None,
        provider_request_id: str | None = None,
        raw_text: str | None = None,
        told: ToldLimits | None = None,
    ) -> None:
        super().__init__(message[:MAX_MESSAGE_CHARS])
        self.retry_after_s = retry_after_s
        self.usage = usage
        self.provider_request_id = provider_request_id
        self.raw_text = raw_text
        self.told = told

    @property
    def name(self) -> str:
        """The class's name in snake_case: the word stored in the ledger and shown to people."""
        return _snake(type(self).__name__)


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


class ConfigurationError(GatewayError):
    """The installation is wrong; no job can mend it."""


class CatalogError(ConfigurationError):
    """The catalog does not hold together. The message names file, line and key."""


class RequestError(GatewayError):
    """What was handed in cannot be sent."""


class UnknownAnalysis(RequestError):
    """No analysis of this name is registered."""


class DeadlinePassed(RequestError):
    """The caller's deadline was over before the call could be made."""


class PromptError(RequestError):
    """A prompt's variable is missing, undeclared or of an unusable kind."""


class LedgerRefusal(GatewayError):
    """The ledger forbids the call."""


class BudgetSpent(LedgerRefusal):
    """The job has made as many calls as it may."""


class CostLimit(BudgetSpent):
    """The call could cost more than the job has left, or its price is unknown. A cheaper model may still do."""

    try_next_model = True


class ClaimLost(LedgerRefusal):
    """Another claim owns the job."""


class LimitReached(GatewayError):
    """The account has no room for the call yet. `retry_after_s` says when a date could be booked for it.

    Where the caller has too little time left for a call, it is all of that time: no waiting would help.
    """

    retryable = True


class BreakerOpen(GatewayError):
    """Calls of this account lately failed, so none is made. `retry_after_s` says when one may look how things are."""

    retryable = True
    try_next_model = True


class RetriesSpent(GatewayError):
    """Too many of this account's calls are retries; none was made. Another provider may be asked: that is no retry."""

    retryable = True
    try_next_model = True


class DayBudgetSpent(GatewayError):
    """The account's money for the day is spent. `retry_after_s` says when its next day begins."""

    retryable = True
    try_next_model = True


class ExceedsLimit(GatewayError):
    """The call needs more than a limit can ever hold: no waiting would help. An account with larger limits may do."""

    try_next_model = True


class AnswerAwaited(GatewayError):
    """Somebody else was asking the same question, and had no answer within this asker's deadline."""

    retryable = True


class ProviderError(GatewayError):
    """A call did not answer."""


class Throttled(ProviderError):
    """Too fast. Says "busy", nothing about health."""

    retryable = True
    try_next_model = True


class QuotaExhausted(ProviderError):
    """No money or no quota left with this account."""

    try_next_model = True


class Overloaded(ProviderError):
    """The provider is short of capacity."""

    retryable = True
    try_next_model = True
    trips_breaker = True


class Timeout(ProviderError):
    """The deadline passed. The provider may have worked, and may charge."""

    retryable = True
    try_next_model = True
    trips_breaker = True
    paid = None


class Unreachable(ProviderError):
    """No connection, or it broke on the way."""

    retryable = True
    try_next_model = True
    trips_breaker = True
    paid = None


class AuthRejected(ProviderError):
    """The key is wrong or may not do this."""

    try_next_model = True


class ContextTooLong(ProviderError):
    """The input does not fit. Only a larger window helps."""

    try_next_model = True


class ContentRefused(ProviderError):
    """Declined for its content. Moves on only where the analysis says so."""

    paid = True


class OutputTruncated(ProviderError):
    """The answer was cut at max_tokens. Never repaired: half an answer is no answer."""

    paid = True


class MalformedCompletion(ProviderError):
    """The response breaks the provider's own protocol."""

    retryable = True
    try_next_model = True
    paid = None


class InvalidRequest(ProviderError):
    """The provider does not accept what we send."""


class ServerError(ProviderError):
    """Any other 5xx."""

    retryable = True
    try_next_model = True
    trips_breaker = True
    paid = None


class RepairDeferred(GatewayError):
    """The answer does not satisfy the analysis's schema, and its repair could not be asked for: no room, no time.

    It says nothing of what the model can do. Where the answer lies in the journal, only the repair is asked for later.
    """

    retryable = True
    try_next_model = True
    paid = True


class InvalidOutput(GatewayError):
    """The answer does not satisfy the analysis's schema, after repair and one re-ask."""

    try_next_model = True
    paid = True
