"""Code and documents as fields of an answer: longer than a sentence; code without the fence models put round it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from gateway.analyses.code_blocks import code_blocks

MAX_CHARS = 40_000
"""Longest code or document. The bound only stops a model that runs away; max_output_tokens is the real one."""


def unfenced(text: str) -> str:
    """Return code without the one Markdown fence around all of it; anything else stays as it is.

    The fence is no part of the code: a file that began with it would not run. Text around a fence may be code as
    well, such as the docstring that a fenced example stands in.

    Raises:
        ValueError: there is nothing in the fence.
    """
    blocks, open_block = code_blocks(text.strip())
    if open_block or len(blocks) != 1 or blocks[0].before or blocks[0].after:
        return text
    if not blocks[0].code.strip():
        raise ValueError("there is no code in the fence")
    return blocks[0].code


Code = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARS, pattern=r"\S"), AfterValidator(unfenced)]
Markdown = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARS, pattern=r"\S")]
