"""The promises find the adapter that breaks them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.messages import Completion, CompletionRequest, FinishReason, Message, Usage
from gateway.providers import promises
from gateway.providers.base import ProviderConfig
from gateway.providers.fake.provider import FakeProvider
from gateway.providers.promises import BrokenPromise

REQUEST = CompletionRequest("any", (Message("user", "What is new?"),), max_tokens=50)
GOOD = Completion("news", FinishReason.STOP, Usage(20, 4), "m")


class Broken(FakeProvider):
    """Answers as it is told, whatever a provider promises."""

    def __init__(self, answer=GOOD, pieces=("ne", "ws")):
        super().__init__(ProviderConfig("p", "fake"))
        self.answer, self.pieces, self.asked = answer, pieces, 0

    async def complete(self, request):
        self.asked += 1
        return replace(self.answer, text=f"news {self.asked}") if self.answer.text == "{}" else self.answer

    async def stream(self, request):
        for piece in self.pieces:
            yield piece

    async def is_available(self):
        return False

    def count_tokens(self, request):
        return 7


@pytest.mark.parametrize(
    ("promise", "provider"),
    [
        (promises.answers_whole_with_what_it_used, Broken(replace(GOOD, text=""))),
        (promises.answers_whole_with_what_it_used, Broken(replace(GOOD, finish_reason=FinishReason.LENGTH))),
        (promises.answers_whole_with_what_it_used, Broken(replace(GOOD, usage=Usage(0, 4)))),
        (promises.answers_whole_with_what_it_used, Broken(replace(GOOD, usage=Usage(20, 0)))),
        (promises.answers_whole_with_what_it_used, Broken(replace(GOOD, usage=Usage(20, 4, 21)))),
        (promises.answers_whole_with_what_it_used, Broken(replace(GOOD, model=""))),
        (promises.streams_what_it_answers, Broken(pieces=("news", ""))),
        (promises.streams_what_it_answers, Broken(pieces=("old",))),
        (promises.serves_many_at_once, Broken(replace(GOOD, text="{}"))),
        (promises.keeps_the_deadline, Broken()),
        (promises.refuses_what_is_no_text, Broken()),
        (promises.says_that_it_is_available, Broken()),
        (promises.counts_tokens_offline, Broken()),
    ],
)
async def test_a_broken_promise_is_found(promise, provider):
    with pytest.raises(BrokenPromise):
        await promise(provider, REQUEST)


async def test_an_honest_adapter_keeps_them():
    honest = FakeProvider(ProviderConfig("p", "fake", options={"answer": "news"}))
    for promise in promises.PROMISES:
        if promise not in (promises.keeps_the_deadline, promises.refuses_what_is_no_text):  # it sends nothing
            await promise(honest, REQUEST)
