"""text_classification: one of the caller's labels for a text.

The labels come with each call, in `context["labels"]`, so the shape of the answer does too: the
label is an enum of just these words, in the schema that is sent and in the model that reads.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Any

from pydantic import Field, create_model

from gateway.analyses.base import Analysis, Ask, Example, Result, Sensitivity, Text
from gateway.analyses.shapes import ResultShape
from gateway.errors import PromptError

MAX_LABELS = 100
"""More is a search, not a choice; providers bound a schema's enum values too."""

MAX_LABEL_CHARS = 100

REMEMBERED_LABEL_SETS = 256
"""A caller uses few label sets; building a model for one takes about a millisecond."""


class TextClassification(Result):
    """Evidence, then the label it speaks for, then how sure.

    `label` is narrowed to the caller's labels for each call.
    """

    evidence: Text
    label: str
    confidence_percent: Annotated[int, Field(ge=0, le=100)]


def shape_for(ask: Ask) -> ResultShape:
    """Return the shape for the labels in the ask's context.

    Raises:
        PromptError: `labels` is not a list of 2 to 100 different, non-empty strings.
    """
    labels = ask.context.get("labels")
    if not isinstance(labels, (list, tuple)) or not all(isinstance(label, str) for label in labels):
        raise PromptError("text_classification needs the context's labels: a list of strings")
    if not 2 <= len(labels) <= MAX_LABELS or len(set(labels)) < len(labels):
        raise PromptError(f"labels: {len(labels)} given; 2 to {MAX_LABELS} are needed, no two the same")
    if any(not label.strip() or len(label) > MAX_LABEL_CHARS or not label.isprintable() for label in labels):
        raise PromptError(f"labels: each is 1 to {MAX_LABEL_CHARS} printable characters")
    return _shape(tuple(labels))


@lru_cache(maxsize=REMEMBERED_LABEL_SETS)
def _shape(labels: tuple[str, ...]) -> ResultShape:
    # Members are numbered: a label may be any text, a member's name may not.
    label_type = StrEnum("Label", {f"LABEL_{number}": label for number, label in enumerate(labels)})  # type: ignore[misc]
    fields: dict[str, Any] = {"label": (label_type, ...)}
    return ResultShape.of(create_model("TextClassification", __base__=TextClassification, **fields))


ANALYSIS = Analysis(
    name="text_classification",
    description="Exactly one of the caller's labels for a text, with the words that decided it",
    shape=shape_for,
    prompts=files("gateway") / "prompts" / "text_classification",
    prompt_version="v1",
    max_output_tokens=300,
    max_content_bytes=100_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.PERSONAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "text_classification.txt",
        "Written for Assayline.",
        {"labels": ["fault", "question", "praise"], "guidance": "fault: something does not work as it should"},
    ),
)
