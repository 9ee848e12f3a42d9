"""completion: the caller's own prompt or messages, and the form of answer the caller wants.

The content is the question, the last turn of the conversation; `messages` are the turns before it. It stands in no
fence: the caller vouches for it. With a `schema` the answer is JSON that satisfies it; else `output_format` says
text, markdown, code (one block) or json (any object).
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from gateway.analyses.base import Analysis, Ask, Example, Sensitivity
from gateway.analyses.shapes import OutputFormat, SchemaShape, TextShape
from gateway.errors import RequestError

if TYPE_CHECKING:
    from gateway.analyses.shapes import AnswerShape


def shape_for(ask: Ask) -> AnswerShape:
    """Return the shape that the caller wants.

    Raises:
        RequestError: the schema is unusable, the format is unknown, the two contradict each other, or one of them
            stands in the context, where it would be asked for and not checked.
    """
    for name in sorted({"schema", "output_format"} & ask.context.keys()):
        raise RequestError(f"context: {name} is a field of its own")
    wanted = _format(ask.output_format)
    if ask.schema is None:
        return TextShape(wanted or OutputFormat.TEXT)
    if wanted not in (None, OutputFormat.JSON):
        raise RequestError(f"output_format: a schema means json, not {wanted}")
    return SchemaShape.of(ask.schema)


def _format(word: str | None) -> OutputFormat | None:
    try:
        return None if word is None else OutputFormat(word)
    except ValueError as error:
        raise RequestError(f"output_format: one of {', '.join(OutputFormat)}, not {word!r}") from error


ANALYSIS = Analysis(
    name="completion",
    description="Your own prompt or messages, with your own JSON schema or as text, Markdown or code",
    shape=shape_for,
    prompts=files("gateway") / "prompts" / "completion",
    prompt_version="v1",
    max_output_tokens=4_096,
    max_content_bytes=1_000_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.PERSONAL,
    temperature=None,
    own_words=True,
    example=Example(
        files("gateway") / "analyses" / "examples" / "completion.txt",
        "Written for Assayline.",
    ),
)
