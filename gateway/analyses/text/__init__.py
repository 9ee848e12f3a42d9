"""Analyses of any text, in the caller's own terms: its labels, its own words."""

from gateway.analyses.text import completion, text_classification

ANALYSES = (text_classification.ANALYSIS, completion.ANALYSIS)
