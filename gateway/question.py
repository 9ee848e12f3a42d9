"""Writing the question of an analysis: from an entry, a content and a caller's wishes to a request.

Pure: no call is made here, and everything a caller can do wrong is found here, before any money is spent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.catalog import Capability
from gateway.errors import RequestError
from gateway.messages import CompletionRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.analyses.base import Analysis, ResultShape
    from gateway.analyses.registry import Registered
    from gateway.call import Hop
    from gateway.catalog import ModelEntry
    from gateway.messages import JsonObject
    from gateway.prompts.template import PromptVersion


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a caller may want otherwise than the analysis and the catalog say. None: as they say."""

    prompt_version: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """An analysis about to be asked: the request, and what is needed to read its answer."""

    analysis: Analysis
    prompt: PromptVersion
    hop: Hop
    shape: ResultShape
    request: CompletionRequest


def write_question(entry: Registered, content: str, context: Mapping[str, Any], hop: Hop, wishes: Wishes) -> Question:
    """Write the request for one analysis.

    `max_tokens` is bounded by the model's own limit; a schema or a temperature is left out where the
    model takes none; `timeout_s` is the deadline of the whole analysis, by default the provider's.

    Raises:
        RequestError: the content is empty, too long or no Unicode; a wish, the prompt version or the
            context cannot be used.
    """
    analysis = entry.analysis
    _check_content(analysis, content)
    _check_wishes(wishes)
    prompt = entry.prompts.version(wishes.prompt_version)
    shape = analysis.shape_for(context)
    request = CompletionRequest(
        model=hop.ref.model,
        messages=prompt.render(content, context),
        max_tokens=min(wishes.max_tokens or analysis.max_output_tokens, hop.entry.max_output_tokens),
        temperature=_temperature(hop.entry, analysis, wishes.temperature),
        schema=_schema(hop.entry, shape),
        schema_name=analysis.name,
        timeout_s=wishes.timeout_s or hop.timeout_s,
    )
    return Question(analysis, prompt, hop, shape, request)


def _check_content(analysis: Analysis, content: str) -> None:
    try:
        size = len(content.encode())
    except UnicodeEncodeError as error:
        raise RequestError(f"{analysis.name}: the content is not valid Unicode (a lone surrogate)") from error
    if not content or content.isspace():
        raise RequestError(f"{analysis.name}: the content is empty")
    if size > analysis.max_content_bytes:
        limit = analysis.max_content_bytes
        raise RequestError(f"{analysis.name}: the content has {size} bytes, at most {limit} are allowed")


def _check_wishes(wishes: Wishes) -> None:
    for name, value in (("max_tokens", wishes.max_tokens), ("timeout_s", wishes.timeout_s)):
        if value is not None and not value > 0:
            raise RequestError(f"{name} is above 0, not {value}")


def _temperature(entry: ModelEntry, analysis: Analysis, wanted: float | None) -> float | None:
    if Capability.TEMPERATURE not in entry.capabilities:
        return None
    return analysis.temperature if wanted is None else wanted


def _schema(entry: ModelEntry, shape: ResultShape) -> JsonObject | None:
    if Capability.STRUCTURED_OUTPUT not in entry.capabilities:
        return None
    return shape.ranged_schema if Capability.INTEGER_RANGES in entry.capabilities else shape.schema
