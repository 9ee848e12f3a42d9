"""Saying where an error arose without saying what it says.

The text of an error may quote a job's content or a model's answer: Postgres quotes the row it refuses, pydantic the
value it cannot read. Logs go where content must not.
"""

from __future__ import annotations

import traceback


def whereabouts(error: BaseException) -> str:
    """Return the class of an error and the places it came through, innermost last."""
    return f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}".rstrip()
