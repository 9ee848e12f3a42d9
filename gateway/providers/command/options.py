"""What the catalog says of a program, checked, and what is run of it: path, arguments, environment, directory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from gateway.errors import ConfigurationError
from gateway.providers.command.process import Command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.providers.base import ProviderConfig

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""All that a program sees of the worker's environment: the keys and passwords in it are none of its business."""

DEFAULT_OUTPUT_BYTES = 4 * 1024 * 1024
MOST_OUTPUT_BYTES = 64 * 1024 * 1024
"""128,000 tokens of 4 characters, each escaped to 12 bytes, are 6 MB; beyond ten times that it is no answer."""

Word = Annotated[str, StringConstraints(min_length=1, max_length=4_096, pattern=r"^[^\x00]*\z")]
"""An argument. No program can be handed a NUL."""
Value = Annotated[str, StringConstraints(max_length=32_768, pattern=r"^[^\x00]*\z")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}\z")]


class CommandOptions(BaseModel):
    """`options` of a catalog entry whose dialect is command."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    argv: Annotated[list[Word], Field(min_length=1, max_length=100)]
    """The program and its arguments. No shell reads them; the program is an absolute path or is found on PATH."""
    env: Annotated[dict[Variable, Value], Field(max_length=100)] = Field(default_factory=dict)
    """Further variables for it."""
    key_variable: Variable | None = None
    """The variable in which it gets the provider's key."""
    cwd: Word | None = None
    """The directory it runs in, an absolute path. Without one it is the worker's."""
    max_output_bytes: Annotated[int, Field(gt=0, le=MOST_OUTPUT_BYTES)] = DEFAULT_OUTPUT_BYTES
    """A program that writes more to stdout is ended."""
    structured_output: bool = False
    """Whether it answers by the schema it is given."""
    stream: bool = False
    """Whether it writes its text in pieces, a line each, before its answer (see `contract`)."""
    check: Annotated[list[Word], Field(max_length=100)] = Field(default_factory=list)
    """Further arguments with which it says, by exit code 0, that it is well. Without them it is enough that it can be
    run."""


def command(config: ProviderConfig, options: CommandOptions, environ: Mapping[str, str]) -> Command:
    """Return what is run for each question.

    Raises:
        ConfigurationError: the program is not found or may not be executed, the directory is none, or the key cannot
            be handed over. The key is not shown.
    """
    env = {name: environ[name] for name in PASSED_ON if name in environ} | options.env
    if options.key_variable and config.api_key:
        if "\0" in config.api_key:
            raise ConfigurationError(f"provider {config.name!r}: its key holds a NUL, which no variable can carry")
        env[options.key_variable] = config.api_key
    if options.cwd is not None and not (Path(options.cwd).is_absolute() and Path(options.cwd).is_dir()):
        raise ConfigurationError(f"provider {config.name!r}: option 'cwd': no directory {options.cwd!r}")
    path = _program(config.name, options.argv[0], env.get("PATH"))
    return Command((path, *options.argv[1:]), env, options.cwd, options.max_output_bytes)


def _program(provider: str, name: str, search: str | None) -> str:
    if os.sep in name and not Path(name).is_absolute():
        raise ConfigurationError(
            f"provider {provider!r}: option 'argv': {name!r} is neither an absolute path nor a name to find on PATH"
        )
    found = shutil.which(name, path=search)
    if found is None:
        raise ConfigurationError(f"provider {provider!r}: option 'argv': no program {name!r} that can be executed")
    return str(Path(found).absolute())
