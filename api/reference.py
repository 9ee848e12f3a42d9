"""What can be asked for: analyses and prompts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import StringConstraints

from api.analysis_answers import (
    AnalysesAnswer,
    AnalysisAnswer,
    AnalysisLimits,
    AnalysisLine,
    ExampleAnswer,
    PromptAnswer,
    PromptLine,
)
from api.openapi import answers
from api.problems import INVALID, NO_SUCH_ANALYSIS, NO_SUCH_PROMPT, Problem
from api.services import Here, Services, no_parameters
from gateway.analyses.registry import Registered
from gateway.errors import PromptError, UnknownAnalysis
from gateway.prompts.template import PromptVersion

Name = Annotated[str, StringConstraints(min_length=1, max_length=100), Path()]

router = APIRouter(tags=["reference"], dependencies=[Depends(no_parameters)])


@router.get(
    "/v1/analyses",
    summary="List the analyses",
    responses=answers({200: (AnalysesAnswer, "All there are")}, INVALID),
    response_model=AnalysesAnswer,
)
async def analyses(here: Here) -> AnalysesAnswer:
    """What can be asked for."""
    return AnalysesAnswer(analyses=[_line(here, name) for name in here.registry.names()])


@router.get(
    "/v1/analyses/{name}",
    summary="Look at an analysis",
    responses=answers({200: (AnalysisAnswer, "All about it")}, NO_SUCH_ANALYSIS, INVALID),
    response_model=AnalysisAnswer,
)
async def analysis(here: Here, name: Name) -> AnalysisAnswer:
    """What an analysis takes, what it gives, and who runs it."""
    entry = _entry(here, name)
    kind = entry.analysis
    return AnalysisAnswer(
        **dict(_line(here, name)),
        result_schema=kind.result_schema,
        prompt_version=entry.prompts.default,
        prompts=[_prompt_line(prompt) for _, prompt in sorted(entry.prompts.versions.items())],
        limits=AnalysisLimits(
            max_content_bytes=kind.max_content_bytes,
            max_output_tokens=kind.max_output_tokens,
            cache_ttl_s=kind.cache_ttl_s,
            temperature=kind.temperature,
        ),
        own_words=kind.own_words,
        moves_on_refusal=kind.moves_on_refusal,
        example=_example(entry),
    )


@router.get(
    "/v1/prompts/{analysis}",
    summary="Read the prompt of an analysis",
    responses=answers({200: (PromptAnswer, "The version in use")}, NO_SUCH_PROMPT, INVALID),
    response_model=PromptAnswer,
)
async def prompt(here: Here, analysis: Name) -> PromptAnswer:
    """The version that is used where a job names none."""
    return _prompt(here, analysis, None)


@router.get(
    "/v1/prompts/{analysis}/{version}",
    summary="Read one version of a prompt",
    responses=answers({200: (PromptAnswer, "That version")}, NO_SUCH_PROMPT, INVALID),
    response_model=PromptAnswer,
)
async def prompt_version(here: Here, analysis: Name, version: Name) -> PromptAnswer:
    """One version of the prompt of an analysis, by its id `analysis/version`."""
    return _prompt(here, analysis, version)


def _line(here: Services, name: str) -> AnalysisLine:
    kind = here.registry.get(name).analysis
    return AnalysisLine(
        name=name,
        description=kind.description,
        lane=here.catalog.route(name).lane,
        chain=[str(hop) for hop in here.catalog.chain(name)],
        sensitivity=kind.sensitivity,
    )


def _entry(here: Services, name: str) -> Registered:
    try:
        return here.registry.get(name)
    except UnknownAnalysis as error:
        raise Problem(NO_SUCH_ANALYSIS, f"{name!r} is not known; GET /v1/analyses lists those that are") from error


def _example(entry: Registered) -> ExampleAnswer | None:
    example = entry.analysis.example
    if example is None:
        return None
    content = example.content.read_text(encoding="utf-8")
    return ExampleAnswer(content=content, context=dict(example.context), source=example.source)


def _prompt(here: Services, name: str, version: str | None) -> PromptAnswer:
    try:
        entry = here.registry.get(name)
        found = entry.prompts.version(version)
    except (UnknownAnalysis, PromptError) as error:
        raise Problem(NO_SUCH_PROMPT, f"there is no {name if version is None else f'{name}/{version}'}") from error
    file = entry.analysis.prompts / f"{found.version}.md"
    return PromptAnswer(
        **dict(_prompt_line(found)),
        id=f"{name}/{found.version}",
        analysis=name,
        default=found.version == entry.prompts.default,
        text=file.read_text(encoding="utf-8"),
    )


def _prompt_line(prompt: PromptVersion) -> PromptLine:
    return PromptLine(
        version=prompt.version,
        description=prompt.description,
        fingerprint=prompt.fingerprint,
        required=sorted(prompt.required),
        optional=dict(prompt.optional),
    )
