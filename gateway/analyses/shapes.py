"""What one call's answer must look like, and how its text is read.

Three kinds: a pydantic result model (every fixed analysis), a caller's own JSON schema, and plain text, Markdown
or code. Each says which schema is sent to the provider, and reads an answer into data or into what is wrong with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError

from gateway.analyses.callers_schema import Validator, broken_rules, common_part, written_out
from gateway.analyses.code_blocks import code_blocks
from gateway.analyses.schema_lint import bounded_schema, common_schema
from gateway.response import NotValid, Parsed, Unusable, first_few, read_json

if TYPE_CHECKING:
    from gateway.messages import JsonObject


class OutputFormat(StrEnum):
    """What a caller of `completion` may want back."""

    TEXT = "text"
    MARKDOWN = "markdown"
    CODE = "code"
    """One code block, without its fence."""
    JSON = "json"


class AnswerShape(Protocol):
    """The shape of an answer."""

    @property
    def schema(self) -> JsonObject | None:
        """The schema to send; None: none is sent."""

    @property
    def bounded_schema(self) -> JsonObject | None:
        """`schema` with the bounds of integers and strings, for models whose servers enforce them."""

    @property
    def prompt_values(self) -> Mapping[str, Any]:
        """What the prompt must say about the shape: variables of the prompt, beside the caller's context."""

    @property
    def fingerprint(self) -> str:
        """What tells this shape from others that read an answer otherwise: part of a remembered answer's key."""

    def read(self, text: str) -> Parsed | Unusable:
        """Read a whole answer."""


@dataclass(frozen=True, slots=True)
class ResultShape:
    """The shape that a pydantic model describes."""

    model: type[BaseModel]
    schema: JsonObject
    bounded_schema: JsonObject
    prompt_values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: type[BaseModel]) -> ResultShape:
        """Build the shape of a model.

        Raises:
            ConfigurationError: its schema leaves the common subset of the providers.
        """
        return cls(model, common_schema(model), bounded_schema(model))

    @property
    def fingerprint(self) -> str:
        """The digest of the model's whole schema, bounds and all."""
        return _fingerprint_of_model(self.model)

    def read(self, text: str) -> Parsed | Unusable:
        """See `AnswerShape.read`."""
        return read_json(text, self._validated)

    def _validated(self, text: str) -> JsonObject:
        try:
            return self.model.model_validate_json(text).model_dump(mode="json")
        except ValidationError as error:
            raise NotValid(_in_words(error)) from error


@dataclass(frozen=True, slots=True)
class SchemaShape:
    """The shape that a caller's JSON schema (draft 2020-12) describes.

    Sent natively where it lies within the common subset; one that leaves it (maps, optional fields) is only
    described in the prompt. Either way the answer is validated against the caller's schema, whole.
    """

    validator: Draft202012Validator
    schema: JsonObject | None
    prompt_values: Mapping[str, Any]

    @property
    def bounded_schema(self) -> JsonObject | None:
        """The same: the caller's ranges are checked when the answer is read."""
        return self.schema

    @property
    def fingerprint(self) -> str:
        """The digest of the caller's schema."""
        return _digest(self.validator.schema)

    @classmethod
    def of(cls, schema: JsonObject) -> SchemaShape:
        """Build the shape of a caller's schema; raises RequestError as `written_out` does."""
        whole = written_out(schema)
        values = {"output_format": OutputFormat.JSON.value, "schema": schema}
        return cls(Validator(whole), common_part(whole), values)

    def read(self, text: str) -> Parsed | Unusable:
        """See `AnswerShape.read`."""
        return read_json(text, self._validated)

    def _validated(self, text: str) -> JsonObject:
        data: JsonObject = json.loads(text)
        if broken := broken_rules(self.validator, data):
            raise NotValid(first_few(broken))
        return data


@dataclass(frozen=True, slots=True)
class TextShape:
    """Plain text, Markdown, code, or any JSON object: no schema."""

    output_format: OutputFormat
    schema: None = None
    bounded_schema: None = None

    @property
    def prompt_values(self) -> Mapping[str, Any]:
        """The format alone."""
        return {"output_format": self.output_format.value}

    @property
    def fingerprint(self) -> str:
        """The format's name."""
        return self.output_format.value

    def read(self, text: str) -> Parsed | Unusable:
        """See `AnswerShape.read`. The data's one field is named for the format; code has its `language` too."""
        if not text.strip():
            return Unusable(("the answer is empty",), f"as {self.output_format}")
        if self.output_format is OutputFormat.JSON:
            return read_json(text, _any_object)
        if self.output_format is OutputFormat.CODE:
            return _code(text)
        return Parsed({self.output_format.value: text.strip()}, repaired=False)


REMEMBERED_MODELS = 512
"""As many as there are analyses and remembered label sets, and room: describing a model takes a millisecond."""


@lru_cache(maxsize=REMEMBERED_MODELS)
def _fingerprint_of_model(model: type[BaseModel]) -> str:
    return _digest(model.model_json_schema())


def _digest(schema: Any) -> str:
    return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()


def _code(text: str) -> Parsed | Unusable:
    """Read one code block; text without any fence is code as it stands."""
    blocks, open_block = code_blocks(text)
    if open_block or ("```" in text and not blocks):
        return Unusable(("the code block is not closed",), "as one fenced code block")
    if len(blocks) > 1:
        return Unusable((f"there are {len(blocks)} code blocks; one is wanted",), "as one fenced code block")
    if blocks:
        return Parsed({"code": blocks[0].code, "language": blocks[0].language or None}, repaired=False)
    return Parsed({"code": text.strip("\n"), "language": None}, repaired=False)


def _any_object(text: str) -> JsonObject:
    data = json.loads(text)
    if not isinstance(data, dict):
        raise NotValid((f"the answer is a JSON {type(data).__name__}, not an object",))
    return data


def _in_words(error: ValidationError) -> tuple[str, ...]:
    """Name each finding's place and rule; the value stays out, it may be personal."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return first_few([f"{'.'.join(map(str, item['loc'])) or 'the answer'}: {item['msg']}" for item in found])
