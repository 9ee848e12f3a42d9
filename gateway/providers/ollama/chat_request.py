"""Our request written as an Ollama chat body, and how large a context window the model is to be loaded with.

Ollama's habit is to cut what does not fit its window, silently, and to answer from the rest: its window is 4,096 tokens
on a machine with less than 23 GiB of video memory, whatever the model could do. So a window is always asked for, and
with `truncate: false` and `shift: false` the server must refuse what it cannot hold instead of cutting it.

Source of the wire format: https://github.com/ollama/ollama, `ChatRequest` and `Options` in `api/types.go`,
`ChatHandler` and `Serve` (the default windows) in `server/routes.go`, as of 0.33.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from gateway.messages import CompletionRequest, JsonObject

LEAST_WINDOW_TOKENS = 2_048
"""Smallest window asked for. Ollama gives a model that sees images no smaller one, and then the check of what fitted
(`chat_response`) would not know the window in force."""

USUAL_WINDOW_TOKENS = 8_192
"""Smallest window asked for where the installation names none: large enough for most analyses, so that one loading of
the model serves them all."""

MOST_WINDOW_TOKENS = 16 * 1024 * 1024
"""Largest window an installation may name; no model has one."""

OWN_PARAMETERS = frozenset({"num_predict", "num_ctx", "temperature"})
"""Parameters that come from the request, or from an option of their own."""

MOST_MODELS = 1_000
"""Models whose windows are remembered: jobs may name any, and a server holds far fewer."""

WindowTokens = Annotated[int, Field(ge=LEAST_WINDOW_TOKENS, le=MOST_WINDOW_TOKENS)]
Parameter = bool | int | float | str | list[str]


def _check_parameters(value: dict[str, Parameter]) -> dict[str, Parameter]:
    if ours := sorted(OWN_PARAMETERS & value.keys()):
        raise ValueError(f"{ours[0]} is set by the request or by an option of its own")
    return value


class OllamaOptions(BaseModel):
    """`options` of a catalog entry whose dialect is ollama."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_ctx: WindowTokens | Literal["server"] | None = None
    """The window every model is loaded with, in tokens. Unset: what the request needs, in powers of two, never less
    than before. Each change makes Ollama load the model anew, so several workers on one server want it set.
    `server`: none is asked for, as for models of the cloud, whose windows are fixed."""
    keep_alive: Annotated[str, Field(pattern=r"^-?\d+(\.\d+)?(ms|s|m|h)$")] | int | None = None
    """How long the model stays loaded after a call: `10m`, seconds as a number, or -1 for ever. Unset: the server's."""
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    """Whether, or how hard, a thinking model thinks first. Unset: it does. Models that cannot think refuse true."""
    structured_output: bool = True
    """Whether the schema is sent as `format`. The server ignores it in silence for some models."""
    parameters: Annotated[dict[str, Parameter], AfterValidator(_check_parameters)] = Field(default_factory=dict)
    """Further parameters of the model, such as top_p, seed or num_gpu, as a Modelfile names them."""


class Windows:
    """The window each model is loaded with. It only grows: every change makes Ollama load the model anew."""

    def __init__(self, chosen: int | Literal["server"] | None) -> None:
        self._chosen = chosen
        self._asked_tokens: dict[str, int] = {}

    def tokens_for(self, model: str, needed_tokens: int) -> int | None:
        """Return the window to ask for: the chosen one, else the least power of two that holds all asked so far.

        `needed_tokens`: estimated input and room for the answer. A chosen window that seems too small is asked for all
        the same: the estimate errs upwards, and the server refuses what it cannot hold. None: ask for none.
        """
        if self._chosen is not None:
            return None if self._chosen == "server" else self._chosen
        if len(self._asked_tokens) >= MOST_MODELS and model not in self._asked_tokens:
            self._asked_tokens.clear()
        wanted = max(USUAL_WINDOW_TOKENS, 1 << (needed_tokens - 1).bit_length())
        self._asked_tokens[model] = max(wanted, self._asked_tokens.get(model, 0))
        return self._asked_tokens[model]


def chat_body(
    request: CompletionRequest, options: OllamaOptions, window_tokens: int | None, *, stream: bool
) -> JsonObject:
    """Return the JSON body that asks `request` with a window of `window_tokens` (None: the server's)."""
    body: JsonObject = {
        **request.extra_body,
        "model": request.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "stream": stream,
        "truncate": False,
        "shift": False,
        "options": _parameters(request, options, window_tokens),
    }
    if request.schema is not None and options.structured_output:
        body["format"] = request.schema
    for name in ("keep_alive", "think"):
        if (value := getattr(options, name)) is not None:
            body.setdefault(name, value)
    return body


def _parameters(request: CompletionRequest, options: OllamaOptions, window_tokens: int | None) -> JsonObject:
    further = request.extra_body.get("options")
    parameters: JsonObject = {
        **options.parameters,
        **(further if isinstance(further, dict) else {}),
        "num_predict": request.max_tokens,
    }
    set_here = {"num_ctx": window_tokens, "temperature": request.temperature}
    return parameters | {name: value for name, value in set_here.items() if value is not None}
