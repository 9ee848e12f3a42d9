"""What comes back of analyses and prompts, as the OpenAPI document describes it."""

from __future__ import annotations

from pydantic import Field

from api.answers import Answer
from gateway.analyses.base import Sensitivity
from gateway.catalog_entries import Lane
from tasks.words import JsonMap


class PromptLine(Answer):
    """One version of a prompt."""

    version: str
    description: str
    fingerprint: str = Field(description="SHA-256 of version and text")
    required: list[str] = Field(description="Variables that `context` must hold")
    optional: JsonMap = Field(description="Variables that it may hold, with their defaults")


class PromptAnswer(PromptLine):
    """A prompt version with its text."""

    id: str = Field(description="`analysis/version`")
    analysis: str
    default: bool = Field(description="Whether it is used where a job names no version")
    text: str = Field(description="The file: front matter, then the system and the user part")


class AnalysisLine(Answer):
    """An analysis in the list of them."""

    name: str
    description: str
    lane: Lane
    chain: list[str] = Field(description="Models of configured providers, in order; empty: nobody serves it now")
    sensitivity: Sensitivity


class AnalysisLimits(Answer):
    """What an analysis takes and gives at most."""

    max_content_bytes: int
    max_output_tokens: int
    cache_ttl_s: int
    temperature: float | None


class ExampleAnswer(Answer):
    """A real input of an analysis."""

    content: str
    context: JsonMap
    source: str = Field(description="Where it comes from")


class AnalysisAnswer(AnalysisLine):
    """All about an analysis."""

    result_schema: JsonMap | None = Field(description="JSON schema of `result.data`; null: it depends on the request")
    prompt_version: str = Field(description="The one used where a job names none")
    prompts: list[PromptLine]
    limits: AnalysisLimits
    own_words: bool = Field(description="It takes the caller's own messages, schema and output_format")
    moves_on_refusal: bool = Field(description="A refusal of the content may be taken to the next model")
    example: ExampleAnswer | None


class AnalysesAnswer(Answer):
    """All analyses there are."""

    analyses: list[AnalysisLine]
