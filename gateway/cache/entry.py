"""What is remembered of an answer, and its form as bytes.

The model's text is kept, not the data that was read from it: whoever finds it reads it anew, by the same rules as a
fresh answer, so an entry can say nothing that the model could not have said. A digest over key and text tells a
damaged entry, and one that lies under another question's key, from a good one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from gateway.messages import Usage

MAX_ENTRY_BYTES = 256 * 1024
"""Larger answers are not remembered. The longest one that an analysis allows is about 16,000 tokens, 64 KiB."""

_MARK = b"A1"
_DIGEST_CHARS = 32
"""128 bits: enough against accidents, and nobody who can write here needs to forge."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer as it came: the text, the model that the provider says it used, the prompt's version, the usage."""

    text: str
    model: str
    prompt_version: str
    usage: Usage


class NotAnEntry(Exception):
    """The bytes are not an entry of this key."""


def encoded(key: str, entry: Entry) -> bytes:
    """Return an entry's bytes: mark, digest, JSON."""
    used = entry.usage
    counts = [used.input_tokens, used.output_tokens, used.cached_tokens, used.cache_write_tokens]
    body = json.dumps([entry.text, entry.model, entry.prompt_version, counts]).encode()
    return b"%s %s %s" % (_MARK, _digest(key, body), body)


def decoded(key: str, raw: bytes) -> Entry:
    """Read an entry's bytes.

    Raises:
        NotAnEntry: they are something else, damaged, or another key's.
    """
    mark, _, rest = raw.partition(b" ")
    digest, _, body = rest.partition(b" ")
    if mark != _MARK or digest != _digest(key, body):
        raise NotAnEntry(key)
    text, model, prompt_version, usage = json.loads(body)
    return Entry(text, model, prompt_version, Usage(*usage))


def _digest(key: str, body: bytes) -> bytes:
    return hashlib.sha256(key.encode() + body).hexdigest()[:_DIGEST_CHARS].encode()
