"""How a job looks to people: its state in a colour, its fields, calls, causes and result."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tasks.producer import StoredJob, StoredResult

STATE_STYLES = {
    "scheduled": "dim",
    "queued": "cyan",
    "running": "bold blue",
    "submitted": "blue",
    "succeeded": "green",
    "failed": "bold red",
    "cancelled": "yellow",
    "expired": "yellow",
}
OUTCOME_STYLES = {
    "succeeded": "green",
    "failed": "red",
    "unknown": "bold yellow",
    "abandoned": "yellow",
    "cached": "cyan",
}

UNKNOWN_NOTE = "unknown: begun and never ended on record (its worker died or still runs it); it may have been paid for"

# Said by the tables beside these, or of no interest without a value.
SHOWN_ELSEWHERE = frozenset({"id", "state", "reason", "causes", "calls", "result", "replays"})
FIRST = (
    "analysis",
    "tenant",
    "provider",
    "model",
    "chain",
    "hop",
    "lane",
    "priority",
    "attempts_used",
    "max_attempts",
    "created_at",
    "not_before",
    "queued_at",
    "started_at",
    "finished_at",
)

SHORTEST_SECONDS = 10.0
"""Below it a duration is worth its tenths."""


def state_text(state: str) -> Text:
    """A job's state in its colour."""
    return Text(state, STATE_STYLES.get(state, ""))


def job_view(job: StoredJob) -> Group:
    """Everything about a job but its content."""
    head = Text.assemble((str(job.id), "bold"), "  ", state_text(job.state), "  ", (job.reason, "dim"))
    parts: list[RenderableType] = [head, fields_table(job.fields)]
    if job.calls:
        parts += [Text("\ncalls", "bold"), calls_table(job.calls)]
    if any(call["outcome"] == "unknown" for call in job.calls):
        parts.append(Text(UNKNOWN_NOTE, "yellow"))
    if job.causes:
        parts += [Text("\nwhat went wrong", "bold"), causes_table(job.causes)]
    if job.fields.get("replays"):
        parts += [Text("\nreplayed by", "bold"), *(_replayed(one) for one in job.fields["replays"])]
    if job.result is not None:
        parts += [Text("\nresult", "bold"), result_view(job.result)]
    return Group(*parts)


def _replayed(by: Mapping[str, Any]) -> Text:
    return Text.assemble((by["id"], "bold"), "  ", state_text(by["state"]), (f"  replay {by['replay_id']}", "dim"))


def fields_table(fields: Mapping[str, Any]) -> Table:
    """A job's fields, the usual ones first, those without a value left out."""
    names = [*FIRST, *(name for name in fields if name not in FIRST)]
    table = Table.grid(padding=(0, 2))
    for name in names:
        value = fields.get(name)
        if name not in SHOWN_ELSEWHERE and value not in (None, [], ""):
            table.add_row(Text(name, "dim"), Text(safe(_field(value))))
    return table


def calls_table(calls: Iterable[Mapping[str, Any]]) -> Table:
    """The ledger: each provider call, what it used and how it ended."""
    table = _table("claim", "call", "kind", "outcome", "model", "tokens", "cost", "took", "error")
    for call in calls:
        error = ": ".join(str(call[name]) for name in ("error", "error_message") if call[name])
        table.add_row(
            str(call["claim_no"]),
            str(call["call_no"]),
            call["kind"],
            Text(call["outcome"], OUTCOME_STYLES.get(call["outcome"], "")),
            Text(f"{call['provider']}/{call['model']}"),
            tokens_text(call["input_tokens"], call["output_tokens"]),
            _call_cost(call),
            seconds_text(call["latency_s"]),
            Text(safe(error)),
        )
    return table


def _call_cost(call: Mapping[str, Any]) -> str:
    if call["outcome"] == "not_called":
        return ""
    return cost_text(call["cost_usd"]) + (" (estimated)" if call["estimated"] else "")


def unknown_table(calls: Iterable[Mapping[str, Any]]) -> Table:
    """Calls of which nobody knows how they ended."""
    table = _table("job", "state", "claim", "call", "kind", "since", "model", "account", "worker", "at most")
    for call in calls:
        worker = call["worker"]
        table.add_row(
            Text(str(call["job_id"]), no_wrap=True),
            state_text(call["job_state"]),
            str(call["claim_no"]),
            str(call["call_no"]),
            call["kind"],
            time_text(call["started_at"]),
            Text(f"{call['provider']}/{call['model']}"),
            call["account"],
            Text(safe(f"{worker['hostname']}:{worker['pid']}" if worker else str(call["incarnation"]))),
            cost_text(call["worst_usd"]),
        )
    return table


