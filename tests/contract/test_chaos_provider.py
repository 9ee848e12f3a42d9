"""The provider of the chaos bench: over the wire, as our adapter sees it; what it writes down; that a seed decides."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from itertools import count

import pytest

from gateway.errors import GatewayError, ServerError, Throttled, Unreachable
from gateway.messages import CompletionRequest, Message
from gateway.providers.base import Provider
from ops.bench.endpoint import LABELS
from ops.bench.faults.conduct import LAST_THAT_FAILS, PAID, SHARES, Manner, answer_to, conduct
from ops.bench.faults.server import Book, Connection

SEED = 7
TAKES_S = (0.0, 0.0)


def marker_of(manner: Manner) -> str:
    """A job whose first call is treated like this."""
    return next(f"job.{n}" for n in count() if conduct(SEED, f"job.{n}", 1, TAKES_S).manner is manner)


@pytest.fixture
def record() -> io.StringIO:
    """What the endpoint writes."""
    return io.StringIO()


@pytest.fixture
async def address(record: io.StringIO) -> AsyncIterator[str]:
    """A served endpoint."""
    book = Book(SEED, TAKES_S, record)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(book), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    yield f"http://{host}:{port}/v1"
    server.close()


@pytest.mark.parametrize(
    ("manner", "error"),
    [
        (Manner.ERROR, ServerError),
        (Manner.BUSY, Throttled),
        (Manner.CUT, Unreachable),
        (Manner.HANG, TimeoutError),
    ],
)
async def test_it_fails_as_drawn_and_writes_the_call_down(
    manner: Manner,
    error: type[Exception],
    address: str,
    record: io.StringIO,
    build: Callable[..., Provider],
    ask: Callable[..., CompletionRequest],
) -> None:
    provider, marker = build(dialect="openai_compatible", base_url=address), marker_of(manner)
    with pytest.raises(error) as caught:
        async with asyncio.timeout(0.2 if manner is Manner.HANG else None):
            await provider.complete(ask(messages=(Message("user", f"marker-{marker} and more"),)))
    if isinstance(caught.value, GatewayError) and manner in PAID:
        assert caught.value.paid is not False
    [name, said, how, _] = json.loads(record.getvalue())
    assert (name, said, how) == ("call-1", marker, manner)


@pytest.mark.parametrize("manner", [Manner.WELL, Manner.INVALID])
async def test_an_answer_names_its_job_and_its_call(
    manner: Manner, address: str, build: Callable[..., Provider], ask: Callable[..., CompletionRequest]
) -> None:
    provider, marker = build(dialect="openai_compatible", base_url=address), marker_of(manner)
    answer = await provider.complete(ask(messages=(Message("user", f"marker-{marker} and more"),)))
    assert json.loads(answer.text) == (answer_to(marker) if manner is Manner.WELL else {})
    assert answer.provider_request_id == "call-1"


def test_the_seed_decides_and_the_third_call_is_well() -> None:
    drawn = [conduct(seed, "job.1", 1, (0.5, 1.5)) for seed in range(50)]
    assert drawn == [conduct(seed, "job.1", 1, (0.5, 1.5)) for seed in range(50)]
    assert len({one.takes_s for one in drawn}) == 50
    assert all(0.5 <= one.takes_s <= 1.5 for one in drawn)
    third = Counter(conduct(SEED, f"job.{n}", LAST_THAT_FAILS + 1, TAKES_S).manner for n in range(2_000))
    assert third == {Manner.WELL: 2_000}


def test_calls_fail_as_often_as_is_said_and_no_job_is_asked_twice_in_vain() -> None:
    for number in (1, 2):
        seen = Counter(conduct(SEED, f"job.{n}", number, TAKES_S).manner for n in range(10_000))
        for manner, share in SHARES.items():
            expected = 0.0 if manner is Manner.INVALID and number == 2 else share * 10_000
            assert abs(seen[manner] - expected) <= 5 * max(expected, 0.0) ** 0.5


def test_answers_differ_from_job_to_job() -> None:
    assert answer_to("job.1") != answer_to("job.2")
    assert {answer_to(f"job.{n}")["label"] for n in range(50)} == set(LABELS)
