"""A configuration file's YAML as plain values, with the line of every key.

YAML is read as a node tree first: the nodes know their lines, so an error can point at one; and a
key that stands twice, which PyYAML would resolve to the last, is refused. Knows YAML and files,
not what a file means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from gateway.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from pydantic import ValidationError

KeyPath = tuple[str | int, ...]

MAX_FILE_BYTES = 256 * 1024
"""Ten times the shipped catalog; a longer file is the wrong file."""

MAX_DEPTH = 32
"""Deepest nesting; a catalog has eight levels. PyYAML takes seconds for thousands."""

MAX_ERRORS_SHOWN = 3
"""More would not fit into an error's message; the rest is counted."""


@dataclass(frozen=True, slots=True)
class YamlSource:
    """A parsed file: its name for messages, its values, the line of each key, and the error it fails with."""

    name: str
    data: Any
    lines: Mapping[KeyPath, int]
    failure: type[ConfigurationError]

    def error(self, path: KeyPath, message: str) -> ConfigurationError:
        """Say what is wrong at a key, as `file:line: key.path: message`."""
        return self.failure(self._describe(path, message))

    def validation_error(self, error: ValidationError) -> ConfigurationError:
        """Turn pydantic's findings into one message, each with its line; values stay out of it."""
        found = error.errors(include_url=False, include_input=False)
        shown = [self._describe(_key(item["loc"]), item["msg"]) for item in found[:MAX_ERRORS_SHOWN]]
        more = len(found) - len(shown)
        return self.failure("; ".join([*shown, *([f"and {more} more"] if more else [])]))

    def _describe(self, path: KeyPath, message: str) -> str:
        return f"{self.name}:{self._line(path)}: {_dotted(path)}: {message}"

    def _line(self, path: KeyPath) -> int:
        """Return the line of the nearest key on the way to `path` that stands in the file."""
        known = (self.lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.lines)
        return next(known, 1)


def read_yaml(path: Path, failure: type[ConfigurationError] = ConfigurationError) -> YamlSource:
    """Read a file.

    Raises:
        ConfigurationError: as `failure`: it cannot be read, is too long, is not YAML, repeats a key, or uses aliases.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise failure(f"{path}: longer than {MAX_FILE_BYTES} bytes")
        return parse_yaml(content.decode(), str(path), failure)
    except (OSError, UnicodeDecodeError) as error:
        raise failure(f"{path}: cannot be read: {type(error).__name__}") from error


def parse_yaml(
    content: str, name: str, failure: type[ConfigurationError] = ConfigurationError, first_line: int = 1
) -> YamlSource:
    """Parse YAML text; `name` stands for the file in messages, `first_line` is the text's first line in it.

    Raises:
        ConfigurationError: as `read_yaml`.
    """
    try:
        lines, data = _parsed(content, first_line)
    except _RefusedError as error:
        raise failure(f"{name}:{error.line + first_line}: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark.line if error.problem_mark else 0) + first_line
        raise failure(f"{name}:{line}: not YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise failure(f"{name}:{first_line}: not YAML: {error}") from error
    return YamlSource(name, data, lines, failure)


def _parsed(content: str, first_line: int) -> tuple[dict[KeyPath, int], Any]:
    _check_events(content)
    # SafeLoader: the file may say values, never construct Python objects.
    loader = yaml.SafeLoader(content)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}, None
        return dict(_lines(node, first_line)), loader.construct_document(node)
    finally:
        loader.dispose()


class _RefusedError(Exception):
    """The text is YAML, but not of the kind we take. `line` counts from 0."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line


def _check_events(content: str) -> None:
    """Refuse deep nesting, and aliases: one value in two places has no single line, and nested ones grow unbounded."""
    depth = 0
    for event in yaml.parse(content, Loader=yaml.SafeLoader):
        line = event.start_mark.line if event.start_mark else 0
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise _RefusedError(f"aliases (*{event.anchor}) are not supported", line)
        if depth > MAX_DEPTH:
            raise _RefusedError(f"nested deeper than {MAX_DEPTH} levels", line)


def _lines(root: yaml.Node, first_line: int) -> Iterator[tuple[KeyPath, int]]:
    """Yield each key path with its line, refusing repeated and non-text keys."""
    waiting: list[tuple[KeyPath, yaml.Node, yaml.Node]] = [((), root, root)]
    while waiting:
        path, place, node = waiting.pop()
        yield path, place.start_mark.line + first_line
        if isinstance(node, yaml.SequenceNode):
            waiting += [((*path, index), item, item) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            _check_keys(path, (key for key, _ in node.value), first_line)
            waiting += [((*path, key.value), key, value) for key, value in node.value]


def _check_keys(path: KeyPath, keys: Iterable[yaml.Node], first_line: int) -> None:
    seen: dict[str, int] = {}
    for key in keys:
        where = _dotted((*path, str(key.value)))
        if key.tag != "tag:yaml.org,2002:str":
            raise _RefusedError(f"{where}: a key is text; put it in quotes", key.start_mark.line)
        if key.value in seen:
            raise _RefusedError(f"{where}: stands twice, first in line {seen[key.value]}", key.start_mark.line)
        seen[key.value] = key.start_mark.line + first_line


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path)) or "the file"


def _key(loc: tuple[int | str, ...]) -> KeyPath:
    """Drop the marks pydantic adds to a location (`[key]`, `function-…`): they are no keys of the file."""
    return tuple(part for part in loc if not (isinstance(part, str) and part.startswith(("[", "function-"))))
