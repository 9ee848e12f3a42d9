"""Entries of the journal: what goes in comes out, and nothing else ever does."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.calls.answered import Answered
from gateway.journal import entry
from gateway.journal.entry import (
    LAST_CALL,
    LAST_CLAIM,
    LONGEST_S,
    MAX_ENTRY_BYTES,
    MOST_TOKENS,
    MOST_USD,
    Kept,
    Unreadable,
    decoded,
    encoded,
)
from gateway.messages import Completion, FinishReason, Usage

JOB, QUESTION = "01939f6e-7b1a-7c3e-9a51-4d2f6c8e0b17", "a" * 64

counts = st.integers(0, MOST_TOKENS)
texts = st.text(st.characters(), max_size=200)
"""Lone surrogates and NUL too: a model may write them, as JSON escapes."""
costs = st.none() | st.decimals(0, MOST_USD - 1, allow_nan=False, allow_infinity=False)
answers = st.builds(
    Kept,
    claim_no=st.integers(1, LAST_CLAIM),
    call_no=st.integers(1, LAST_CALL),
    answered=st.builds(
        Answered,
        completion=st.builds(
            Completion,
            text=texts,
            finish_reason=st.sampled_from(FinishReason),
            usage=st.builds(Usage, counts, counts, counts, counts),
            model=texts,
            provider_request_id=st.none() | texts,
            usage_estimated=st.booleans(),
        ),
        cost_usd=costs,
        latency_s=st.floats(0, LONGEST_S),
    ),
)
entries = st.lists(answers, min_size=1, max_size=2)


@given(entries)
def test_what_goes_in_comes_out(kept: list[Kept]) -> None:
    assert decoded(JOB, QUESTION, encoded(JOB, QUESTION, kept)) == tuple(kept)


@given(entries, st.integers(0), st.integers(0, 255))
def test_a_damaged_entry_is_none(kept: list[Kept], at: int, byte: int) -> None:
    raw = bytearray(encoded(JOB, QUESTION, kept))
    at %= len(raw)
    if raw[at] == byte:
        byte ^= 1
    raw[at] = byte
    with pytest.raises(Unreadable):
        decoded(JOB, QUESTION, bytes(raw))


@given(entries, st.integers(1))
def test_an_entry_that_is_cut_is_none(kept: list[Kept], lost: int) -> None:
    raw = encoded(JOB, QUESTION, kept)
    with pytest.raises(Unreadable):
        decoded(JOB, QUESTION, raw[: -(1 + lost % len(raw))])


@given(st.binary(max_size=200))
def test_bytes_of_anybody_are_none(raw: bytes) -> None:
    with pytest.raises(Unreadable):
        decoded(JOB, QUESTION, raw)


@given(entries)
def test_an_entry_of_another_job_or_question_is_none(kept: list[Kept]) -> None:
    raw = encoded(JOB, QUESTION, kept)
    with pytest.raises(Unreadable, match="another job"):
        decoded(JOB.replace("0", "1"), QUESTION, raw)
    with pytest.raises(Unreadable, match="another question"):
        decoded(JOB, "b" * 64, raw)


def forged(body: Any) -> bytes:
    """An entry with the right digest, of whoever knows how."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"J1 %s %s" % (entry._digest(JOB, raw), raw)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=11) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=25,
)


@settings(max_examples=50)
@given(plain | st.tuples(st.just(QUESTION), st.lists(st.lists(plain, min_size=10, max_size=10), max_size=3)))
def test_a_forged_entry_is_none_or_holds_what_an_answer_can(body: Any) -> None:
    try:
        found = decoded(JOB, QUESTION, forged(body))
    except Unreadable:
        return
    assert decoded(JOB, QUESTION, encoded(JOB, QUESTION, found)) == found


GOOD = [1, 1, "text", "stop", "model", None, [1, 2, 3, 4], False, "0.5", 1.5]


def test_the_form_that_the_forged_ones_below_depart_from_is_good() -> None:
    [kept] = decoded(JOB, QUESTION, forged([QUESTION, [GOOD]]))
    assert (kept.answered.cost_usd, kept.answered.completion.usage) == (Decimal("0.5"), Usage(1, 2, 3, 4))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 0), (0, 2**31), (0, "1"), (1, 0), (1, 2**15), (2, None), (3, "done"), (4, 7), (5, 7), (6, [1, 2, 3]),
        (6, [1, 2, 3, -1]), (6, [1, 2, 3, 10**10]), (6, [1, 2, 3, 4.0]), (7, 1), (8, 0.5), (8, "NaN"), (8, "-1"),
        (8, "1e6"), (8, "dear"), (9, -1), (9, float("nan")), (9, float("inf")), (9, None),
    ],
)  # fmt: skip
def test_a_value_out_of_its_kind_or_bounds_makes_it_none(place: int, value: Any) -> None:
    fields = [*GOOD[:place], value, *GOOD[place + 1 :]]
    with pytest.raises(Unreadable):
        decoded(JOB, QUESTION, forged([QUESTION, [fields]]))


@pytest.mark.parametrize(
    "body",
    [
        [QUESTION, []],
        [QUESTION, [GOOD] * 3],
        [QUESTION, [GOOD[:-1]]],
        [QUESTION, [[*GOOD, 1]]],
        [QUESTION],
        b"[" * 100_000,
        b'["%s",[[%s]]]' % (QUESTION.encode(), b"9" * 5_000),
        b" " * MAX_ENTRY_BYTES,
    ],
    ids=["no answer", "three", "a field short", "a field more", "no list", "deep", "a number too long", "too large"],
)
def test_an_entry_of_another_form_is_none(body: Any) -> None:
    with pytest.raises(Unreadable):
        decoded(JOB, QUESTION, forged(body))


def test_what_an_older_or_newer_version_wrote_is_none() -> None:
    raw = forged([QUESTION, [GOOD]])
    for mark in (b"J0", b"J2", b"A1"):
        with pytest.raises(Unreadable, match="another version"):
            decoded(JOB, QUESTION, mark + raw[2:])
