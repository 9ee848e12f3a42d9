"""The lines and events of a stream are the same wherever the network cuts it."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.json_http import Exchange
from gateway.providers.rest.events import ndjson_data, sse_data


class Pieces(Exchange):
    """An exchange whose body comes in these pieces."""

    def __init__(self, pieces):
        self.pieces = pieces

    async def _pieces(self):
        for piece in self.pieces:
            yield piece


def collected(items):
    async def collect():
        return [item async for item in items]

    return asyncio.run(collect())


@st.composite
def cut(draw, texts):
    """A stream of these texts' lines, and the pieces it comes in."""
    raw = draw(texts).encode()
    places = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    return raw, [raw[a:b] for a, b in zip([0, *places], [*places, len(raw)], strict=True)]


LINES = st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=6), max_size=8)


@given(cut(LINES.map("\n".join)))
def test_lines(stream):
    raw, pieces = stream
    *whole, last = raw.split(b"\n")
    assert collected(Pieces(pieces).lines()) == whole + ([last] if last else [])


@given(cut(LINES.map("\r\n".join)))
def test_lines_that_end_as_http_ends_them(stream):
    raw, pieces = stream
    *whole, last = raw.split(b"\r\n")
    assert collected(Pieces(pieces).lines()) == whole + ([last] if last else [])


@given(cut(LINES.map(lambda lines: "".join(f"event: e\ndata: {line}\n: comment\n\n" for line in lines))))
def test_events(stream):
    raw, pieces = stream
    said = [part.split(b"\n")[1][6:].decode() for part in raw.split(b"\n\n") if part]
    assert collected(sse_data(Pieces(pieces).lines())) == said


@given(LINES)
def test_an_event_of_several_lines_is_one_text(lines):
    raw = "".join(f"data:{line}\n" for line in lines).encode()
    expected = ["\n".join(line.removeprefix(" ") for line in lines)] if lines else []
    assert collected(sse_data(Pieces([raw, b"\n"]).lines())) == expected


@given(cut(LINES.map("\n".join)))
def test_documents(stream):
    raw, pieces = stream
    assert collected(ndjson_data(Pieces(pieces).lines())) == [
        line.decode() for line in raw.split(b"\n") if line.strip()
    ]
