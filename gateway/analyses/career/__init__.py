"""Analyses that plan: learning, job descriptions, interviews."""

from gateway.analyses.base import Analysis

ANALYSES: tuple[Analysis, ...] = ()
