"""code_generation: code for a stated requirement, with what was assumed to write it.

What the requirement leaves open is assumed in the open or asked, before the code that rests on it.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated

from pydantic import Field

from gateway.analyses.base import MAX_CLAIMS, Analysis, Example, Result, Sensitivity, Text
from gateway.analyses.engineering.code_text import Code
from gateway.analyses.evidence import Name
from gateway.analyses.shapes import ResultShape


class CodeGeneration(Result):
    """Assumptions, then bare code, then how to use it and what is left to ask. `code` is a whole file."""

    assumptions: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    language: Name
    code: Code
    usage: Text
    limitations: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    open_questions: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]


ANALYSIS = Analysis(
    name="code_generation",
    description="Code for a stated requirement, with the assumptions it rests on and what is left to ask",
    shape=ResultShape.of(CodeGeneration),
    prompts=files("gateway") / "prompts" / "code_generation",
    prompt_version="v1",
    max_output_tokens=8_000,
    max_content_bytes=100_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.INTERNAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "code_generation.txt",
        "Written for Assayline.",
        {"language": "python", "coding_standards": "PEP 8, type hints, no dependencies"},
    ),
)