def causes_table(causes: Iterable[Mapping[str, Any]]) -> Table:
    """Each unhappy end of an attempt, and what was done about it."""
    table = _table("at", "claim", "model", "error", "then")
    for cause in causes:
        table.add_row(
            time_text(cause["at"]),
            str(cause["claim_no"]),
            Text(f"{cause['provider']}/{cause['model']}"),
            Text(safe(f"{cause['error']}: {cause['message']}")),
            cause["move"],
        )
    return table


def result_view(result: StoredResult) -> Group:
    """An answer with where it came from; the raw text where it was no valid one."""
    if result.data is None:
        body = Text.assemble(("no valid answer; this came:\n", "yellow"), safe(result.raw_text or ""))
    else:
        body = Text(json.dumps(result.data, indent=2, ensure_ascii=False))
    return Group(Text(result_line(result), "dim"), body)


def digest(data: Mapping[str, Any]) -> Text:
    """An answer in few lines: single values first, then lists with a point for each item, the same ones counted."""
    lines = [f"  {name}: {_line(value)}" for name, value in data.items() if not isinstance(value, list)]
    for name, items in data.items():
        if isinstance(items, list):
            told = Counter(_point(item) for item in items)
            lines.append(f"  {name}:" + ("" if told else " none"))
            lines += [f"    - {text}" + (f"  ({n} times)" if n > 1 else "") for text, n in told.items()]
    return Text(safe("\n".join(lines)))


def _point(item: Any) -> str:
    """One item of a list: its short values before its long ones."""
    values = [_line(value) for value in item.values()] if isinstance(item, dict) else [_line(item)]
    return " | ".join(sorted(values, key=len))


def _line(value: Any) -> str:
    return " ".join(str(value).split())


def safe(text: str) -> str:
    """Text of others (a model, a provider, a file) without what would command a terminal; line ends and tabs stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def result_line(result: StoredResult) -> str:
    """Provider, model, tokens, cost, time and whether it was repaired, in one line."""
    parts = [
        f"{result.provider}/{result.model}",
        f"prompt {result.prompt_version}" if result.prompt_version else "",
        f"{tokens_text(result.input_tokens, result.output_tokens)} tokens",
        cost_text(result.cost_usd),
        seconds_text(result.latency_s),
        "remembered" if result.cached else "1 call" if result.calls == 1 else f"{result.calls} calls",
        "repaired" if result.repaired else "not repaired",
    ]
    return " · ".join(part for part in parts if part)


def jobs_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A page of jobs."""
    table = _table("id", "state", "why", "analysis", "tenant", "model", "calls", "created", "took")
    for row in rows:
        table.add_row(
            Text(str(row["id"]), no_wrap=True),
            state_text(row["state"]),
            Text(row["last_error"] if row["state"] == "failed" and row["last_error"] else row["reason"]),
            row["analysis"],
            Text(safe(row["tenant"])),
            Text(f"{row['provider']}/{row['model']}"),
            f"{row['attempts_used']}/{row['max_attempts']}",
            time_text(row["created_at"]),
            seconds_text(_seconds(row["created_at"], row["finished_at"])),
        )
    return table


def tokens_text(sent: int | None, received: int | None) -> str:
    """Tokens in and out; empty where nobody counted them."""
    return "" if sent is None and received is None else f"{sent or 0:,}→{received or 0:,}"


def cost_text(cost_usd: Decimal | float | None) -> str:
    """Dollars; a price that is unknown is never 0."""
    return "cost unknown" if cost_usd is None else f"${Decimal(str(cost_usd)).normalize():f}"


def seconds_text(seconds: float | None) -> str:
    """A duration; empty for none."""
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < SHORTEST_SECONDS else f"{seconds:,.0f} s"


def time_text(at: datetime | str) -> str:
    """A time in this machine's zone, to the second."""
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _seconds(start: datetime, end: datetime | None) -> float | None:
    return None if end is None else (end - start).total_seconds()


def _field(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, bool)) else str(value)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
