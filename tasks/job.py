"""A job as its worker sees it once claimed: what to do, under which numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from gateway.messages import JsonObject, Message, ModelRef


@dataclass(frozen=True, slots=True)
class Cause:
    """One unhappy end of the job's, as far as what comes next depends on it.

    model: where it stood, as `provider/model`. move: what was done about it. error: what it ended with, by name.
    too_small: models of the chain that the job does not fit, as this end has shown.
    """

    model: str
    move: str
    error: str
    too_small: tuple[str, ...] = ()

    @property
    def provider(self) -> str:
        """Who failed."""
        return self.model.partition("/")[0]

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Cause:
        """Read an entry of `jobs.causes`."""
        model = f"{entry.get('provider', '')}/{entry.get('model', '')}"
        return cls(model, entry.get("move", ""), entry.get("error", ""), tuple(entry.get("too_small", ())))


@dataclass(frozen=True, slots=True)
class Claim:
    """One claimed job. `claim_no` is the fence every later write carries.

    `deadline_in_s`: seconds from the claim to the caller's deadline by Postgres's clock, None without one.
    `spent_usd` and `unpriced_calls`, only where there is a `max_cost_usd`: what earlier claims' calls cost, and how
    many of them cost nobody knows what.
    `causes`: what went wrong so far, oldest first.
    `chain` holds the hops, `hop` the index of the one in force, which `model` names.
    """

    id: UUID
    claim_no: int
    analysis: str
    tenant: str
    lane: str
    model: ModelRef
    chain: tuple[str, ...]
    hop: int
    prompt_version: str | None
    output_format: str | None
    max_tokens: int | None
    temperature: float | None
    max_cost_usd: Decimal | None
    max_attempts: int
    attempts_used: int
    use_cache: bool
    use_fallback: bool
    deadline_in_s: float | None
    spent_usd: Decimal | None
    unpriced_calls: int | None
    content: str
    context: JsonObject
    messages: tuple[Message, ...]
    schema: JsonObject | None
    causes: tuple[Cause, ...] = ()

    @property
    def attempts_left(self) -> int:
        """Provider calls the job may still make."""
        return max(0, self.max_attempts - self.attempts_used)

    @property
    def later_hops(self) -> range:
        """Indices of the hops after this one; none where the caller wants no fallback."""
        return range(self.hop + 1, len(self.chain) if self.use_fallback else 0)

    @property
    def is_retry(self) -> bool:
        """Whether its last attempt failed and was this hop's, with whichever account there had room.

        A call of another account than the one that could not make it repeats none of that account's.
        """
        return bool(self.causes) and self.causes[-1].move == "retry"

    @property
    def fallen(self) -> tuple[str, ...]:
        """`provider: error` of each hop that the job has left behind."""
        return tuple(f"{cause.provider}: {cause.error}" for cause in self.causes if cause.move == "fallback")

    @property
    def left_for(self) -> dict[str, str]:
        """The error for which each model was left that the job was moved on from, the latest where there are more."""
        return {cause.model: cause.error for cause in self.causes if cause.move == "fallback"}

    @property
    def too_small(self) -> frozenset[str]:
        """Models of the chain that the job is known not to fit."""
        return frozenset(model for cause in self.causes for model in cause.too_small)

    def with_attempts(self, used: int) -> Claim:
        """Return the claim with the calls made since it was read counted in."""
        return self if used == self.attempts_used else replace(self, attempts_used=used)

    @classmethod
    def from_row(cls, fields: dict[str, Any]) -> Claim:
        """Read the columns that `claim.sql` returns."""
        fields["model"] = ModelRef(fields.pop("provider"), fields["model"])
        fields["chain"] = tuple(fields["chain"])
        fields["causes"] = tuple(Cause.from_json(entry) for entry in fields["causes"])
        fields["messages"] = tuple(Message(m["role"], m["content"]) for m in fields["messages"] or ())
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Released:
    """What a message says: this job, under this release number, in this queue. Nothing else ever lies in a broker."""

    id: UUID
    release: int
    provider: str
    lane: str

    @property
    def queue(self) -> str:
        """Name of the queue it belongs to."""
        return f"{self.provider}.{self.lane}"
