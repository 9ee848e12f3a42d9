"""Analyses of tasks: what one demands, and whom it suits."""

from gateway.analyses.base import Analysis

ANALYSES: tuple[Analysis, ...] = ()
