"""Our request written as the body of Gemini's generateContent.

Source of the wire format: the installed SDK (`google/genai/models.py`, `types.py`) and
https://ai.google.dev/api/generate-content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from gateway.messages import CompletionRequest, JsonObject

ROLES = {"user": "user", "assistant": "model"}


class GeminiOptions(BaseModel):
    """`options` of a catalog entry whose dialect is gemini."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keepalive_s: float = Field(default=4.0, gt=0)
    """How long an idle connection is kept."""
    api_version: str = Field(default="v1beta", pattern=r"^v[0-9a-z]{1,15}$")
    """Structured output and thinking levels are in v1beta."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the body, such as safetySettings or generationConfig.thinkingConfig. What we set wins."""


def generate_body(request: CompletionRequest, options: GeminiOptions) -> JsonObject:
    """Return the JSON body that asks `request`."""
    extra = {**options.extra_body, **request.extra_body}
    given = extra.pop("generationConfig", None)
    config: JsonObject = {**(given if isinstance(given, dict) else {}), "maxOutputTokens": request.max_tokens}
    if request.temperature is not None:
        config["temperature"] = request.temperature
    if request.schema is not None:
        config["responseMimeType"] = "application/json"
        config["responseSchema"] = gemini_schema(request.schema)
    body: JsonObject = {
        **extra,
        "contents": [
            {"role": ROLES[one.role], "parts": [{"text": one.content}]}
            for one in request.messages
            if one.role != "system"
        ],
        "generationConfig": config,
    }
    system = "\n\n".join(one.content for one in request.messages if one.role == "system")
    if system:
        body["systemInstruction"] = {"parts": [{"text": system}]}
    return body


def gemini_schema(schema: JsonObject) -> JsonObject:
    """Return `schema` as Gemini's own Schema: types in capitals, nullable in place of a union with null.

    Objects are closed without saying so, and additionalProperties is a word it refuses. Fields are written in the order
    of `propertyOrdering`, alphabetically without it: evidence would come after the score it is for.
    """
    arms = [arm for arm in schema.get("anyOf", ()) if arm.get("type") != "null"]
    if "anyOf" in schema:
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        written = gemini_schema({**arms[0], **rest}) if len(arms) == 1 else {"anyOf": [gemini_schema(a) for a in arms]}
        return written | {"nullable": True} if len(arms) < len(schema["anyOf"]) else written
    copy = {key: value for key, value in schema.items() if key not in ("additionalProperties", "type")}
    kinds = schema.get("type")
    named = [kinds] if isinstance(kinds, str) else [kind for kind in kinds or () if kind != "null"]
    if named:
        copy["type"] = str(named[0]).upper()
    if isinstance(kinds, list) and "null" in kinds:
        copy["nullable"] = True
    if "enum" in copy:
        copy["format"] = "enum"
    if "items" in copy:
        copy["items"] = gemini_schema(copy["items"])
    if "properties" in copy:
        copy["properties"] = {name: gemini_schema(child) for name, child in copy["properties"].items()}
        copy["propertyOrdering"] = list(copy["properties"])
    return copy
