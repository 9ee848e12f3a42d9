"""The table of moves: sound in itself, and drawn in the documentation as it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tasks.states import LEGAL, MOVES, TERMINAL, State

PAGE = (Path(__file__).parents[2] / "docs" / "state-machine.md").read_text(encoding="utf-8")
NOT_YET = {State.SUBMITTED}
"""States that no move reaches before native batches come."""


def test_a_move_is_named_once() -> None:
    assert len({move.name for move in MOVES}) == len(MOVES)


def test_names_are_words_of_sql_and_tests() -> None:
    assert all(re.fullmatch(r"[a-z_]+", move.name) for move in MOVES)


@pytest.mark.parametrize("state", State)
def test_exactly_the_terminal_states_have_no_exit(state: Any) -> None:
    exits = [move for move in MOVES if move.source is state]
    assert bool(exits) != (state in TERMINAL | NOT_YET)


def test_every_state_is_reached_from_scheduled() -> None:
    reached = {State.SCHEDULED}
    while found := {target for source, target in LEGAL if source in reached} - reached:
        reached |= found
    assert reached == set(State) - NOT_YET


def test_legal_is_the_pairs_of_the_moves() -> None:
    assert {(move.source, move.target) for move in MOVES} == LEGAL


def test_every_way_out_of_running_is_fenced_or_a_rescue() -> None:
    """Who else moved a running job would take it from under its worker."""
    assert {move.by for move in MOVES if move.source is State.RUNNING} == {"run", "workers", "rescue", "store"}


def test_the_page_has_a_row_for_each_move() -> None:
    _head, *rows = re.findall(r"^\| (\w+) \| (\w+) \| (\w+) \| (\w+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
    told = [row[:4] for row in rows]
    assert told == [(move.name, move.source.value, move.target.value, move.by) for move in MOVES]
    assert all(when.strip() and numbers.strip() for *_, when, numbers in rows)


def test_the_drawing_has_an_arrow_for_each_move() -> None:
    drawn = re.findall(r"^ +(\w+) --> (\w+): (\w+)$", PAGE, re.MULTILINE)
    assert sorted(drawn) == sorted((move.source.value, move.target.value, move.name) for move in MOVES)


def test_the_drawing_ends_where_the_code_ends() -> None:
    assert set(re.findall(r"^ +(\w+) --> \[\*\]$", PAGE, re.MULTILINE)) == TERMINAL
