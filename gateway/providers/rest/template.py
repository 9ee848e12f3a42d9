"""A body written in the catalog as a JSON tree with placeholders, and what is put in their places.

A leaf that is a placeholder alone, "{max_tokens}", becomes the value with its own JSON type; a placeholder within a
longer text becomes text. Values are put into the parsed tree and never read again, so a question that holds braces or
quotes stays what it is. A brace itself is written twice, as in Python: "{{".

Where a request has no value (no temperature, no schema, no system message) the leaf is left out with its key, and so is
an object or a list all of whose placeholders have none: a response format without a schema, say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.messages import CompletionRequest, Message

PLACEHOLDERS = frozenset(
    {"model", "prompt", "system", "messages", "max_tokens", "temperature", "schema", "schema_name"}
)
"""What a body may hold; `values` says what each stands for."""

MOST_LEVELS = 32
"""Deepest nesting of a body."""

UNSET: Any = object()
"""The rendering of what has no value: the caller leaves it out."""

Values = Mapping[str, Any]
"""Placeholders and their values; None where the request has none."""


class Node(Protocol):
    """A part of a template. `names`: the placeholders in it."""

    @property
    def names(self) -> frozenset[str]: ...  # noqa: D102

    def render(self, values: Values) -> Any: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Fixed:
    """What stays as it is."""

    value: Any

    @property
    def names(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def render(self, values: Values) -> Any:
        """Return it."""
        return self.value


@dataclass(frozen=True, slots=True)
class Text:
    """A text with placeholders: its pieces, each some text and the placeholder that follows it, if one does."""

    pieces: tuple[tuple[str, str | None], ...]

    @classmethod
    def parse(cls, text: str, allowed: Iterable[str]) -> Text:
        """Read a text.

        Raises:
            ValueError: a placeholder is unknown, or a brace stands alone.
        """
        try:
            parsed = list(Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f"{text[:60]!r}: a brace that is no placeholder is written twice, {{{{ or }}}}") from error
        for _, name, form, conversion in parsed:
            if name is not None and (name not in allowed or form or conversion):
                raise ValueError(f"unknown placeholder in {text[:60]!r}; known: {_listed(allowed)}")
        return cls(tuple((before, name) for before, name, _, _ in parsed))

    @property
    def names(self) -> frozenset[str]:
        """The placeholders in the text."""
        return frozenset(name for _, name in self.pieces if name is not None)

    def render(self, values: Values) -> Any:
        """Return the value alone where there is nothing else, else the text; UNSET where a value is missing."""
        if any(values[name] is None for name in self.names):
            return UNSET
        if len(self.pieces) == 1 and self.pieces[0][0] == "" and self.pieces[0][1] is not None:
            return values[self.pieces[0][1]]
        return "".join(before + ("" if name is None else _as_text(values[name])) for before, name in self.pieces)


@dataclass(frozen=True, slots=True)
class Tree:
    """An object (its items have keys) or a list (they have none)."""

    items: tuple[tuple[str | None, Node], ...]
    is_object: bool

    @property
    def names(self) -> frozenset[str]:
        """The placeholders anywhere in it."""
        return frozenset().union(*(node.names for _, node in self.items))

    def render(self, values: Values) -> Any:
        """Return it without the parts that have no value; UNSET where no placeholder in it has one."""
        if self.names and all(values[name] is None for name in self.names):
            return UNSET
        rendered = [(key, node.render(values)) for key, node in self.items]
        kept = [(key, value) for key, value in rendered if value is not UNSET]
        return dict(kept) if self.is_object else [value for _, value in kept]


def parse(tree: Any, allowed: Iterable[str] = PLACEHOLDERS, at: str = "", level: int = 1) -> Node:
    """Read a template from a JSON tree.

    Raises:
        ValueError: a placeholder is unknown, a brace stands alone, a key holds a placeholder or is no text, or it
            nests too deep. The message names the place as a JSON pointer.
    """
    if level > MOST_LEVELS:
        raise ValueError(f"at {at}: nested deeper than {MOST_LEVELS} levels")
    if isinstance(tree, dict):
        for key in tree:
            if not isinstance(key, str) or "{" in key:
                raise ValueError(f"at {at or '/'}: a key is text without placeholders, not {key!r}")
        return Tree(tuple((k, parse(v, allowed, f"{at}/{k}", level + 1)) for k, v in tree.items()), is_object=True)
    if isinstance(tree, list):
        parts = enumerate(tree)
        return Tree(tuple((None, parse(v, allowed, f"{at}/{i}", level + 1)) for i, v in parts), is_object=False)
    if not isinstance(tree, str):
        return Fixed(tree)
    try:
        return Text.parse(tree, allowed)
    except ValueError as error:
        raise ValueError(f"at {at or '/'}: {error}") from error


def values(request: CompletionRequest, names: frozenset[str]) -> dict[str, Any]:
    """Return what each placeholder stands for.

    Where `names` has `system`, the system messages go there and are left out of `prompt` and `messages`; else they are
    part of both, so that nothing said to the model is lost. `prompt` is the one message's text, or all of them, each
    under its role.
    """
    apart = "system" in names
    system = [message.content for message in request.messages if message.role == "system"]
    said = [message for message in request.messages if not (apart and message.role == "system")]
    return {
        "model": request.model,
        "prompt": _as_prompt(said),
        "system": "\n\n".join(system) or None,
        "messages": [{"role": message.role, "content": message.content} for message in said],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "schema": request.schema,
        "schema_name": None if request.schema is None else request.schema_name,
    }


def _as_prompt(messages: list[Message]) -> str:
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{message.role.capitalize()}:\n{message.content}" for message in messages)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _listed(names: Iterable[str]) -> str:
    return ", ".join("{" + name + "}" for name in sorted(names))
