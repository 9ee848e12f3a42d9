"""Analyses of tasks: what one demands, and whom it suits."""

from gateway.analyses.planning import task_matching, task_signals

ANALYSES = (task_signals.ANALYSIS, task_matching.ANALYSIS)
