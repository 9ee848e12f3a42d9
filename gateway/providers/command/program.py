"""A provider that is a program: one run for each question, given up with all its children at the deadline."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.errors import MalformedCompletion, ProviderError, ServerError, Timeout
from gateway.messages import Capabilities, Completion, CompletionRequest
from gateway.providers.base import Provider, ProviderConfig, read_options, whole
from gateway.providers.command.contract import answer, piece, question, taken_apart
from gateway.providers.command.options import CommandOptions, command
from gateway.providers.command.process import Ended, TooMuchOutput, started
from gateway.providers.wire import AVAILABLE_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Iterator, Sequence
    from typing import TypeVar

    T = TypeVar("T")


class CommandProvider(Provider):
    """A program as a provider. Options: `options.CommandOptions`; what it reads and writes: `contract`."""

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(config)
        self._options = read_options(CommandOptions, config)
        self._command = command(config, self._options, os.environ)

    @property
    def capabilities(self) -> Capabilities:
        """Both as the options say: a program is what somebody wrote."""
        return Capabilities(structured_output=self._options.structured_output, streaming=self._options.stream)

    async def complete(self, request: CompletionRequest) -> Completion:
        """Run the program once; see `Provider.complete`."""
        allowed_s = self.deadline_s(request)
        asked = question(request)
        with self._translated(allowed_s):
            async with asyncio.timeout(allowed_s), started(self._command, asked) as run:
                ended = await run.ended()
        pieces, last = taken_apart(ended.stdout) if self._options.stream else ([], ended.stdout)
        return self._answer(request, pieces, replace(ended, stdout=last))

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[str, None]:
        """Yield the program's pieces as they come, or the whole answer as one; see `Provider.stream`."""
        if not self._options.stream:
            completion = await self.complete(request)
            if completion.text:
                yield completion.text
            return
        allowed_s = self.deadline_s(request)
        deadline = asyncio.get_running_loop().time() + allowed_s
        asked, said, last = question(request), [], b""
        async with AsyncExitStack() as stack:
            with self._translated(allowed_s):
                run = await stack.enter_async_context(started(self._command, asked))
            while (line := await self._within(deadline, allowed_s, run.next_line())) is not None:
                text = piece(line)
                if text is None:
                    last = line
                    break
                said.append(text)
                if text:
                    yield text
            ended = await self._within(deadline, allowed_s, run.ended())
        self._answer(request, said, replace(ended, stdout=last + b"\n" + ended.stdout))

    async def is_available(self) -> bool:
        """Run the program's check, if it has one; else say whether it can be run."""
        if not self._options.check:
            return os.access(self._command.argv[0], os.X_OK)
        check = replace(self._command, argv=(*self._command.argv, *self._options.check))
        try:
            with self._translated(AVAILABLE_TIMEOUT_S):
                async with asyncio.timeout(AVAILABLE_TIMEOUT_S), started(check, b"") as run:
                    return (await run.ended()).exit_code == 0
        except ProviderError:
            return False

    async def aclose(self) -> None:
        """Nothing is kept between two runs."""

    def _answer(self, request: CompletionRequest, pieces: Sequence[str], ended: Ended) -> Completion:
        said = answer(ended.stdout, ended.exit_code, ended.stderr, pieces, self.config.api_key)
        return whole(replace(said, model=said.model or request.model))

    async def _within(self, deadline: float, allowed_s: float, work: Awaitable[T]) -> T:
        """Wait for the program. The deadline is never set across a `yield` (PEP 789)."""
        with self._translated(allowed_s):
            async with asyncio.timeout_at(deadline):
                return await work

    @contextmanager
    def _translated(self, allowed_s: float) -> Iterator[None]:
        """Let no failure of the run or of the deadline pass as it is."""
        try:
            yield
        except TimeoutError as error:
            raise Timeout(f"no answer within {allowed_s:g} s; the program was ended") from error
        except TooMuchOutput as error:
            raise MalformedCompletion(
                f"the program wrote more than {self._options.max_output_bytes:,} bytes and was ended",
                raw_text=error.head.decode("utf-8", "replace"),
            ) from error
        except OSError as error:
            raise ServerError(f"the program cannot be run: {type(error).__name__}: {error.strerror}") from error
