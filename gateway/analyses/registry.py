"""All analyses there are: the shipped ones, and those that installed packages offer.

A third party declares, in its own package's metadata,

    [project.entry-points."assayline.analyses"]
    my_analysis = "my_package.analysis:ANALYSIS"

where the object is a `gateway.analyses.base.Analysis` of that name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING

from gateway.analyses import career, code, developer, engineering, planning, predictive, text
from gateway.analyses.base import Analysis
from gateway.analyses.schema_lint import lint
from gateway.analyses.shapes import ResultShape
from gateway.errors import ConfigurationError, UnknownAnalysis
from gateway.prompts.library import PromptSet, load_prompts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ENTRY_POINT_GROUP = "assayline.analyses"
SHIPPED = tuple(
    analysis
    for family in (code, developer, planning, predictive, career, engineering, text)
    for analysis in family.ANALYSES
)
NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True)
class Registered:
    """An analysis with its prompts, compiled."""

    analysis: Analysis
    prompts: PromptSet


@dataclass(frozen=True, slots=True)
class AnalysisRegistry:
    """The analyses by name."""

    entries: Mapping[str, Registered]

    def names(self) -> tuple[str, ...]:
        """Return all names, shipped ones first."""
        return tuple(self.entries)

    def get(self, name: str) -> Registered:
        """Return an analysis.

        Raises:
            UnknownAnalysis: there is none of this name; the message lists those there are.
        """
        found = self.entries.get(name)
        if found is None:
            raise UnknownAnalysis(f"no analysis {name!r}; there are {', '.join(self.entries)}")
        return found


def load_analyses(offered: Iterable[EntryPoint] | None = None) -> AnalysisRegistry:
    """Register the shipped analyses and those `offered` (None: by all installed packages).

    Raises:
        ConfigurationError: one cannot be loaded, or has a taken name, a wrong prompt or an unfit schema.
    """
    points = entry_points(group=ENTRY_POINT_GROUP) if offered is None else offered
    return register([*SHIPPED, *(_loaded(point) for point in points)])


def register(analyses: Iterable[Analysis]) -> AnalysisRegistry:
    """Check analyses, compile their prompts and put them under their names; raises as `load_analyses`."""
    entries: dict[str, Registered] = {}
    for analysis in analyses:
        if not NAME.fullmatch(analysis.name):
            raise ConfigurationError(f"analysis {analysis.name!r}: a name is a-z, 0-9 and _, at most 32")
        if analysis.name in entries:
            raise ConfigurationError(f"analysis {analysis.name!r} is registered twice")
        if isinstance(analysis.shape, ResultShape):
            lint(analysis.shape.schema, analysis.name)
        prompts = load_prompts(analysis.name, analysis.prompts, analysis.prompt_version)
        entries[analysis.name] = Registered(analysis, prompts)
    return AnalysisRegistry(MappingProxyType(entries))


def _loaded(point: EntryPoint) -> Analysis:
    # A foreign package may fail in any way at import; that is its fault, and the message says whose.
    try:
        analysis = point.load()
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"entry point {point.name} = {point.value}: {problem}") from error
    if not isinstance(analysis, Analysis) or analysis.name != point.name:
        raise ConfigurationError(f"entry point {point.name} = {point.value} is not an Analysis of that name")
    return analysis
