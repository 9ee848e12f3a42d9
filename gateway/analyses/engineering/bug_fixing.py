"""bug_fixing: what makes a piece of code fail, the code mended, and a test that would have caught it.

The cause comes before the fix. Where the code does not show a cause there is no fix: a change that makes the symptom go
away is worse than none.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated, Self

from pydantic import Field, model_validator

from gateway.analyses.base import MAX_CLAIMS, Analysis, Example, Result, Sensitivity, Text
from gateway.analyses.engineering.code_text import Code
from gateway.analyses.evidence import Sentence, Unsaid, withdrawn
from gateway.analyses.shapes import ResultShape


class BugFixing(Result):
    """The failing lines, why they fail, and only then the code; null where the cause is not shown."""

    evidence: Text
    root_cause: Sentence | None
    fixed_code: Code | None
    explanation: Text
    regression_test: Code | None
    side_effects: Annotated[list[Text], Field(max_length=MAX_CLAIMS)]
    insufficient_evidence: Unsaid

    @model_validator(mode="after")
    def _a_fix_rests_on_a_cause(self) -> Self:
        kept = self
        if self.root_cause is not None and not self.evidence.strip():
            kept = withdrawn(kept, "root_cause", "evidence")
        for made in ("fixed_code", "regression_test"):
            if kept.root_cause is None and getattr(kept, made) is not None:
                kept = withdrawn(kept, made, "a root_cause")
        return kept


ANALYSIS = Analysis(
    name="bug_fixing",
    description="Why a piece of code fails, the code mended, and a test that would have caught it",
    shape=ResultShape.of(BugFixing),
    prompts=files("gateway") / "prompts" / "bug_fixing",
    prompt_version="v1",
    max_output_tokens=8_000,
    max_content_bytes=200_000,
    cache_ttl_s=3_600,
    sensitivity=Sensitivity.INTERNAL,
    example=Example(
        files("gateway") / "analyses" / "examples" / "bug_fixing.py.txt",
        "Written for Assayline.",
        {"observed": "IndexError: list index out of range on an empty basket", "expected": "0", "language": "python"},
    ),
)
