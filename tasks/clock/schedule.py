"""A schedule: what runs by night, on which inputs, in which hours. An entry of `beat_schedule.SCHEDULES`, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import ConfigurationError
from gateway.settings import text
from tasks.clock.window import Window

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class ScheduleEntry(BaseModel):
    """One entry, as it is written.

    analysis: what is done with each input that does not name an analysis itself.
    inputs_env: the variable that holds the folder or `.jsonl` file of inputs; where it is not set, nothing runs.
    zone, zone_env: the zone of the hours, and the variable that says otherwise.
    opens, closes: local times, as 22:00; closes before opens means the next day.
    tenant: whose jobs they are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    analysis: str
    inputs_env: str
    opens: time
    closes: time
    zone: str = "UTC"
    zone_env: str | None = None
    tenant: str = "default"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule in force."""

    name: str
    analysis: str
    inputs: Path
    window: Window
    tenant: str

    @property
    def source(self) -> str:
        """The jobs' `source`, by which they are known as this schedule's."""
        return f"schedule:{self.name}"


def in_force(entries: Mapping[str, Mapping[str, Any]], env: Mapping[str, str]) -> tuple[Schedule, ...]:
    """Return the schedules whose inputs are set in `env`.

    Raises:
        ConfigurationError: an entry, or a zone, is wrong; the message names it.
    """
    found = (_schedule(name, _checked(name, entry), env) for name, entry in entries.items())
    return tuple(schedule for schedule in found if schedule is not None)


def _checked(name: str, entry: Mapping[str, Any]) -> ScheduleEntry:
    try:
        return ScheduleEntry.model_validate(dict(entry))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigurationError(f"beat_schedule.py: SCHEDULES[{name!r}].{where}: {first['msg']}") from error


def _schedule(name: str, entry: ScheduleEntry, env: Mapping[str, str]) -> Schedule | None:
    zone = _zone(name, entry, env)
    inputs = text(env, entry.inputs_env)
    if inputs is None:
        return None
    return Schedule(name, entry.analysis, Path(inputs), Window(entry.opens, entry.closes, zone), entry.tenant)


def _zone(name: str, entry: ScheduleEntry, env: Mapping[str, str]) -> ZoneInfo:
    wanted = text(env, entry.zone_env) if entry.zone_env else None
    try:
        return ZoneInfo(wanted or entry.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        where = entry.zone_env if wanted else f"beat_schedule.py: SCHEDULES[{name!r}].zone"
        raise ConfigurationError(f"{where}: no time zone {wanted or entry.zone!r}; write Europe/Berlin") from error
