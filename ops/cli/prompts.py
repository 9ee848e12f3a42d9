"""`assayline prompts`: which prompts there are, and what one says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.analyses.registry import AnalysisRegistry, Registered, load_analyses
from ops.cli.exit_codes import OK
from ops.cli.screen import AsJson, Screen

if TYPE_CHECKING:
    from gateway.prompts.template import PromptVersion


def prompts(
    which: Annotated[
        str | None,
        typer.Argument(metavar="[ANALYSIS[/VERSION]]", help="Show this one whole.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """List the prompts of all analyses, or show one as it is sent, its variables still in it.

    Example: [bold]assayline prompts skill_extraction/v1[/bold]
    """
    screen = Screen(as_json=as_json)
    registry = load_analyses()
    if which is None:
        _list(registry, screen)
        return OK
    name, _, version = which.partition("/")
    entry = registry.get(name)
    prompt = entry.prompts.version(version or None)
    text = _text(entry, prompt)
    screen.document({**_row(entry, prompt), "text": text})
    screen.show(text)
    return OK


def _list(registry: AnalysisRegistry, screen: Screen) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("prompt", "needs", "takes", "says", box=None, pad_edge=False)
    for name in registry.names():
        entry = registry.get(name)
        for _, prompt in sorted(entry.prompts.versions.items()):
            row = _row(entry, prompt)
            screen.document(row)
            table.add_row(
                Text(row["id"], "bold" if row["default"] else ""),
                ", ".join(row["required"]),
                ", ".join(row["optional"]),
                row["description"],
            )
    screen.show(table)


def _row(entry: Registered, prompt: PromptVersion) -> dict[str, Any]:
    return {
        "id": f"{entry.analysis.name}/{prompt.version}",
        "analysis": entry.analysis.name,
        "version": prompt.version,
        "default": prompt.version == entry.prompts.default,
        "description": prompt.description,
        "required": sorted(prompt.required),
        "optional": dict(prompt.optional),
        "fingerprint": prompt.fingerprint,
    }


def _text(entry: Registered, prompt: PromptVersion) -> str:
    return (entry.analysis.prompts / f"{prompt.version}.md").read_text(encoding="utf-8")
