"""Analyses that produce: code, fixes, requirements, documentation."""

from gateway.analyses.base import Analysis

ANALYSES: tuple[Analysis, ...] = ()
