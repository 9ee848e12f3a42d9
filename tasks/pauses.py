"""Pauses: what an operator has stopped. They stand in Postgres, so that they hold for all dispatchers and outlive them.

A paused job waits: it is not released, and not taken over by another provider. What runs is let run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import psycopg

MOST_NAME, MOST_WHY = 200, 500
"""Characters."""


class PauseKind(StrEnum):
    """What a pause is of."""

    PROVIDER = "provider"
    QUEUE = "queue"
    ANALYSIS = "analysis"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class Pause:
    """One pause: what is stopped, why, and since when."""

    kind: PauseKind
    name: str
    why: str
    since: datetime


KNOWN = {
    PauseKind.PROVIDER: "SELECT DISTINCT split_part(name, '/', 1) AS name FROM assayline.catalog_models ORDER BY 1",
    PauseKind.QUEUE: "SELECT DISTINCT split_part(name, '/', 1) || '.' || lane AS name FROM assayline.catalog_models,"
    " unnest(ARRAY['interactive', 'bulk']) AS lane ORDER BY 1",
    PauseKind.ANALYSIS: "SELECT name FROM assayline.catalog_analyses ORDER BY name",
}
"""What there is of each kind, by the catalog that the dispatcher has mirrored. Tenants are whoever enqueues."""

Link = psycopg.Connection[Mapping[str, Any]]


def unknown(link: Link, kind: PauseKind, name: str) -> tuple[str, ...] | None:
    """Return the names there are where `name` is none of them; None where it may be paused."""
    if kind not in KNOWN:
        return None
    names = tuple(str(row["name"]) for row in link.execute(KNOWN[kind]))
    return None if name in names else names


def pause(link: Link, kind: PauseKind, name: str, why: str = "") -> int:
    """Stop the release of some jobs. Returns how many were queued already: they wait again.

    Once it returns nothing more of them is released, by any dispatcher.
    """
    row = link.execute("SELECT assayline.pause(%s, %s, %s) AS jobs", [kind.value, name, why]).fetchone()
    assert row is not None
    return int(row["jobs"])


def resume(link: Link, kind: PauseKind, name: str) -> bool:
    """Let a pause end; the next pass of a dispatcher, within a second, releases again. False: there was none."""
    row = link.execute("SELECT assayline.resume(%s, %s) AS ended", [kind.value, name]).fetchone()
    assert row is not None
    return bool(row["ended"])


def pauses(link: Link) -> list[Pause]:
    """Return all pauses."""
    rows = link.execute("SELECT kind, name, why, since FROM assayline.pauses ORDER BY kind, name").fetchall()
    return [Pause(PauseKind(row["kind"]), row["name"], row["why"], row["since"]) for row in rows]
