"""Analyses that produce: code, fixes, requirements, documentation."""

from gateway.analyses.engineering import bug_fixing, code_generation, documentation_generation, requirement_analysis

ANALYSES = (
    code_generation.ANALYSIS,
    requirement_analysis.ANALYSIS,
    bug_fixing.ANALYSIS,
    documentation_generation.ANALYSIS,
)
