"""All prompts of all analyses, by analysis and version.

A folder holds one file per version, `v1.md`, `v2.md` …; the file's name is its version.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from gateway.errors import ConfigurationError, PromptError
from gateway.prompts.template import PromptVersion, parse_prompt

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable

MAX_PROMPT_CHARS = 64 * 1024
"""A prompt is instructions; what is longer is data in the wrong place."""


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The versions of one analysis's prompt. `default` is used where the caller names none."""

    name: str
    default: str
    versions: Mapping[str, PromptVersion]

    def version(self, wanted: str | None = None) -> PromptVersion:
        """Return a version, the default one for None.

        Raises:
            PromptError: there is no such version.
        """
        found = self.versions.get(wanted or self.default)
        if found is None:
            raise PromptError(
                f"prompt {self.name} has no version {wanted!r}; it has {', '.join(sorted(self.versions))}"
            )
        return found


def load_prompts(name: str, folder: Traversable, default: str) -> PromptSet:
    """Read and compile all versions in `folder`.

    Raises:
        ConfigurationError: there is none, one is wrong, or the default is not among them.
    """
    files = [file for file in folder.iterdir() if file.name.endswith(".md")] if folder.is_dir() else []
    versions = {prompt.version: prompt for prompt in (_load(name, file) for file in files)}
    if default not in versions:
        raise ConfigurationError(f"prompt {name}: {folder} has no version {default}")
    return PromptSet(name, default, MappingProxyType(versions))


def _load(name: str, file: Traversable) -> PromptVersion:
    label = f"{name}/{file.name}"
    text = file.read_text(encoding="utf-8")
    if len(text) > MAX_PROMPT_CHARS:
        raise ConfigurationError(f"{label}: longer than {MAX_PROMPT_CHARS} characters")
    prompt = parse_prompt(text, label)
    if file.name != f"{prompt.version}.md":
        raise ConfigurationError(f"{label}: says version {prompt.version}")
    return prompt
