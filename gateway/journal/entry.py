"""What is kept of the answers of one question, and its form as bytes.

The model's text is kept, not the data that was read from it: whoever finds it reads it anew, by the same rules as a
fresh answer. A digest over the job's name and all the rest tells a damaged entry, and one that lies under another job's
key, from a good one; the question's key, which has its prompt, model, schema and content in it, tells one of another
question. What passes all that is still taken for what a stranger wrote: each value has a kind and a bound.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from gateway.calls.answered import Answered
from gateway.messages import Completion, FinishReason, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ENTRY_BYTES = 1024 * 1024
"""Larger ones are not kept. The longest answer that an analysis allows is about 64 KiB; `completion` may ask for
more."""
MOST_ANSWERS = 2
"""A question is asked once, and once more to show the model what is wrong with its answer."""
MOST_TOKENS = 10**9
MOST_USD = Decimal(10**6)
LONGEST_S = 10.0**6
LAST_CLAIM, LAST_CALL = 2**31 - 1, 2**15 - 1
"""What the ledger's columns hold."""

_MARK = b"J1"
"""Rises with every change of the form: what an older or newer version wrote is not read."""
_DIGEST_CHARS = 32
"""128 bits: enough against accidents, and nobody who can write here needs to forge."""
_ENCODER = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer, and the call that brought it, as the ledger numbers it."""

    claim_no: int
    call_no: int
    answered: Answered


class Unreadable(Exception):
    """The bytes are no entry of this job and question. Says why, and never what they hold."""


def encoded(job: str, question: str, answers: Sequence[Kept]) -> bytes:
    """Return an entry's bytes: mark, digest, JSON.

    Args:
        job: whose it is.
        question: its key, see `gateway.cache.key`.
        answers: in the order in which they came.
    """
    body = _ENCODER.encode([question, [_fields(one) for one in answers]]).encode()
    return b"%s %s %s" % (_MARK, _digest(job, body), body)


def decoded(job: str, question: str, raw: bytes) -> tuple[Kept, ...]:
    """Read an entry's bytes.

    Raises:
        Unreadable: they are another version's, damaged, another job's or question's, or hold what cannot be.
    """
    mark, _, rest = raw.partition(b" ")
    if mark != _MARK:
        raise Unreadable("another version wrote it, or nobody")
    digest, _, body = rest.partition(b" ")
    if len(raw) > MAX_ENTRY_BYTES or digest != _digest(job, body):
        raise Unreadable("it is damaged, or another job's")
    match _json(body):
        case [str(asked), list(answers)]:
            if asked != question:
                raise Unreadable("it answers another question: model, prompt, schema or catalog changed since")
            if not 1 <= len(answers) <= MOST_ANSWERS:
                raise Unreadable("it has no answer, or too many")
            return tuple(_kept(fields) for fields in answers)
    raise Unreadable("it has another form")


def _fields(kept: Kept) -> list[Any]:
    completion, used = kept.answered.completion, kept.answered.completion.usage
    cost_usd = kept.answered.cost_usd
    return [
        kept.claim_no,
        kept.call_no,
        completion.text,
        completion.finish_reason.value,
        completion.model,
        completion.provider_request_id,
        [used.input_tokens, used.output_tokens, used.cached_tokens, used.cache_write_tokens],
        completion.usage_estimated,
        None if cost_usd is None else str(cost_usd),
        kept.answered.latency_s,
    ]


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreadable("it is no JSON") from error


def _kept(fields: object) -> Kept:
    match fields:
        case [
            int(claim_no),
            int(call_no),
            str(text),
            str(reason),
            str(model),
            str() | None as request_id,
            [int(), int(), int(), int()] as counts,
            bool(estimated),
            str() | None as cost,
            int() | float() as latency_s,
        ] if (
            1 <= claim_no <= LAST_CLAIM
            and 1 <= call_no <= LAST_CALL
            and all(0 <= count <= MOST_TOKENS for count in counts)
            and 0 <= latency_s <= LONGEST_S
            and reason in set(FinishReason)
        ):
            completion = Completion(
                text, FinishReason(reason), Usage(*counts), model, request_id, usage_estimated=estimated
            )
            return Kept(claim_no, call_no, Answered(completion, _usd(cost), float(latency_s)))
    raise Unreadable("it holds what no answer has")


def _usd(cost: str | None) -> Decimal | None:
    if cost is None:
        return None
    try:
        usd = Decimal(cost)
    except InvalidOperation as error:
        raise Unreadable("it holds a cost that is none") from error
    if not (usd.is_finite() and 0 <= usd < MOST_USD):
        raise Unreadable("it holds a cost that is none")
    return usd


def _digest(job: str, body: bytes) -> bytes:
    return hashlib.sha256(job.encode() + body).hexdigest()[:_DIGEST_CHARS].encode()
