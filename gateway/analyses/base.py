"""What an analysis is: an entry, and the shape its answers must have.

An entry is data. A third party makes one with the same class and offers it by an entry point (see
`registry`). This room knows schemas and prompts, not providers, jobs or models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from gateway.analyses.shapes import AnswerShape, ResultShape
from gateway.messages import Message

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from gateway.messages import JsonObject

Text = Annotated[str, Field(max_length=4_000)]
"""A sentence or a quote. The bound only stops a model that runs away."""

Score = Annotated[int, Field(ge=1, le=10)]
"""1 to 10, as the prompt defines the ends."""

MAX_CLAIMS = 50
"""Longest list of claims: beyond it a model repeats itself."""


class Result(BaseModel):
    """Base of result models: closed, strict (no "7" for 7), finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Sensitivity(StrEnum):
    """What kind of material an analysis reads, for whoever decides where it may go and how long it is kept."""

    INTERNAL = "internal"
    """An organisation's own work: source code, documents."""
    PERSONAL = "personal"
    """May speak of people: messages, activity, assessments."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a caller hands in for one analysis. All but `content` and `context` is for `completion` alone.

    `content` is what is judged (or asked), `context` the prompt's other variables: JSON values by name.
    `messages` is a conversation of the caller's, `schema` a JSON schema and `output_format` a word for the answer.
    """

    content: str
    context: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    schema: JsonObject | None = None
    output_format: str | None = None


ShapeForAsk = Callable[[Ask], AnswerShape]
"""Makes the shape for one call. Raises RequestError where the ask is unusable."""


@dataclass(frozen=True, slots=True)
class Example:
    """A real input that ships with an analysis: `assayline submit TYPE --example` sends it, a test runs it.

    `content` is its file, `context` the prompt's variables for it; `source` says where the material comes from.
    """

    content: Traversable
    source: str
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Analysis:
    """One analysis type.

    `prompts` is the folder of its prompt versions, `prompt_version` the default one. `shape` is
    the shape of its answers; where it depends on the call (a caller's own labels), it is a function
    of the ask instead, and `fixed_schema` the schema if that at least is always the same. `max_output_tokens`
    bounds one answer, `max_content_bytes` the UTF-8 length of what is judged. `cache_ttl_s` is how
    long an answer may be reused. `example` is a real input of it.
    `moves_on_refusal`: whether a model's refusal of the content may be taken to the next model.
    `own_words`: the caller's content is the question itself, and may come with messages, a schema and an output format.
    """

    name: str
    description: str
    shape: ResultShape | ShapeForAsk
    prompts: Traversable
    prompt_version: str
    max_output_tokens: int
    max_content_bytes: int
    cache_ttl_s: int
    sensitivity: Sensitivity
    fixed_schema: JsonObject | None = None
    example: Example | None = None
    temperature: float | None = 0.0
    moves_on_refusal: bool = False
    own_words: bool = False

    @property
    def result_schema(self) -> JsonObject | None:
        """The JSON schema that every answer satisfies; None: it depends on the ask."""
        return self.shape.schema if isinstance(self.shape, ResultShape) else self.fixed_schema

    def shape_for(self, ask: Ask) -> AnswerShape:
        """Return the shape of the answer to this ask.

        Raises:
            RequestError: the shape depends on something in it that is unusable.
        """
        return self.shape if isinstance(self.shape, ResultShape) else self.shape(ask)
