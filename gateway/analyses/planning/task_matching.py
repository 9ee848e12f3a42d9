"""task_matching: which of the given candidates a task suits, by what their profiles show.

The candidates come with each call, in `context["candidates"]`, and so does the shape of the answer: one field for each
candidate, in the order given. Nobody can be left out, judged twice or made up, whatever the model does. Nobody is
ranked either: a fit is one of three words, and whoever assigns the task compares the reasons.

A candidate is an id and what speaks to the work. Other fields are refused, and with them all that must not decide (a
name, an age, a photograph's address): what does not reach the model cannot sway it.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)

from gateway.analyses.base import MAX_CLAIMS, Analysis, Ask, Example, Result, Sensitivity, Text
from gateway.analyses.evidence import Claim, Claims, Name, Percent, Quote, Unsaid, left_out, same, withdrawn
from gateway.analyses.schema_lint import MAX_NULLABLE_FIELDS
from gateway.analyses.shapes import ResultShape
from gateway.errors import PromptError
from gateway.response import first_few

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CANDIDATES = MAX_NULLABLE_FIELDS
"""More is a search, not a comparison; and each has one nullable field in the schema, `fit`."""

MAX_LINES = 50
"""Most skills, or pieces of experience, of one candidate."""

MAX_ID_CHARS = 100

REMEMBERED_ID_SETS = 32
"""The same team is asked about task after task. Sixteen candidates take 20 ms to build and 0.6 MB to keep."""

FIELD = "candidate_{}"
"""What a candidate's field is called, by number from 1. An id may be any text, a field's name may not."""


class Candidate(BaseModel):
    """Who could do the task. The id is a name of the caller's own that says nothing, such as `dev-17`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_CHARS, pattern=r"\S")]
    skills: Annotated[list[str], Field(max_length=MAX_LINES)]
    experience: Annotated[list[str], Field(max_length=MAX_LINES)] = []
    availability: str | None = None
    wants: str | None = None


class Fit(StrEnum):
    """How far a profile covers what the task demands."""

    STRONG = "strong"
    PARTIAL = "partial"
    WEAK = "weak"


class Covered(Result):
    """A demand of the task, after the words of the profile that cover it."""

    evidence: Quote
    demand: Name


class Assessment(Result):
    """One candidate: what of the profile covers which demand, what it does not show, and the fit that follows.

    `fit` is null where the profile says too little: no word against the person. `candidate` is narrowed to the one id
    for each call.
    """

    candidate: str
    covered: Annotated[list[Covered], Field(max_length=MAX_CLAIMS)]
    not_shown: Unsaid
    fit: Fit | None

    @model_validator(mode="after")
    def _fit_rests_on_something(self) -> Self:
        if self.fit in (None, Fit.WEAK) or self.covered:
            return self
        return withdrawn(self, "fit", "anything covered", notes="not_shown")

    def rests_on(self, demands: Sequence[Claim]) -> bool:
        """Whether the fit follows from these demands: something of one is covered, or there is one to fall short of."""
        if self.fit in (None, Fit.WEAK):
            return self.fit is None or bool(demands)
        return any(same(one.demand, demand.name) for one in self.covered for demand in demands)


class BareAssessment(Assessment):
    """The same where the profile holds neither a skill nor experience: it can cover nothing, and shows no weakness."""

    @model_validator(mode="after")
    def _no_fit(self) -> Self:
        kept = left_out(self, "covered", [], "quote a profile that holds nothing", notes="not_shown")
        return kept if kept.fit is None else withdrawn(kept, "fit", "a profile", notes="not_shown")


class TaskMatching(Result):
    """What the task demands. Each call adds the candidates, what nobody covers, and how sure."""

    demands: Claims

    @model_validator(mode="after")
    def _a_fit_rests_on_demands(self) -> Self:
        assessed = {name: one for name, one in self if isinstance(one, Assessment) and not one.rests_on(self.demands)}
        lacking = "a demand that is named"
        changed = {name: withdrawn(one, "fit", lacking, notes="not_shown") for name, one in assessed.items()}
        return self.model_copy(update=changed) if changed else self


_CANDIDATES = TypeAdapter(Annotated[list[Candidate], Field(min_length=1, max_length=MAX_CANDIDATES)])


def shape_for(ask: Ask) -> ResultShape:
    """Return the shape for the candidates in the ask's context.

    Raises:
        PromptError: `candidates` is not a list of 1 to 16 candidates with different ids; the message names the place.
    """
    given = ask.context.get("candidates")
    try:
        candidates = _CANDIDATES.validate_python(list(given) if isinstance(given, tuple) else given)
    except ValidationError as error:
        raise PromptError(f"task_matching needs the context's candidates: {'; '.join(_in_words(error))}") from error
    ids = tuple(candidate.id for candidate in candidates)
    odd = next((name for name in ids if not name.isprintable()), None)
    if odd is not None:
        raise PromptError(f"candidates: the id {odd!r} holds an unprintable character")
    if len(set(ids)) < len(ids):
        raise PromptError(f"candidates: {len(ids)} given with {len(set(ids))} different ids; no two are the same")
    bare = (one.id for one in candidates if not any(line.strip() for line in (*one.skills, *one.experience)))
    return _shape(ids, frozenset(bare))


def _in_words(error: ValidationError) -> tuple[str, ...]:
    """Name places and rules; a profile stays out of messages."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return first_few([f"{'.'.join(map(str, ('candidates', *item['loc'])))}: {item['msg']}" for item in found])


@lru_cache(maxsize=REMEMBERED_ID_SETS)
def _shape(ids: tuple[str, ...], bare: frozenset[str]) -> ResultShape:
    """The demands, an `Assessment` for each candidate (`candidate_1` …), what nobody covers, and how sure.

    `bare`: the ids of those whose profile holds neither a skill nor experience.
    """
    assessed = {name: BareAssessment if name in bare else Assessment for name in ids}
    fields: dict[str, Any] = {
        FIELD.format(number): (_only(name, base), ...) for number, (name, base) in enumerate(assessed.items(), start=1)
    }
    fields |= {"uncovered": (Annotated[list[Text], Field(max_length=MAX_CLAIMS)], ...)}
    fields |= {"confidence_percent": (Percent, ...)}
    return ResultShape.of(create_model("TaskMatching", __base__=TaskMatching, **fields))


def _only(name: str, base: type[Assessment]) -> type[Assessment]:
    """The assessment of this candidate and no other."""
    candidate: dict[str, Any] = {"candidate": (Literal[name], ...)}
    return create_model("Assessment", __base__=base, **candidate)


ANALYSIS = Analysis(
    name="task_matching",
    description="Which of the given candidates a task suits, each assessed by what the profile shows; nobody is ranked",
    shape=shape_for,
    prompts=files("gateway") / "prompts" / "task_matching",
    prompt_version="v1",
    max_output_tokens=4_000,
    max_content_bytes=50_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.PERSONAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "task_matching.md",
        "Written for Assayline; the project and the people are made up.",
        {
            "candidates": [
                {
                    "id": "dev-17",
                    "skills": ["Python", "PostgreSQL", "query tuning"],
                    "experience": ["moved the bookings table to partitions"],
                    "availability": "from Monday",
                },
                {"id": "dev-23", "skills": ["TypeScript", "React"], "wants": "to learn SQL"},
            ]
        },
    ),
)
