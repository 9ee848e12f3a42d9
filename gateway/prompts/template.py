"""One version of a prompt: read from its file, checked and compiled at boot, rendered for each call.

A file has YAML front matter (`version`, `description`, `required`: names, `optional`: names with
defaults), then a part under `# system` and a part under `# user`, both Jinja2. The variable
`content` is always required, and always fenced but where the front matter says `fenced: false` (the caller's own
question, for which the caller vouches). Every other value is printed as JSON, so a path or
a label stays on its line and inside its quotes; no value is ever evaluated as a template.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, TemplateError, Undefined, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import ConfigurationError, PromptError
from gateway.messages import JsonObject, Message
from gateway.prompts.fence import Fenced, Plain, fence, random_marker
from gateway.yaml_source import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jinja2 import Template

CONTENT = "content"
MAX_CONTEXT_CHARS = 20_000
"""Bound of one context value as JSON. What is longer is content, and belongs into the fence."""

_PARTS = re.compile(r"\A---\n(?P<front>.*?)\n---\n+# system\n(?P<system>.*?)\n# user\n(?P<user>.*)\Z", re.DOTALL)


def _printed(value: object) -> object:
    """Print fenced text and the caller's own as they are, all else as JSON; undefined values raise by themselves."""
    return value if isinstance(value, (Fenced, Plain, Undefined)) else json.dumps(value, ensure_ascii=False)


# No autoescape: prompts are not HTML. The sandbox bars attribute access from templates of third parties.
_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined,
    autoescape=False,
    finalize=_printed,
    trim_blocks=True,
    lstrip_blocks=True,
)


class FrontMatter(BaseModel):
    """A prompt file's head."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: str = Field(pattern=r"^v[1-9][0-9]{0,3}$")
    description: str = Field(min_length=10)
    required: list[str]
    optional: JsonObject = Field(default_factory=dict)
    fenced: bool = True


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """A compiled prompt. `fingerprint` is the SHA-256 of version and text: it changes whenever an answer could."""

    version: str
    description: str
    required: frozenset[str]
    optional: Mapping[str, Any]
    fingerprint: str
    system: Template
    user: Template
    fenced: bool = True

    def render(
        self, content: str, context: Mapping[str, Any] | None = None, *, new_marker: Callable[[], str] = random_marker
    ) -> tuple[Message, ...]:
        """Render the messages of a call: system and user, without the one that turns out empty.

        Args:
            content: the untrusted text to judge.
            context: the other variables: JSON values by name.
            new_marker: draws the fence's marker.

        Raises:
            PromptError: a required variable is missing, one is not declared, or one is no JSON or too long.
        """
        values = self._values(context or {})
        values[CONTENT] = fence(content, new_marker) if self.fenced else Plain(content)
        try:
            system, user = self.system.render(values), self.user.render(values)
        except (TemplateError, TypeError, ValueError) as error:
            raise PromptError(f"prompt {self.version} cannot be rendered: {error}") from error
        messages = (Message("system", system), Message("user", user))
        return tuple(message for message in messages if message.content.strip())

    def _values(self, context: Mapping[str, Any]) -> dict[str, Any]:
        given = frozenset(context)
        missing = self.required - given - {CONTENT}
        unknown = given - (self.required - {CONTENT}) - self.optional.keys()
        if missing:
            raise PromptError(f"the context lacks {', '.join(sorted(missing))}")
        if unknown:
            known = ", ".join(sorted(self.required | self.optional.keys() - {CONTENT}))
            raise PromptError(f"the context has undeclared {', '.join(sorted(unknown))}; the prompt knows {known}")
        for name, value in context.items():
            _check_json(name, value)
        return {**self.optional, **context}


def _check_json(name: str, value: object) -> None:
    try:
        size = len(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise PromptError(f"the context's {name} is not a JSON value: {error}") from error
    if size > MAX_CONTEXT_CHARS:
        raise PromptError(
            f"the context's {name} has {size} characters as JSON, at most {MAX_CONTEXT_CHARS} are allowed"
        )


def parse_prompt(text: str, name: str) -> PromptVersion:
    """Compile a prompt file's text; `name` stands for the file in messages.

    Raises:
        ConfigurationError: its form, its front matter or a template is wrong, or the variables it
            uses are not the ones it declares.
    """
    parts = _PARTS.match(text)
    if parts is None:
        raise ConfigurationError(f"{name}: a prompt is front matter between --- lines, then '# system', then '# user'")
    front = _front_matter(parts["front"], name)
    system, user = parts["system"].strip(), parts["user"].strip()
    _check_variables(front, system, user, name)
    return PromptVersion(
        version=front.version,
        description=front.description,
        required=frozenset(front.required),
        optional=front.optional,
        fingerprint=hashlib.sha256(f"{front.version}\n{text}".encode()).hexdigest(),
        system=_ENVIRONMENT.from_string(system),
        user=_ENVIRONMENT.from_string(user),
        fenced=front.fenced,
    )


def _front_matter(text: str, name: str) -> FrontMatter:
    source = parse_yaml(text, name, first_line=2)
    try:
        return FrontMatter.model_validate(source.data)
    except ValidationError as error:
        raise source.validation_error(error) from error


def _check_variables(front: FrontMatter, system: str, user: str, name: str) -> None:
    declared = {*front.required, *front.optional}
    try:
        in_system, in_user = (meta.find_undeclared_variables(_ENVIRONMENT.parse(part)) for part in (system, user))
    except TemplateError as error:
        raise ConfigurationError(f"{name}: not a template: {error}") from error
    if declared != in_system | in_user:
        odd = ", ".join(sorted(declared ^ (in_system | in_user)))
        raise ConfigurationError(f"{name}: declared and used variables differ: {odd}")
    if CONTENT not in front.required or CONTENT not in in_user or CONTENT in in_system:
        raise ConfigurationError(f"{name}: {CONTENT} is required, and belongs into the user part only")
