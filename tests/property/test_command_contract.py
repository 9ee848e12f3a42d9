"""Whatever a program writes, in whatever pieces it comes: an answer that it gave, or one of our errors."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ProviderError
from gateway.providers.command.contract import answer, taken_apart
from gateway.providers.command.process import STDOUT, Run, TooMuchOutput

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
COUNTS = st.fixed_dictionaries(
    {},
    optional={name: st.integers(-1, 2**40) | ANYTHING for name in ("input_tokens", "output_tokens", "cached_tokens")},
)
ERROR = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["throttled", "server_error", "what"]) | ANYTHING,
        "message": ANYTHING,
        "retry_after_s": ANYTHING | st.integers(0, 10**400),
    },
)
SAID = st.fixed_dictionaries(
    {},
    optional={
        "output": st.text(max_size=8) | ANYTHING,
        "finish_reason": st.sampled_from(["stop", "length", "refusal"]) | ANYTHING,
        "usage": COUNTS | ANYTHING,
        "model": ANYTHING,
        "request_id": ANYTHING,
        "error": ERROR | ANYTHING,
    },
)


@given(SAID | ANYTHING, st.integers(-15, 5), st.lists(st.text(max_size=4), max_size=3))
def test_any_answer_is_an_answer_or_one_of_our_errors(said, exit_code, pieces):
    try:
        completion = answer(json.dumps(said).encode(), exit_code, "", pieces, "key")
    except ProviderError:
        return
    assert exit_code == 0
    assert completion.text == said.get("output", "".join(pieces))
    assert not pieces or completion.text == "".join(pieces)
    assert completion.usage.input_tokens == said["usage"]["input_tokens"]


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_taken_apart_without_loss(written, after_pieces):
    stdout = b'{"text": "a"}\n{"text": "b"}\n' * after_pieces + written
    pieces, rest = taken_apart(stdout)
    assert stdout.endswith(rest)
    assert pieces[:2] == ["a", "b"] or not after_pieces


@given(st.binary(max_size=80), st.lists(st.integers(0, 80), max_size=6), st.integers(1, 120))
def test_lines_are_the_same_however_they_come_and_never_more_than_allowed(written, cuts, most_bytes):
    async def read():
        run = Run(most_bytes)
        lines = []

        async def reading():
            while (line := await run.next_line()) is not None:
                lines.append(line)

        reader = asyncio.ensure_future(reading())
        places = [0, *sorted(cut for cut in cuts if cut < len(written)), len(written)]
        for start, end in pairwise(places):
            run.pipe_data_received(STDOUT, written[start:end])
            await asyncio.sleep(0)
        run.pipe_connection_lost(STDOUT, None)
        await reader
        return lines

    try:
        lines = asyncio.run(read())
    except TooMuchOutput:
        assert len(written) > most_bytes
        return
    expected = written.split(b"\n")
    assert lines == (expected if expected[-1] else expected[:-1])
    assert len(written) <= most_bytes
