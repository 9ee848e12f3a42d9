"""Analyses of source code: what it shows, how good it is, how complex."""

from gateway.analyses.code import code_complexity, code_quality, skill_extraction

ANALYSES = (skill_extraction.ANALYSIS, code_quality.ANALYSIS, code_complexity.ANALYSIS)
