"""Judges what a Redis or Valkey says of itself: its version, what it does when it is full or starts again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ops.cli.doctor.finding import Finding, good, odd, wrong

OLDEST_REDIS = (6, 2)
OLDEST_VALKEY = (8,)


def redis_version(info: Mapping[str, Any], place: str) -> Finding:
    """Judge the version in a server's INFO. Valkey also calls itself a Redis, of another number."""
    kind, oldest = ("valkey", OLDEST_VALKEY) if "valkey_version" in info else ("redis", OLDEST_REDIS)
    version = str(info[f"{kind}_version"])
    said = f"{kind} {version} at {place}"
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < oldest:
        return wrong("redis", said, "Assayline needs Redis 6.2 or Valkey 8, or newer")
    return good("redis", said)


def eviction(info: Mapping[str, Any]) -> Finding:
    """Judge what the server does when it is full."""
    policy = info.get("maxmemory_policy", "unknown")
    if policy == "noeviction":
        return good("redis memory", "noeviction: a full server refuses and loses nothing")
    if not info.get("maxmemory"):
        mend = "set maxmemory-policy noeviction before you ever set maxmemory"
        return odd("redis memory", f"maxmemory-policy is {policy}, harmless while maxmemory is not set", mend)
    mend = "CONFIG SET maxmemory-policy noeviction, and in its configuration file"
    return wrong("redis memory", f"maxmemory-policy is {policy}: a full server drops queues and limits", mend)


def persistence(info: Mapping[str, Any]) -> Finding:
    """Judge what a restart of the server loses."""
    if info.get("aof_enabled"):
        return good("redis persistence", "append-only file: a crash loses a second at most")
    mend = "set appendonly yes; no job is lost without it, but limits and breaker state begin anew after a restart"
    return odd("redis persistence", "no append-only file", mend)
