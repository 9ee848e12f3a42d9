"""`assayline doctor`: what is configured, reachable and wrong, and how to mend it.

Each check says what it found as values (`Finding`); only the command here writes. A check that cannot be made because
an earlier one failed is left out: one cause, one line.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ops.cli import target
from ops.cli.doctor.finding import Finding, Verdict
from ops.cli.exit_codes import CONFIGURATION, OK
from ops.cli.screen import DEFAULT_DIRECTORY, AsJson, Directory, Screen

if TYPE_CHECKING:
    from rich.table import Table

MARKS = {
    Verdict.GOOD: ("✓", "green"),
    Verdict.NOTED: ("·", "dim"),
    Verdict.ODD: ("!", "yellow"),
    Verdict.WRONG: ("✗", "bold red"),
}


def doctor(directory: Directory = DEFAULT_DIRECTORY, as_json: AsJson = False) -> int:
    """Say what is configured, reachable and wrong, and how to mend it. Exit code 2 if something is wrong.

    With --json: one line per finding. Example: [bold]assayline doctor[/bold]
    """
    screen = Screen(as_json=as_json)
    findings = []
    for finding in examine(directory):
        findings.append(finding)
        screen.document(finding.as_json())
    screen.show(table(findings))
    wrong = sum(finding.verdict is Verdict.WRONG for finding in findings)
    odd = sum(finding.verdict is Verdict.ODD for finding in findings)
    screen.say(f"\n{wrong} wrong, {odd} to look at" if wrong or odd else "\nall is well")
    return CONFIGURATION if wrong else OK


def examine(directory: Path) -> Iterator[Finding]:
    """Make all checks, in an order in which an earlier finding explains a later one."""
    from ops.cli.doctor import brokers, installation, stores, transactions, work

    env = target.environment(directory)
    yield installation.python()
    settings, findings = installation.settings(env)
    yield from findings
    if settings is None:
        return
    catalog, findings = installation.catalog(settings, env)
    yield from findings
    if catalog is not None:
        yield from installation.providers(catalog, env)
    yield installation.api(env)
    yield from stores.redis(settings, directory)
    yield from brokers.examine(settings, catalog.queues() if catalog is not None else ())
    yield from stores.postgres(
        settings, directory, lambda link: chain(transactions.examine(link), work.examine(link, catalog))
    )


def table(findings: list[Finding]) -> Table:
    """The findings, each with its mark and, where there is one, its remedy."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for column in range(3):
        shown.add_column(overflow="fold", no_wrap=column < 2)
    for finding in findings:
        mark, style = MARKS[finding.verdict]
        said = Text(finding.said)
        if finding.mend:
            said.append(f"\n→ {finding.mend}", style=style)
        shown.add_row(Text(mark, style), Text(finding.subject, "bold"), said)
    return shown
