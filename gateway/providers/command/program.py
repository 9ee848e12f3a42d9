"""A provider that is a program: one run for each question, given up with all its children at the deadline."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from gateway.errors import ConfigurationError, MalformedCompletion, ProviderError, ServerError, Timeout
from gateway.messages import Capabilities, Completion, CompletionRequest
from gateway.providers.base import Provider, ProviderConfig, read_options, whole
from gateway.providers.command.contract import answer, question
from gateway.providers.command.process import Ended, TooMuchOutput, run
from gateway.providers.wire import AVAILABLE_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""All that a program sees of the worker's environment: the keys and passwords in it are none of its business."""

Word = Annotated[str, Field(min_length=1, max_length=4_096)]


class CommandOptions(BaseModel):
    """`options` of a catalog entry whose dialect is command."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    argv: Annotated[list[Word], Field(min_length=1, max_length=100)]
    """The program and its arguments. No shell reads them; the program is a path, or is looked for on PATH."""
    env: dict[str, str] = Field(default_factory=dict)
    """Further variables for it."""
    key_variable: str | None = None
    """The variable in which it gets the provider's key."""
    cwd: str | None = None
    max_output_bytes: Annotated[int, Field(gt=0, le=64 * 1024 * 1024)] = 4 * 1024 * 1024
    """A program that writes more is ended."""
    structured_output: bool = False
    """Whether it answers by the schema it is given."""
    check: Annotated[list[Word], Field(max_length=100)] = Field(default_factory=list)
    """Arguments with which it says, by exit code 0, that it is well; without them it is enough that it can be run."""


class CommandProvider(Provider):
    """A program as a provider. Options: `CommandOptions`; what it reads and writes: `contract`."""

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(config)
        self._options = read_options(CommandOptions, config)
        program = shutil.which(self._options.argv[0])
        if program is None:
            raise ConfigurationError(f"provider {config.name!r}: option 'argv': no program {self._options.argv[0]!r}")
        self._argv = (program, *self._options.argv[1:])
        self._env = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | self._options.env
        if self._options.key_variable and config.api_key:
            self._env[self._options.key_variable] = config.api_key

    @property
    def capabilities(self) -> Capabilities:
        """Structured output as the options say; a program answers at once and whole."""
        return Capabilities(structured_output=self._options.structured_output, streaming=False)

    async def complete(self, request: CompletionRequest) -> Completion:
        """Run the program once; see `Provider.complete`."""
        allowed_s = self.deadline_s(request)
        asked = question(request)
        try:
            async with asyncio.timeout(allowed_s):
                ended = await self._run(self._argv, asked)
        except TimeoutError as error:
            raise Timeout(f"no answer within {allowed_s:g} s; the program was ended") from error
        except TooMuchOutput as error:
            most = self._options.max_output_bytes
            raise MalformedCompletion(
                f"the program wrote more than {most} bytes and was ended",
                raw_text=error.head.decode("utf-8", "replace"),
            ) from error
        except OSError as error:
            raise ServerError(f"the program cannot be run: {type(error).__name__}") from error
        return whole(answer(ended.stdout, ended.exit_code, ended.stderr, request.model, self.config.api_key))

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[str, None]:
        """Yield the whole answer as one piece; see `Provider.stream`."""
        completion = await self.complete(request)
        if completion.text:
            yield completion.text

    async def is_available(self) -> bool:
        """Run the program's check, if it has one; else say whether it can be run."""
        if not self._options.check:
            return os.access(self._argv[0], os.X_OK)
        try:
            async with asyncio.timeout(AVAILABLE_TIMEOUT_S):
                return (await self._run((self._argv[0], *self._options.check), b"")).exit_code == 0
        except (TimeoutError, TooMuchOutput, OSError, ProviderError):
            return False

    async def aclose(self) -> None:
        """Nothing is kept between two runs."""

    async def _run(self, argv: tuple[str, ...], stdin: bytes) -> Ended:
        options = self._options
        return await run(argv, stdin, env=self._env, cwd=options.cwd, most_bytes=options.max_output_bytes)
