"""The events of a stream, from its lines: server-sent events, or a JSON document a line.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation. Only the data of an
event is used. An event that the end of the stream cuts off is handed over too: whoever reads it finds half a document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import MalformedCompletion
from gateway.providers.json_http import MOST_LINE_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def sse_data(lines: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Yield the data of each event.

    Raises:
        MalformedCompletion: a line is not UTF-8, or an event is longer than a line may be (`MOST_LINE_BYTES`).
    """
    data: list[str] = []
    async for line in lines:
        if line:
            data += _data(_text(line))
            _check_length(data)
        elif data:
            yield "\n".join(data)
            data = []
    if data:
        yield "\n".join(data)


async def ndjson_data(lines: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Yield each line that is not empty.

    Raises:
        MalformedCompletion: a line is not UTF-8.
    """
    async for line in lines:
        if line.strip():
            yield _text(line)


READERS = {"sse": sse_data, "ndjson": ndjson_data}
"""How each format's events are found."""


def _data(line: str) -> list[str]:
    name, _, value = line.partition(":")
    return [value.removeprefix(" ")] if name.removeprefix("\ufeff") == "data" else []


def _text(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise MalformedCompletion("a line of the stream is not UTF-8") from error


def _check_length(data: list[str]) -> None:
    if sum(map(len, data)) > MOST_LINE_BYTES:
        raise MalformedCompletion(f"an event of the stream is longer than {MOST_LINE_BYTES:,} characters")
