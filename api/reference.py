"""What can be asked for, and of whom: analyses, prompts, providers. Read from the catalog; no key is ever told."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import StringConstraints

from api.answers import (
    AccountAnswer,
    AnalysesAnswer,
    AnalysisAnswer,
    AnalysisLimits,
    AnalysisLine,
    ExampleAnswer,
    LongPriceAnswer,
    ModelAnswer,
    PromptAnswer,
    PromptLine,
    ProviderAnswer,
    ProvidersAnswer,
    WholePriceAnswer,
)
from api.openapi import answers
from api.problems import INVALID, NO_SUCH_ANALYSIS, NO_SUCH_PROMPT, Problem
from api.services import Here, Services, no_parameters
from gateway.analyses.registry import Registered
from gateway.catalog_entries import ModelEntry, Price, ProviderEntry
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


@router.get(
    "/v1/providers",
    summary="List the providers",
    responses=answers({200: (ProvidersAnswer, "All of the catalog")}, INVALID),
    response_model=ProvidersAnswer,
)
async def providers(here: Here) -> ProvidersAnswer:
    """Which providers there are, what they lack to be used, their models and what those cost today."""
    today = datetime.now(UTC).date()
    found = [_provider(here, name, entry, today) for name, entry in here.catalog.providers.items()]
    return ProvidersAnswer(providers=found, warnings=list(here.catalog.warnings(today)))


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


def _provider(here: Services, name: str, entry: ProviderEntry, today: date) -> ProviderAnswer:
    missing = entry.missing(here.env)
    return ProviderAnswer(
        name=name,
        dialect=entry.dialect,
        configured=not missing,
        missing=list(missing),
        account=here.catalog.account(name),
        accounts=[AccountAnswer(name=one.name, zone=one.zone, limits=one.limits) for one in entry.accounts],
        chosen_model=here.catalog.chosen_model(name),
        timeout_s=entry.timeout_s,
        models=[_model(f"{name}/{model}", found, today) for model, found in here.catalog.models_of(name).items()],
    )


def _model(name: str, entry: ModelEntry, today: date) -> ModelAnswer:
    price = entry.price_on(today)
    return ModelAnswer(
        name=name,
        context_window=entry.context_window,
        max_output_tokens=entry.max_output_tokens,
        capabilities=sorted(entry.capabilities),
        price=None if price is None else _price(price),
        limit_group=entry.limit_group,
        deprecated_on=entry.deprecated_on,
        replacement=entry.replacement,
        source=entry.source,
        checked=entry.checked,
        note=entry.note,
    )


def _price(price: Price) -> WholePriceAnswer:
    said = price.model_dump()
    long = said.pop("long_context")
    return WholePriceAnswer(**said, long_context=None if long is None else LongPriceAnswer(**long))
