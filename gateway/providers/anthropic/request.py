"""Our request written as the body of Anthropic's Messages API.

Source of the wire format: the installed SDK, `anthropic/types/message_create_params.py`, and
https://platform.claude.com/docs/en/build-with-claude/structured-outputs.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.messages import CompletionRequest, JsonObject, Message

PARAGRAPH = "\n\n"
"""Between texts that Anthropic wants as one: system messages, and neighbours of one role."""


class AnthropicOptions(BaseModel):
    """`options` of a catalog entry whose dialect is anthropic."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    betas: tuple[str, ...] = ()
    """Values of the `anthropic-beta` header."""
    keepalive_s: float = Field(default=4.0, gt=0)
    """How long an idle connection is kept."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the body, such as output_config.effort or thinking. What we set ourselves wins."""


def messages_body(request: CompletionRequest, options: AnthropicOptions) -> JsonObject:
    """Return the JSON body that asks `request`.

    The schema goes out as it is. The SDK's own transformer, which `messages.parse` uses, would turn a map into an
    empty closed object.
    """
    body: JsonObject = {
        **options.extra_body,
        **request.extra_body,
        "model": request.model,
        "max_tokens": request.max_tokens,
        "messages": _turns(message for message in request.messages if message.role != "system"),
    }
    system = PARAGRAPH.join(message.content for message in request.messages if message.role == "system")
    if system:
        body["system"] = system
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.schema is not None:
        # Beside the format stands what the catalog says of the model's effort.
        kept = body.get("output_config")
        schema_format = {"type": "json_schema", "schema": request.schema}
        body["output_config"] = {**(kept if isinstance(kept, dict) else {}), "format": schema_format}
    return body


def _turns(messages: Iterable[Message]) -> list[JsonObject]:
    """Write the conversation's turns, neighbours of one role as one."""
    grouped = groupby(messages, key=lambda message: message.role)
    return [{"role": role, "content": PARAGRAPH.join(one.content for one in turns)} for role, turns in grouped]
