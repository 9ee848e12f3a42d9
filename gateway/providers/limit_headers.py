"""What a provider's headers say of its limits, read into `ToldLimits`. Names and forms are data: a `LimitHeaders` each.

A header that cannot be read, or holds what cannot be, is left out; nothing in here fails because of one.

The draft of RateLimit and RateLimit-Policy (IETF httpapi) is not read: it counts in quota units, over windows of the
server's choice, and so tells of none of our kinds.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from gateway.errors import ProviderError
from gateway.limits.kinds import LimitKind
from gateway.limits.told import LONGEST_RESET_S, MOST_TOLD, ToldLimit, ToldLimits
from gateway.providers.wire import moment, retry_after_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gateway.messages import Completion

_COUNT = re.compile(r"[0-9]{1,13}")
_DURATION = re.compile(
    r"(?:([0-9]{1,3})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,6}(?:\.[0-9]{1,9})?)s)?(?:([0-9]{1,9}(?:\.[0-9]{1,6})?)ms)?"
)
_UNITS_S = (3600, 60, 1, 0.001)
_SECONDS = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class Names:
    """The lower-case names of the headers that tell of one kind."""

    kind: LimitKind
    remaining: str
    limit: str
    reset: str


@dataclass(frozen=True, slots=True)
class LimitHeaders:
    """How a provider writes its limits. Of several `Names` of a kind the first that tells an amount counts.

    `reset_s` reads a reset's text, given the server's date (None: unknown), into seconds; None where it cannot.
    """

    names: tuple[Names, ...]
    reset_s: Callable[[str, datetime | None], float | None]

    def read(self, headers: Mapping[str, str], wait_s: float | None = None) -> ToldLimits | None:
        """Return what a response's headers tell; None where they tell nothing but the date.

        Args:
            headers: found by lower-case names.
            wait_s: what its body asks for, where that says more than its headers.
        """
        told = [(names, left) for names in self.names if (left := count(headers.get(names.remaining))) is not None]
        wait_s = retry_after_s(headers) if wait_s is None else wait_s
        if not told and wait_s is None:
            return None
        date = moment(headers.get("date"))
        limits: dict[LimitKind, ToldLimit] = {}
        for names, remaining in told:
            reset_s = self._bounded_reset_s(headers.get(names.reset), date)
            limits.setdefault(names.kind, ToldLimit(remaining, count(headers.get(names.limit)), reset_s))
        return ToldLimits(limits, None if date is None else date.timestamp(), wait_s)

    def added_to(self, completion: Completion) -> Completion:
        """Return the answer with what its headers, those that were kept, tell."""
        told = self.read(completion.headers)
        return completion if told is None else replace(completion, told=told)

    @contextmanager
    def added_to_errors(self, headers: Mapping[str, str]) -> Iterator[None]:
        """Add what `headers` tell to each ProviderError that passes and has nothing told yet."""
        try:
            yield
        except ProviderError as error:
            error.told = error.told or self.read(headers)
            raise

    def _bounded_reset_s(self, text: str | None, date: datetime | None) -> float | None:
        seconds = None if text is None else self.reset_s(text, date)
        return seconds if seconds is not None and seconds <= LONGEST_RESET_S else None


def count(text: str | None) -> int | None:
    """Read a whole number, 0 to `MOST_TOLD`; None where it is none. Azure writes -1 for what it does not know."""
    if text is None or not _COUNT.fullmatch(text):
        return None
    amount = int(text)
    return amount if amount <= MOST_TOLD else None


def duration_s(text: str, _date: datetime | None = None) -> float | None:
    """Read a duration as Go writes it (`6m0s`, `7.66s`, `120ms`), or a bare number of seconds, as Azure does."""
    if _SECONDS.fullmatch(text):
        return float(text)
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return None
    return sum(float(part) * unit_s for part, unit_s in zip(match.groups(), _UNITS_S, strict=True) if part)


def until_s(text: str, date: datetime | None) -> float | None:
    """Read a moment (RFC 3339) as the time from the server's date to it; 0 where it is past.

    Without that date it is not known: our own clock may be another.
    """
    try:
        until = datetime.fromisoformat(text)
    except ValueError:
        return None
    if date is None or until.tzinfo is None:
        return None
    return max(0.0, (until - date).total_seconds())


OPENAI = LimitHeaders(
    tuple(
        Names(kind, *(f"x-ratelimit-{what}-{word}" for what in ("remaining", "limit", "reset")))
        for kind, word in (
            (LimitKind.REQUESTS, "requests"),
            (LimitKind.TOKENS, "tokens"),
            (LimitKind.REQUESTS, "req-minute"),
            (LimitKind.TOKENS, "tokens-minute"),
        )
    ),
    duration_s,
)
"""OpenAI's, and those of most servers that copy it; the last two are Mistral's. Sources:
https://platform.openai.com/docs/guides/rate-limits, openai/openai-dotnet#838 (Azure), mistralai/client-ts#169."""

WAIT_ONLY = LimitHeaders((), duration_s)
"""Of a provider that tells no limits, only at times how long to wait."""
