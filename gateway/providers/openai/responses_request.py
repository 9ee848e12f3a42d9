"""Our request written as a body of OpenAI's Responses API.

Source of the wire format: the installed SDK, `openai/types/responses/response_create_params.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from gateway.messages import CompletionRequest, JsonObject


class ResponsesOptions(BaseModel):
    """`options` of a catalog entry whose dialect is openai_responses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keepalive_s: float = Field(default=4.0, gt=0)
    """How long an idle connection is kept."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the body, such as reasoning. What we set ourselves wins."""


def responses_body(request: CompletionRequest, options: ResponsesOptions) -> JsonObject:
    """Return the JSON body that asks `request`.

    `store` is false: the provider need not keep what may be personal. `reasoning_effort`, the word of chat completions,
    is written as this API wants it, so that one catalog entry does for both.
    """
    extra = {**options.extra_body, **request.extra_body}
    effort = extra.pop("reasoning_effort", None)
    body: JsonObject = {
        **({"reasoning": {"effort": effort}} if effort is not None else {}),
        **extra,
        "model": request.model,
        "input": [{"role": one.role, "content": one.content} for one in request.messages if one.role != "system"],
        "max_output_tokens": request.max_tokens,
        "store": False,
    }
    instructions = "\n\n".join(one.content for one in request.messages if one.role == "system")
    if instructions:
        body["instructions"] = instructions
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.schema is not None:
        text_format = {
            "type": "json_schema",
            "name": request.schema_name,
            "strict": True,
            "schema": request.schema,
        }
        kept = body.get("text")
        body["text"] = {**(kept if isinstance(kept, dict) else {}), "format": text_format}
    return body
