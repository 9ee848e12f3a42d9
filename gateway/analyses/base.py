"""What an analysis is: an entry, and the shape its answers must have.

An entry is data. A third party makes one with the same class and offers it by an entry point (see
`registry`). This room knows schemas and prompts, not providers, jobs or models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from gateway.analyses.schema_lint import common_schema, ranged_schema

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


class Claim(Result):
    """Something said to be shown, after the quote that shows it: evidence first makes a model look before it names."""

    evidence: Text
    name: Annotated[str, Field(min_length=1, max_length=200)]


Claims = Annotated[list[Claim], Field(max_length=MAX_CLAIMS)]


class Sensitivity(StrEnum):
    """What kind of material an analysis reads, for whoever decides where it may go and how long it is kept."""

    INTERNAL = "internal"
    """An organisation's own work: source code, documents."""
    PERSONAL = "personal"
    """May speak of people: messages, activity, assessments."""


@dataclass(frozen=True, slots=True)
class ResultShape:
    """What one call's answer must look like: the pydantic model that reads it, and the schema that is sent.

    `ranged_schema` is `schema` with the ranges of integers, for models whose servers enforce them.
    """

    model: type[BaseModel]
    schema: JsonObject
    ranged_schema: JsonObject

    @classmethod
    def of(cls, model: type[BaseModel]) -> ResultShape:
        """Build the shape of a model.

        Raises:
            ConfigurationError: its schema leaves the common subset of the providers.
        """
        return cls(model, common_schema(model), ranged_schema(model))


ShapeForContext = Callable[[Mapping[str, Any]], ResultShape]
"""Makes the shape for one call's context. Raises PromptError where the context is unusable."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """One analysis type.

    `prompts` is the folder of its prompt versions, `prompt_version` the default one. `shape` is
    the shape of its answers; where it depends on the call (a caller's own labels), it is a function
    of the context instead. `max_output_tokens` bounds one answer, `max_content_bytes` the UTF-8 length of
    what is judged. `cache_ttl_s` is how long an answer may be reused. `moves_on_refusal`: whether a
    model's refusal of the content may be taken to the next model.
    """

    name: str
    description: str
    shape: ResultShape | ShapeForContext
    prompts: Traversable
    prompt_version: str
    max_output_tokens: int
    max_content_bytes: int
    cache_ttl_s: int
    sensitivity: Sensitivity
    temperature: float | None = 0.0
    moves_on_refusal: bool = False

    def shape_for(self, context: Mapping[str, Any]) -> ResultShape:
        """Return the shape of the answer to a call with this context.

        Raises:
            PromptError: the shape depends on a context value that is unusable.
        """
        return self.shape if isinstance(self.shape, ResultShape) else self.shape(context)
