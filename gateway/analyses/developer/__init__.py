"""Analyses of what a developer's work shows of the developer."""

from gateway.analyses.base import Analysis

ANALYSES: tuple[Analysis, ...] = ()
