"""What a call may have cost at most, where its request is gone: reckoned from what its job was given.

For calls whose end nobody knows. An estimate as admission's is, by bytes: it errs upwards, and is no bill.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import RequestError
from gateway.ledger import CallKind
from gateway.pricing import worst_cost_usd
from gateway.providers.base import BYTES_PER_TOKEN, MESSAGE_OVERHEAD_TOKENS
from gateway.question import answer_tokens
from gateway.response import MAX_ECHO_CHARS

if TYPE_CHECKING:
    from datetime import date
    from decimal import Decimal

    from gateway.analyses.registry import AnalysisRegistry, Registered
    from gateway.catalog import Catalog
    from gateway.messages import ModelRef

OWN_MESSAGES = 2
"""The system's and the user's."""
REASK_BYTES = 4 * MAX_ECHO_CHARS + 8_000
"""Of a re-ask beyond its question: the answer once more, as far as it is shown, and what is wrong with it."""
FENCE_BYTES = 256
"""Of the lines around the content."""
BOUNDS_SHARE = 2
"""A schema that tells its bounds (`Capability.BOUNDS`) may be so much longer than one that does not."""
MADE_SCHEMA_BYTES, ESCAPED_SHARE = 2_000, 3
"""Of a schema that is made for the job: what is the analysis's own of it; and how much longer what it takes over of the
context (labels, names) or of the caller's schema gets by JSON's escapes."""


@dataclass(frozen=True, slots=True)
class SentCall:
    """A call as the store remembers it.

    input_bytes: UTF-8 of content, context, messages and schema, as JSON where they are. shaping_bytes: of them, those
    of context and schema, of which the sent schema may be made. messages: the caller's turns. day: of the call, UTC;
    its price was that day's.
    """

    model: ModelRef
    analysis: str
    kind: CallKind
    prompt_version: str | None
    max_tokens: int | None
    input_bytes: int
    shaping_bytes: int
    messages: int
    day: date


def worst_usd(call: SentCall, catalog: Catalog, registry: AnalysisRegistry) -> Decimal | None:
    """Price the dearest call that it can have been.

    Returns:
        US dollars; None where the price is unknown, or catalog or registry know its model or analysis no more.
    """
    try:
        entry = catalog.model(call.model)
        registered = registry.get(call.analysis)
        sent_bytes = call.input_bytes + FENCE_BYTES + _prompt_bytes(registered, call.prompt_version)
    except RequestError:
        return None
    sent_bytes += _schema_bytes(registered, call.shaping_bytes)
    messages = OWN_MESSAGES + call.messages
    if call.kind is CallKind.REPAIR:
        sent_bytes, messages = sent_bytes + REASK_BYTES, messages + 2
    input_tokens = math.ceil(sent_bytes / BYTES_PER_TOKEN) + MESSAGE_OVERHEAD_TOKENS * messages
    output_tokens = answer_tokens(entry, call.max_tokens or registered.analysis.max_output_tokens)
    return worst_cost_usd(entry, min(input_tokens, entry.context_window), output_tokens, call.day)


def _prompt_bytes(registered: Registered, prompt_version: str | None) -> int:
    version = registered.prompts.version(prompt_version).version
    return len((registered.analysis.prompts / f"{version}.md").read_bytes())


def _schema_bytes(registered: Registered, shaping_bytes: int) -> int:
    schema = registered.analysis.result_schema
    if schema is None:
        return MADE_SCHEMA_BYTES + ESCAPED_SHARE * shaping_bytes
    return BOUNDS_SHARE * len(json.dumps(schema))
