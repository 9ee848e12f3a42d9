"""The options of `assayline replay`, and how they are read as a request.

What an option may hold is judged by `tasks.replay.request`: here are only its name, its help and its panel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from ops.cli.troubles import BadInput
from tasks.producer.errors import IdempotencyConflict, InvalidJob
from tasks.replay.request import ReplayChanges, ReplayFilter, ReplayRequest, place_of

WHICH, DIFFERENT, HOW = "Which jobs (each option: any of its values; together: all of them)", "What is different", "How"

AGO = re.compile(r"(\d{1,6})(s|min|h|d)", re.ASCII)
UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}


def _option(panel: str, text: str, *names: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)
    return option


TIME = "a time with its offset (2026-11-05T08:00:00Z), or so long ago: 90s, 30min, 2h, 7d."

State = Annotated[
    list[str] | None,
    _option(
        WHICH,
        "How they ended: failed (the default), cancelled, expired, succeeded (alone: with --all). May be repeated.",
    ),
]
Error = Annotated[
    list[str] | None,
    _option(WHICH, "What their last attempt ended with, as `assayline jobs` shows it. May be repeated."),
]
Analysis = Annotated[list[str] | None, _option(WHICH, "Of this analysis. May be repeated.")]
Provider = Annotated[list[str] | None, _option(WHICH, "Those that stood at this provider. May be repeated.")]
Model = Annotated[list[str] | None, _option(WHICH, "Those that stood on this model. May be repeated.")]
Tenant = Annotated[str | None, _option(WHICH, "Only this tenant's.")]
Source = Annotated[str | None, _option(WHICH, "Of this calling service.")]
Tag = Annotated[list[str] | None, _option(WHICH, "With this tag. May be repeated.")]
CreatedAfter = Annotated[str | None, _option(WHICH, f"Enqueued since {TIME}")]
CreatedBefore = Annotated[str | None, _option(WHICH, "Enqueued before it.")]
EndedAfter = Annotated[str | None, _option(WHICH, f"Ended since {TIME}")]
EndedBefore = Annotated[str | None, _option(WHICH, "Ended before it.")]
Everything = Annotated[
    bool, _option(WHICH, "Every job that failed, or ended as --state says: no other filter.", "--all")
]
Again = Annotated[bool, _option(WHICH, "Also those of which a replay waits, runs or has succeeded.", "--again")]
Limit = Annotated[int | None, _option(WHICH, "So many at most, the oldest first: a trial before the rest.")]

WithModel = Annotated[str | None, _option(DIFFERENT, "On this model: provider/model.")]
WithProvider = Annotated[str | None, _option(DIFFERENT, "At this provider.")]
WithChain = Annotated[
    list[str] | None, _option(DIFFERENT, "Along these models, first choice first: provider/model. May be repeated.")
]
WithCurrentChain = Annotated[
    bool,
    _option(DIFFERENT, "Where the catalog has their analysis run now, not where they ran.", "--with-current-chain"),
]
WithPromptVersion = Annotated[str | None, _option(DIFFERENT, "With this version of the prompt.")]
WithLane = Annotated[str | None, _option(DIFFERENT, "interactive or bulk. Bulk, whatever the old job's was.")]
WithPriority = Annotated[int | None, _option(DIFFERENT, "0 (first) to 9 (last).")]
WithMaxTokens = Annotated[int | None, _option(DIFFERENT, "Longest answer, in tokens.")]
WithMaxCostUsd = Annotated[str | None, _option(DIFFERENT, "What all calls of a job together may cost.")]
WithMaxAttempts = Annotated[int | None, _option(DIFFERENT, "Provider calls at most.")]
WithUseCache = Annotated[
    bool | None, _option(DIFFERENT, "Whether an earlier answer will do.", "--with-cache/--without-cache")
]
WithUseFallback = Annotated[
    bool | None, _option(DIFFERENT, "Whether they may go on along their chains.", "--with-fallback/--without-fallback")
]

DryRun = Annotated[
    bool, _option(HOW, "Say how many jobs are meant and what they may cost, and do nothing.", "--dry-run")
]
Rate = Annotated[int | None, _option(HOW, "New jobs a minute at most. As fast as they can be made.")]
Note = Annotated[str | None, _option(HOW, "Why, in your words; kept with the replay.")]
IdempotencyKey = Annotated[
    str | None,
    _option(HOW, "The same key and request again is the same replay. No time is then said as so long ago."),
]
Watch = Annotated[
    bool, _option(HOW, "Whether to watch until the new jobs have ended; they run all the same.", "--watch/--no-watch")
]
Timeout = Annotated[
    float | None,
    typer.Option(min=0, help="Stop watching after so many seconds.", rich_help_panel=HOW, show_default=False),
]

OPTION_OF = {
    "filter": "which jobs",
    "filter.ids": "ID",
    "changes": "--with-model, --with-provider, --with-chain or --with-current-chain",
    "changes.use_cache": "--with-cache",
    "changes.use_fallback": "--with-fallback",
    "rate_per_min": "--rate",
    "made_by": "the name of who asks",
}
"""What a field of the request is called on the command line, where it is not `--field` or `--with-field`."""


UNSAID = {
    "which": "which jobs? Name some, or a filter, or say --all for every job that failed",
    "ever": "--state: succeeded, and nothing else, is all that ever succeeded; say which of them, or --all, too",
}
"""What is missing where `all` was not said, in the words of the command line."""


def request_of(given: Mapping[str, Any], *, made_by: str | None) -> ReplayRequest:
    """Read the options of a command line, as typer hands them over.

    Raises:
        BadInput: one cannot be; the message names it.
    """
    which = {name: _given(given.get(name)) for name in ReplayFilter.model_fields}
    which["ids"] = [str(one) for one in given["job_ids"] or ()] or None
    for name in ("created_after", "created_before", "ended_after", "ended_before"):
        if given["idempotency_key"] is not None and AGO.fullmatch(which[name] or ""):
            raise BadInput(f"{option_of(name)}: with --idempotency-key say the time itself: {which[name]} ago moves on")
        which[name] = _moment(which[name])
    changes = {name: _given(given[f"with_{name}"]) for name in ReplayChanges.model_fields}
    asked = {
        "all": given["everything"],
        "filter": which,
        "changes": changes,
        "again": given["again"],
        "dry_run": given["dry_run"],
        "rate_per_min": given["rate"],
        "note": given["note"],
        "made_by": made_by,
        "limit": given["limit"],
        "idempotency_key": given["idempotency_key"],
    }
    try:
        return ReplayRequest.model_validate(asked)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        if not asked["all"] and found["type"] in UNSAID:
            raise BadInput(UNSAID[found["type"]]) from error
        raise BadInput(f"{option_of(place_of(found))}: {found['msg']}") from error


def refusal(refused: InvalidJob) -> Exception:
    """The same refusal, its field called as on the command line."""
    return BadInput(f"{option_of(refused.field)}: {refused.problem}")


def conflict(refused: IdempotencyConflict) -> Exception:
    """The same conflict, its field called as on the command line."""
    field, _, problem = str(refused).partition(": ")
    return BadInput(f"{option_of(field)}: {problem}")


def option_of(field: str) -> str:
    """What a field of the request is called on the command line."""
    part, _, name = field.partition(".")
    if field in OPTION_OF:
        return OPTION_OF[field]
    return f"--{'with-' if part == 'changes' else ''}{(name or part).replace('_', '-')}"


def _given(value: Any) -> Any:
    """A list that typer left empty was not given."""
    return list(value) or None if isinstance(value, (list, tuple)) else value


def _moment(text: str | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> str | datetime | None:
    """A time that lies so long ago, by this machine's clock; anything else as it is."""
    match = AGO.fullmatch(text) if text else None
    if match is None:
        return text
    try:
        return now() - timedelta(**{UNITS[match[2]]: int(match[1])})
    except OverflowError:
        return text
