"""Reading a body that must be JSON: UTF-8, no name twice, no number that no number is. Knows no job."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from api.problems import NOT_JSON, Problem, refused
from tasks.producer.errors import MAX_LEVELS


def read_object(body: bytes) -> dict[str, Any]:
    """Read a body that is one JSON object.

    Raises:
        Problem: it is no JSON (400), or JSON that one reader takes for this and the next for that (422).
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_without_doubles,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except UnicodeDecodeError as error:
        raise Problem(NOT_JSON, f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise Problem(NOT_JSON, f"{error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise refused("body", f"nested deeper than {MAX_LEVELS} levels") from error
    if not isinstance(value, dict):
        raise refused("body", "must be a JSON object")
    return value


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise refused(twice, "is there twice")
    return found


def _no_constant(word: str) -> Any:
    raise Problem(NOT_JSON, f"{word} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise refused("body", "a number is too large")
    return number


def _bounded(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise refused("body", f"a number has more than {MAX_DIGITS} digits")
    return int(digits)


MAX_DIGITS = 1_000
"""Longest integer: Python itself refuses to read 4,301 digits, since reading takes the square of the time."""
