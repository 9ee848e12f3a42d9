"""What makes two questions the same question: the key of an answer.

Made of what goes into an answer and of nothing else. The rendered messages are no part of it: each has a random
marker in its fence, so the key is made of what they are rendered from (the prompt's text, the context, the content).
Left out on purpose: deadlines, budgets, lanes and whoever's key pays, because no answer depends on them.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.analyses.base import Ask
    from gateway.question import Question

FORMAT = 1
"""Rises with every change of the key's parts or of an entry's form: older entries are never found again."""

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def answer_key(question: Question, ask: Ask, tenant: str) -> str | None:
    """Return the key of a question's answer: 64 hex digits, the SHA-256 of a canonical encoding of `parts`.

    Args:
        question: as it is about to be asked.
        ask: what the caller handed in for it.
        tenant: on whose behalf; nobody else's answer has this key.

    Returns:
        The key; None where the parts have no canonical form (an object with keys of several kinds).
    """
    try:
        text = _ENCODER.encode(parts(question, ask, tenant))
    except (TypeError, ValueError):
        return None
    return hashlib.sha256(text.encode()).hexdigest()


def parts(question: Question, ask: Ask, tenant: str) -> dict[str, Any]:
    """Return all that an answer depends on, by name."""
    request, hop = question.request, question.hop
    served_by = hop.provider.config
    return {
        "format": FORMAT,
        "tenant": tenant,
        "analysis": question.analysis.name,
        "prompt": question.prompt.fingerprint,
        "read_as": question.shape.fingerprint,
        "schema_sent": request.schema,
        "provider": hop.ref.provider,
        "model": hop.ref.model,
        "base_url": served_by.base_url,
        "dialect": served_by.dialect,
        "options": dict(served_by.options),
        "extra_body": request.extra_body,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "context": dict(ask.context),
        "messages": [(message.role, message.content) for message in ask.messages],
        "schema": ask.schema,
        "output_format": ask.output_format,
        # Hashed by itself: escaping a long text as JSON costs more than hashing it.
        "content": hashlib.sha256(ask.content.encode()).hexdigest(),
    }
