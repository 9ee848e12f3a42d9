"""What others say (a model, a provider, a file) in the form that Postgres takes."""

from __future__ import annotations

import re
from typing import Any

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""Characters that neither `text` nor `jsonb` takes. A model may well say them; its answer is paid for all the same."""


def storable(said: Any) -> Any:
    """Return texts, and texts in dicts and lists, with U+FFFD in place of NUL and of lone surrogates."""
    match said:
        case str():
            return UNSTORABLE.sub("\ufffd", said)
        case dict():
            return {storable(key): storable(value) for key, value in said.items()}
        case list():
            return [storable(value) for value in said]
    return said
