"""What every adapter promises, as checks that anybody can run over his own: see `docs/guides/add-a-provider.md`.

Each takes a provider whose other side (a double, a sandbox) answers any question with a text, and a request for it; it
returns when the promise is kept and raises `BrokenPromise` when it is not. No test framework is needed:

    @pytest.mark.parametrize("promise", PROMISES)
    async def test_promise(promise, provider, request_):
        await promise(provider, request_)

What happens when the other side fails cannot be asked of it from here: `REFUSALS` says what an HTTP API's statuses
have to become, for a double to serve one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial

from gateway.errors import InvalidRequest, ProviderError, Timeout
from gateway.messages import CompletionRequest, FinishReason, Message
from gateway.providers.base import Provider
from gateway.providers.wire import BY_STATUS

NO_TIME_S = 1e-6
LATE_S = 5.0
"""Longest that an adapter may take to notice that a deadline is over: a program has to be ended first."""

UNSENDABLE = "\ud800"
"""A lone surrogate: a Python string, and no Unicode text."""

REFUSALS: Mapping[int, type[ProviderError]] = BY_STATUS
"""HTTP status: the error it has to become where the provider says no more."""


class BrokenPromise(AssertionError):
    """An adapter does not do what every adapter does."""


async def answers_whole_with_what_it_used(provider: Provider, request: CompletionRequest) -> None:
    """`complete` returns the text, STOP, tokens of both kinds and the model's name."""
    completion = await provider.complete(request)
    _hold(completion.text != "", "the answer is empty")
    _hold(completion.finish_reason is FinishReason.STOP, f"finish reason {completion.finish_reason}, not STOP")
    _hold(completion.usage.input_tokens > 0, "no input tokens")
    _hold(completion.usage.output_tokens > 0, "no output tokens")
    _hold(completion.usage.cached_tokens <= completion.usage.input_tokens, "more cached than input tokens")
    _hold(bool(completion.model), "no model's name")


async def streams_what_it_answers(provider: Provider, request: CompletionRequest) -> None:
    """`stream` yields the text of `complete`, in pieces none of which is empty."""
    pieces = [piece async for piece in provider.stream(request)]
    _hold(all(pieces), "a piece of the stream is empty")
    _hold("".join(pieces) == (await provider.complete(request)).text, "the stream's text is not the answer's")


async def can_be_left_in_mid_stream(provider: Provider, request: CompletionRequest) -> None:
    """A stream that is closed after its first piece harms no later call."""
    stream = provider.stream(request)
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]  # every adapter's is an async generator
    await provider.complete(request)


async def serves_many_at_once(provider: Provider, request: CompletionRequest) -> None:
    """Ten calls at once are ten answers."""
    texts = {completion.text for completion in await asyncio.gather(*[provider.complete(request) for _ in range(10)])}
    _hold(len(texts) == 1, "calls at once were answered differently")


async def keeps_the_deadline(provider: Provider, request: CompletionRequest) -> None:
    """A call whose time is over raises Timeout, soon."""
    started = asyncio.get_running_loop().time()
    try:
        await provider.complete(replace(request, timeout_s=NO_TIME_S))
    except Timeout:
        _hold(asyncio.get_running_loop().time() - started < LATE_S, "the deadline was noticed late")
    else:
        raise BrokenPromise("a call without any time was answered")


async def refuses_what_is_no_text(provider: Provider, request: CompletionRequest) -> None:
    """A question that is not Unicode is InvalidRequest, of `complete` and of `stream`: nothing of it is sent."""
    unsendable = replace(request, messages=(Message("user", UNSENDABLE),))
    for ask in (provider.complete, partial(_collected, provider)):
        try:
            await ask(unsendable)
        except InvalidRequest:
            continue
        raise BrokenPromise("a question that is not Unicode was not refused")


async def says_that_it_is_available(provider: Provider, request: CompletionRequest) -> None:
    """`is_available` is true where the other side answers."""
    _hold(await provider.is_available() is True, "it is not available")


async def counts_tokens_offline(provider: Provider, request: CompletionRequest) -> None:
    """`count_tokens` grows with the text and with the schema."""
    twice = replace(request, messages=request.messages * 2)
    with_schema = replace(request, schema={"type": "object", "properties": {"name": {"type": "string"}}})
    _hold(provider.count_tokens(request) > 0, "a question without tokens")
    _hold(provider.count_tokens(twice) > provider.count_tokens(request), "more text is not more tokens")
    _hold(
        provider.count_tokens(with_schema) > provider.count_tokens(replace(request, schema=None)),
        "a schema is no token",
    )


Promise = Callable[[Provider, CompletionRequest], Awaitable[None]]

PROMISES: tuple[Promise, ...] = (
    answers_whole_with_what_it_used,
    streams_what_it_answers,
    can_be_left_in_mid_stream,
    serves_many_at_once,
    keeps_the_deadline,
    refuses_what_is_no_text,
    says_that_it_is_available,
    counts_tokens_offline,
)


def _hold(kept: bool, otherwise: str) -> None:
    if not kept:
        raise BrokenPromise(otherwise)


async def _collected(provider: Provider, request: CompletionRequest) -> list[str]:
    return [piece async for piece in provider.stream(request)]
