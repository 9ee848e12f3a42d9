"""Analyses of activity over time: risks and trends of people and teams."""

from gateway.analyses.base import Analysis

ANALYSES: tuple[Analysis, ...] = ()
