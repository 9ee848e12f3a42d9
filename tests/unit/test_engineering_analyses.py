"""Answers that are code and documents."""

from __future__ import annotations

import json

import pytest

from gateway.analyses.base import Ask
from gateway.analyses.engineering import bug_fixing, code_generation, documentation_generation, requirement_analysis
from gateway.analyses.engineering.code_text import unfenced
from gateway.analyses.shapes import OutputFormat, TextShape
from gateway.response import Parsed, Unusable

CODE = {
    "assumptions": [],
    "language": "python",
    "code": "x = 1\n",
    "usage": "x",
    "limitations": [],
    "open_questions": [],
}
FIX = {
    "evidence": "free = ordered[0]",
    "root_cause": "An empty list has no first item.",
    "fixed_code": "free = ordered[0] if ordered else 0",
    "explanation": "Nothing is free then.",
    "regression_test": "assert total([]) == 0",
    "side_effects": [],
    "insufficient_evidence": [],
}
ITEM = {"evidence": "can be extended twice", "requirement": "A reader extends a loan twice.", "priority": "must"}
REQUIREMENTS = {
    "functional": [ITEM],
    "non_functional": [],
    "acceptance_criteria": [],
    "ambiguities": [],
    "conflicts": [],
    "out_of_scope": [],
    "insufficient_evidence": [],
    "ready": True,
}
PAGE = {
    "title": "Window",
    "documented": ["Window"],
    "documentation": "## Window\n",
    "pitfalls": [],
    "insufficient_evidence": [],
}


def read(analysis, answer):
    return analysis.ANALYSIS.shape_for(Ask("x")).read(json.dumps(answer))


def data(analysis, answer):
    found = read(analysis, answer)
    assert isinstance(found, Parsed), found
    return found.data


def test_what_holds_together_stands():
    assert data(code_generation, CODE) == CODE
    assert data(bug_fixing, FIX) == FIX
    assert data(requirement_analysis, REQUIREMENTS) == REQUIREMENTS
    assert data(documentation_generation, PAGE) == PAGE


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("```python\nx = 1\n```", "x = 1\n"),
        ("\n~~~\nx = 1\ny = 2\n~~~\n", "x = 1\ny = 2\n"),
        ("```python\r\nx = 1\r\n```\r\n", "x = 1\r\n"),
        ("x = 1\n", "x = 1\n"),
        ("```python\nx = 1", "```python\nx = 1"),
        ("text\n```\nx\n```", "text\n```\nx\n```"),
        ("```\na\n```\nb\n```\nc\n```", "```\na\n```\nb\n```\nc\n```"),
        ('s = """\n```\n"""', 's = """\n```\n"""'),
    ],
)
def test_one_fence_around_all_of_it_is_no_part_of_the_code(text, bare):
    assert unfenced(text) == bare
    assert data(code_generation, CODE | {"code": text})["code"] == bare


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "text", ["`" * 15_000 + "\n" + "`" * 15_000 + "x", "```\n" + " " * 30_000 + "x", "```\n" * 9_000, "``` " * 9_000]
)
def test_a_text_of_fences_and_blanks_is_read_in_no_time(text):
    """One regular expression over all of it took minutes, with every other job of the worker waiting."""
    assert unfenced(text) == text
    assert isinstance(TextShape(OutputFormat.CODE).read(text), Unusable)


@pytest.mark.parametrize("code", ["", "  \n ", None, "x" * 40_001, "```python\n \n```"])
def test_no_code_is_no_answer(code):
    assert isinstance(read(code_generation, CODE | {"code": code}), Unusable)


def test_a_fix_without_a_cause_is_withdrawn():
    found = data(bug_fixing, FIX | {"root_cause": None})
    assert (found["fixed_code"], found["regression_test"]) == (None, None)
    assert found["insufficient_evidence"] == [
        "fixed_code is withdrawn: it came without a root_cause",
        "regression_test is withdrawn: it came without a root_cause",
    ]


def test_a_cause_that_no_line_shows_is_withdrawn_with_its_fix():
    found = data(bug_fixing, FIX | {"evidence": " "})
    assert (found["root_cause"], found["fixed_code"]) == (None, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"ambiguities": [{"evidence": "fast", "readings": "a second, or less than now", "question": "How fast?"}]},
        {"conflicts": ["Twice, and only once."]},
        {"functional": []},
    ],
)
def test_ready_means_that_nothing_is_to_be_asked(changes):
    found = data(requirement_analysis, REQUIREMENTS | changes)
    assert found["ready"] is False
    assert found["insufficient_evidence"] == ["ready is taken back: there is something to ask first"]


def test_a_requirement_keeps_its_words():
    assert isinstance(read(requirement_analysis, REQUIREMENTS | {"functional": [ITEM | {"evidence": ""}]}), Unusable)
