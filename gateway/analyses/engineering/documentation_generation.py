"""documentation_generation: documentation of code, for a stated reader, of what the code shows and no more."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated

from pydantic import Field

from gateway.analyses.base import MAX_CLAIMS, Analysis, Example, Result, Sensitivity, Text
from gateway.analyses.engineering.code_text import Markdown
from gateway.analyses.evidence import Name, Unsaid
from gateway.analyses.shapes import ResultShape


class DocumentationGeneration(Result):
    """What the code offers, the text about it in Markdown, and what the code does not tell."""

    title: Name
    documented: Annotated[list[Name], Field(max_length=MAX_CLAIMS)]
    documentation: Markdown
    pitfalls: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    insufficient_evidence: Unsaid


ANALYSIS = Analysis(
    name="documentation_generation",
    description="Documentation in Markdown of a piece of code, for a stated reader, of what the code shows",
    shape=ResultShape.of(DocumentationGeneration),
    prompts=files("gateway") / "prompts" / "documentation_generation",
    prompt_version="v1",
    max_output_tokens=8_000,
    max_content_bytes=200_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.INTERNAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "documentation_generation.py.txt",
        "Written for Assayline.",
        {"file_path": "window.py", "audience": "somebody who calls it"},
    ),
)
