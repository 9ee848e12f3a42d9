"""A job as its worker sees it once claimed: what to do, under which numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from gateway.messages import JsonObject, Message, ModelRef


@dataclass(frozen=True, slots=True)
class Claim:
    """One claimed job. `claim_no` is the fence every later write carries.

    `deadline_in_s`: seconds from the claim to the caller's deadline by Postgres's clock, None without one.
    `spent_usd` and `unpriced_calls`, only where there is a `max_cost_usd`: what earlier claims' calls cost, and how
    many of them cost nobody knows what.
    `fallen`: `provider: error` of each hop that the job has left behind.
    `is_retry`: whether its last attempt failed and was this hop's.
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
    fallen: tuple[str, ...] = ()
    is_retry: bool = False

    @property
    def attempts_left(self) -> int:
        """Provider calls the job may still make."""
        return max(0, self.max_attempts - self.attempts_used)

    @property
    def next_hop(self) -> int | None:
        """Index of the hop after this one, or None where the chain ends or the caller wants no fallback."""
        following = self.hop + 1
        return following if self.use_fallback and following < len(self.chain) else None

    def with_attempts(self, used: int) -> Claim:
        """Return the claim with the calls made since it was read counted in."""
        return self if used == self.attempts_used else replace(self, attempts_used=used)

    @classmethod
    def from_row(cls, fields: dict[str, Any]) -> Claim:
        """Read the columns that `claim.sql` returns."""
        fields["model"] = ModelRef(fields.pop("provider"), fields["model"])
        fields["chain"], fields["fallen"] = tuple(fields["chain"]), tuple(fields["fallen"])
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
