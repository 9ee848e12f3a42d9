"""Code and documents as fields of an answer: longer than a sentence; code without the fence models put round it."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

MAX_CHARS = 40_000
"""Longest code or document. The bound only stops a model that runs away; max_output_tokens is the real one."""

_FENCE = re.compile(r"\A\s*(`{3,}|~{3,})[^\n]*\n(?P<code>.*?)\n?[ \t]*\1[ \t]*\s*\Z", re.DOTALL)


def unfenced(text: str) -> str:
    """Return code without the one Markdown fence around all of it; anything else stays as it is.

    The fence is no part of the code: a file that began with it would not run.
    """
    match = _FENCE.match(text)
    return match["code"] if match and match[1] not in match["code"] else text


Code = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARS, pattern=r"\S"), AfterValidator(unfenced)]
Markdown = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARS, pattern=r"\S")]
