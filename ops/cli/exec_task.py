"""The task of `assayline exec`: its fields, whom it goes to, and its question."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Annotated, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.build import build_gateway
from gateway.catalog import load_catalog
from gateway.errors import ConfigurationError, GatewayError, RequestError
from gateway.gateway import Gateway
from gateway.messages import AnalysisResult, Message, ModelRef
from gateway.settings import Settings

MAX_TASK_BYTES = 1_048_576
"""Longest task, as a job's content."""

AGENTS: Mapping[str, str] = {
    "claude-code": "claude",
    "anthropic": "claude",
    "anthropic-claude": "claude",
    "gpt": "openai",
    "gpt-4": "openai",
    "openai-gpt": "openai",
    "gemini-pro": "gemini",
    "google-gemini": "gemini",
    "google": "gemini",
    "meta-llama": "ollama",
}
"""The names that the seeds' scripts and agent types go by, beside the catalog's own names of providers."""

SYSTEM = (
    "You carry out one task and hand over its result. Give what is asked for and nothing else: no preface, no"
    " questions. Meet every success criterion. Where the task leaves something open, choose what is usual and say so"
    " in one sentence at the end. Where it cannot be done as stated, say why in place of a made-up result."
)

logger = logging.getLogger(__name__)

Line = Annotated[str, Field(min_length=1, max_length=2_000)]


class BadTask(Exception):
    """What stands on stdin is no task. The message names the field; `task_id` is the task's, where it has one."""

    name = "bad_task"

    def __init__(self, message: str, task_id: str | None = None) -> None:
        super().__init__(message)
        self.task_id = task_id


class Task(BaseModel):
    """One task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task_id: Annotated[str, Field(min_length=1, max_length=200)]
    title: Line
    description: Annotated[str, Field(min_length=1)]
    agent: Annotated[str, Field(max_length=100)] | None = None
    provider: Annotated[str, Field(max_length=100)] | None = None
    model: Annotated[str, Field(max_length=200)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 4_000
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=3_600)] | None = None
    deliverables: Annotated[list[Line], Field(max_length=100)] = Field(default_factory=list)
    success_criteria: Annotated[list[Line], Field(max_length=100)] = Field(default_factory=list)

    def question(self) -> str:
        """The task in words."""
        lists = (("Deliverables", self.deliverables), ("Success criteria", self.success_criteria))
        parts = [self.title, self.description]
        parts += [f"{name}:\n" + "\n".join(f"- {item}" for item in items) for name, items in lists if items]
        return "\n\n".join(parts)


def read_task(stream: BinaryIO) -> Task:
    """Read one task.

    Raises:
        BadTask: it is longer than 1 MiB, no JSON object, or a field is missing, unknown or wrong.
    """
    content = stream.read(MAX_TASK_BYTES + 1)
    if len(content) > MAX_TASK_BYTES:
        raise BadTask(f"stdin: more than {MAX_TASK_BYTES} bytes")
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadTask(f"stdin: not one JSON object: {error}") from error
    try:
        return Task.model_validate(fields)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, found["loc"])) or "stdin"
        task_id = fields.get("task_id") if isinstance(fields, dict) else None
        raise BadTask(f"{place}: {found['msg']}", task_id if isinstance(task_id, str) else None) from error


class Execution:
    """One task on its way to a provider."""

    def __init__(self, task: Task, env: Mapping[str, str]) -> None:
        self._task = task
        self._env = env
        self._settings = Settings.from_env(env)
        self._catalog = load_catalog(self._settings.catalog_path, env)

    async def run(self) -> AnalysisResult:
        """Ask the models in turn until one answers.

        Raises:
            BadTask, RequestError: the task cannot be sent.
            ConfigurationError: nobody is configured to take it.
            GatewayError: the last model's error.
        """
        hops = self._hops()
        gateway = build_gateway(self._settings, self._catalog, self._env)
        try:
            for following in hops[1:]:
                try:
                    return await self._ask(gateway, hops[0])
                except GatewayError as error:
                    if not error.try_next_model:
                        raise
                    logger.warning("%s: %s; asking %s", hops[0], error.name, following)
                    hops = hops[1:]
            return await self._ask(gateway, hops[0])
        finally:
            await gateway.aclose()

    async def _ask(self, gateway: Gateway, hop: ModelRef) -> AnalysisResult:
        task = self._task
        return await gateway.analyze(
            "completion",
            task.question(),
            messages=(Message("system", SYSTEM),),
            model=hop,
            max_tokens=task.max_tokens,
            temperature=task.temperature,
            timeout_s=task.timeout_s,
            use_cache=False,
        )

    def _hops(self) -> list[ModelRef]:
        chain = list(self._catalog.chain("completion"))
        provider = self._provider()
        if self._task.model is not None:
            return [self._model(self._task.model, provider)]
        if provider is not None:
            return [self._first_of(provider, chain)]
        if not chain:
            wanted = ", ".join(hop.provider for hop in self._catalog.route("completion").chain)
            raise ConfigurationError(
                f"no provider is configured, of {wanted}; `assayline providers` says what is missing"
            )
        return chain

    def _provider(self) -> str | None:
        """The catalog's name for the task's agent or provider.

        Raises:
            BadTask: there is none of this name, or the two differ.
            ConfigurationError: it is not configured.
        """
        found = {AGENTS.get(name, name) for name in (self._task.agent, self._task.provider) if name}
        if len(found) > 1:
            raise BadTask(f"agent {self._task.agent!r} and provider {self._task.provider!r} are not the same")
        if not found:
            return None
        [name] = found
        if name not in self._catalog.providers:
            known = ", ".join((*self._catalog.providers, *AGENTS))
            raise BadTask(f"agent: no provider {name!r}; there are {known}")
        missing = self._catalog.providers[name].missing(self._env)
        if missing:
            raise ConfigurationError(f"provider {name!r} is not configured: set {' and '.join(missing)}")
        return name

    def _model(self, model: str, provider: str | None) -> ModelRef:
        if provider is not None:
            return self._known(ModelRef(provider, model))
        holders = [ref for ref in self._catalog.models() if model in (ref.model, str(ref))]
        if not holders:
            raise BadTask(f"model: no configured provider has {model!r}; `assayline models` lists those there are")
        return holders[0]

    def _known(self, ref: ModelRef) -> ModelRef:
        try:
            self._catalog.model(ref)
        except RequestError as error:
            raise BadTask(f"model: {error}") from error
        return ref

    def _first_of(self, provider: str, chain: list[ModelRef]) -> ModelRef:
        ours = [ref for ref in (*chain, *self._catalog.models()) if ref.provider == provider]
        return ours[0]
