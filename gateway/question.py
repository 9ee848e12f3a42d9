"""Writing the question of an analysis: from an entry, a content and a caller's wishes to a request.

Pure: no call is made here, and everything a caller can do wrong is found here, before any money is spent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.catalog_entries import Capability
from gateway.errors import RequestError
from gateway.messages import CompletionRequest, Message

if TYPE_CHECKING:
    from gateway.analyses.base import Analysis, Ask
    from gateway.analyses.registry import Registered
    from gateway.analyses.shapes import AnswerShape
    from gateway.calls.hop import Hop
    from gateway.catalog_entries import ModelEntry
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
    shape: AnswerShape
    request: CompletionRequest

    @property
    def likeness(self) -> tuple[str, str, str]:
        """What it has in common with questions whose answers are probably as long as its own."""
        return (self.analysis.name, self.prompt.version, str(self.hop.ref))


def write_question(entry: Registered, ask: Ask, hop: Hop, wishes: Wishes) -> Question:
    """Write the request for one analysis.

    `max_tokens` has room for the model's thinking and is bounded by its own limit; a schema or a temperature is
    left out where the model takes none; `timeout_s` is the deadline of the whole analysis, by default the provider's.

    Raises:
        RequestError: the content is empty, too long or no Unicode; a wish, the prompt version, the
            context or something else in the ask cannot be used.
    """
    analysis = entry.analysis
    _check_ask(analysis, ask)
    _check_wishes(wishes)
    prompt = entry.prompts.version(wishes.prompt_version)
    shape = analysis.shape_for(ask)
    rendered = prompt.render(ask.content, {**ask.context, **shape.prompt_values})
    request = CompletionRequest(
        model=hop.ref.model,
        messages=_conversation(rendered, ask.messages),
        max_tokens=answer_tokens(hop.entry, wishes.max_tokens or analysis.max_output_tokens),
        temperature=_temperature(hop.entry, analysis, wishes.temperature),
        schema=_schema(hop.entry, shape),
        schema_name=analysis.name,
        timeout_s=wishes.timeout_s or hop.timeout_s,
        extra_body=hop.entry.extra_body,
    )
    return Question(analysis, prompt, hop, shape, request)


def answer_tokens(entry: ModelEntry, wanted_tokens: int) -> int:
    """Return how many tokens a model may write for an answer of so many: with room to think, within its own bound."""
    return min(wanted_tokens + entry.thinking_tokens, entry.max_output_tokens)


def _conversation(rendered: tuple[Message, ...], turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """Put the caller's turns between our instructions and the question."""
    ours = tuple(message for message in rendered if message.role == "system")
    return (*ours, *turns, *rendered[len(ours) :])


def _check_ask(analysis: Analysis, ask: Ask) -> None:
    own = [name for name in ("messages", "schema", "output_format") if getattr(ask, name)]
    if own and not analysis.own_words:
        raise RequestError(f"{analysis.name} asks in its own words: it takes no {' and no '.join(own)}")
    _check_size(analysis, "".join((ask.content, *(message.content for message in ask.messages))))
    if ask.content.strip():
        return
    if not ask.messages:
        raise RequestError(f"{analysis.name}: the content is empty")
    if ask.messages[-1].role != "user":
        raise RequestError(f"{analysis.name}: without content, the last of the messages is the user's")


def _check_size(analysis: Analysis, text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise RequestError(f"{analysis.name}: the content is not valid Unicode (a lone surrogate)") from error
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


def _schema(entry: ModelEntry, shape: AnswerShape) -> JsonObject | None:
    if Capability.STRUCTURED_OUTPUT not in entry.capabilities:
        return None
    return shape.bounded_schema if Capability.BOUNDS in entry.capabilities else shape.schema
