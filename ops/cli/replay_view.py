"""How a replay looks to people: its plan, where it stands, a list of them, its progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ops.cli.view import cost_text, safe, state_text, time_text
from tasks.replay.book import ENDED, Making, Replay, ReplayState, Standing
from tasks.replay.plan import LEFT_OUT, Plan
from tasks.replay.request import ReplayRequest
from tasks.states import TERMINAL

if TYPE_CHECKING:
    from ops.cli.screen import Screen

STYLES = {"running": "bold blue", "paused": "yellow", "stopped": "yellow", "done": "green"}
BY = {
    "ledger": "by what such jobs did cost",
    "catalog": "by what such jobs used, at today's price",
    None: "no such job in the ledger yet, or no price",
}
LINES_EVERY_S = 5.0
"""Where no terminal shows a bar, a line is written so often at most, and whenever a state changes."""


def replay_row(replay: Replay) -> dict[str, Any]:
    """The fields of `--json`."""
    return {**asdict(replay), "left": replay.left}


def standing_row(standing: Standing) -> dict[str, Any]:
    """The fields of `--json`, with how the new jobs fare."""
    problems = [{"problem": problem, "jobs": jobs} for problem, jobs in standing.problems]
    return {**replay_row(standing.replay), "outcomes": standing.outcomes, "problems": problems}


def plan_view(made: Making, wanted: ReplayRequest) -> Group:
    """What a replay means, what it leaves out, and what it may cost."""
    plan = made.plan
    head = Text.assemble((f"{_jobs(plan.jobs)} to replay", "bold"), f" of {plan.found:,} found")
    parts: list[RenderableType] = [head]
    parts += [Text(f"  left out: {jobs:,}, {LEFT_OUT[why]}") for why, jobs in plan.left_out.items()]
    if plan.under_way:
        parts.append(Text(f"  some of those are in hand of {', '.join(map(str, plan.under_way))}"))
    if not plan.jobs:
        again = bool(plan.left_out.get("replayed")) and not plan.under_way and not wanted.again
        parts.append(Text("nothing is replayed" + ("; --again would replay those that were" if again else "")))
        return Group(*parts)
    parts += [_groups_table(plan), Text(_cost(plan))]
    if wanted.changes.max_tokens is not None and plan.estimate.usd is not None:
        parts.append(Text("  by answers under the old bound: with --with-max-tokens they may be longer, and cost more"))
    parts.append(Text(f"their calls so far did cost {_known(plan.spent_usd, plan.unpriced_calls, 'call')}"))
    if wanted.rate_per_min is not None:
        parts.append(
            Text(f"at {wanted.rate_per_min:,} a minute it takes {_lasting(60 * plan.jobs / wanted.rate_per_min)}")
        )
    if made.replay is not None and not made.created:
        parts.append(Text(f"made at {time_text(made.replay.created_at)} by this very request, and not once more"))
    if wanted.dry_run:
        parts.append(Text("a dry run: nothing was made", "dim"))
    return Group(*parts)


def _cost(plan: Plan) -> str:
    if plan.estimate.usd is None:
        return "estimated cost: unknown"
    return f"estimated cost: {_known(plan.estimate.usd, plan.estimate.unpriced_jobs, 'job')}"


def _known(usd: Decimal, unpriced: int, what: str) -> str:
    """An amount, and of how many it is not known: then it is a part of the whole."""
    if not unpriced:
        return cost_text(usd)
    return f"{cost_text(usd)} and more: of {unpriced:,} {what}{'' if unpriced == 1 else 's'} it is unknown"


def _groups_table(plan: Plan) -> Table:
    table = _table("analysis", "model", "jobs", "estimated", "")
    for one in plan.estimate.groups:
        estimated = "unknown" if one.usd is None else cost_text(one.usd)
        table.add_row(
            Text(safe(one.analysis)), Text(safe(one.model)), f"{one.jobs:,}", estimated, Text(BY[one.by], "dim")
        )
    return table


def replays_table(replays: Sequence[Replay]) -> Table:
    """A page of replays."""
    table = _table("id", "state", "made", "of", "skipped", "rate", "made by", "created", "which", "different", "note")
    for one in replays:
        table.add_row(
            Text(str(one.id), no_wrap=True),
            _state(one),
            f"{one.made:,}",
            f"{one.jobs:,}",
            f"{one.skipped:,}" if one.skipped else "",
            f"{one.rate_per_min:,}/min" if one.rate_per_min else "",
            Text(safe(one.made_by or "")),
            time_text(one.created_at),
            Text(safe(_words(one.filter) or "every failed job")),
            Text(safe(_words(one.changes))),
            Text(safe(one.note or "")),
        )
    return table


def replay_text(replay: Replay) -> Text:
    """A replay in one line."""
    told = f"  {replay.made:,} of {replay.jobs:,} made"
    skipped = f", {replay.skipped:,} skipped" if replay.skipped else ""
    return Text.assemble((str(replay.id), "bold"), "  ", _state(replay), told, skipped, safe(_problem(replay)))


def outcome_text(standing: Standing) -> Group:
    """How a replay and its new jobs stand."""
    parts: list[RenderableType] = [replay_text(standing.replay)]
    if standing.outcomes:
        told = [Text.assemble(f"{jobs:,} ", state_text(state)) for state, jobs in sorted(standing.outcomes.items())]
        parts.append(Text("  new jobs: ") + Text(", ").join(told))
    parts += [Text(safe(f"  skipped: {jobs:,}, {problem}")) for problem, jobs in standing.problems]
    return Group(*parts)


def how_to(replay: Replay) -> str:
    """How to go on with a replay."""
    if replay.state in ENDED:
        return f"its new jobs:  assayline replays watch {replay.id}"
    if replay.state is ReplayState.PAUSED:
        return f"it makes no new jobs until it is resumed:  assayline replays resume | stop {replay.id}"
    return f"it runs without this command:  assayline replays watch | pause | stop {replay.id}"


@contextmanager
def progress(screen: Screen) -> Iterator[Callable[[Standing], None]]:
    """Show standings as they are handed in: two bars on a terminal, else lines. All on stderr."""
    if not screen.err.is_terminal:
        yield _Lines(screen).show
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, TextColumn("{task.fields[told]}"), console=screen.err) as bars:
        made, ended = (bars.add_task(name, total=None, told="") for name in ("new jobs made ", "new jobs ended"))

        def show(standing: Standing) -> None:
            replay = standing.replay
            bars.update(made, total=replay.jobs, completed=replay.made + replay.skipped, told=replay.state.value)
            over = sum(jobs for state, jobs in standing.outcomes.items() if state in TERMINAL)
            bars.update(ended, total=replay.jobs - replay.skipped, completed=over, told=_outcomes(standing))

        yield show


class _Lines:
    """A line now and then, and for each change of state."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._began = time.monotonic()
        self._said_at = -LINES_EVERY_S
        self._state: ReplayState | None = None
        self._line = ""

    def show(self, standing: Standing) -> None:
        replay, after_s = standing.replay, time.monotonic() - self._began
        line = f"{replay.state}  {replay.made:,} of {replay.jobs:,} made  {_outcomes(standing)}".rstrip()
        if line != self._line and (replay.state is not self._state or after_s - self._said_at >= LINES_EVERY_S):
            self._screen.say(f"{after_s:6.1f} s  {line}")
            self._said_at, self._state, self._line = after_s, replay.state, line


def _outcomes(standing: Standing) -> str:
    return ", ".join(f"{jobs:,} {state}" for state, jobs in sorted(standing.outcomes.items()))


def _state(replay: Replay) -> Text:
    return Text(replay.state.value, STYLES[replay.state])


def _problem(replay: Replay) -> str:
    return f"  {replay.problem}" if replay.problem else ""


def _words(said: dict[str, Any]) -> str:
    """A filter or changes in one line: `error timeout, provider openai`."""
    return ", ".join(f"{name.replace('_', ' ')} {_values(value)}" for name, value in said.items())


def _values(value: Any) -> str:
    if isinstance(value, list):
        return " or ".join(map(str, value[:3])) + (f" and {len(value) - 3} more" if len(value) > 3 else "")
    return "" if value is True else str(value)


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"


HOURS_FROM_S, MINUTES_FROM_S = 7_200, 120


def _lasting(seconds: float) -> str:
    if seconds >= HOURS_FROM_S:
        return f"{seconds / 3_600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= MINUTES_FROM_S else f"{seconds:.0f} s"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
