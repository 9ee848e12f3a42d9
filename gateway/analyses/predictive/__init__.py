"""Analyses of activity over time: risks and trends of people and teams."""

from gateway.analyses.predictive import attrition_risk, burnout_risk, performance_trajectory, team_health

ANALYSES = (
    attrition_risk.ANALYSIS,
    burnout_risk.ANALYSIS,
    performance_trajectory.ANALYSIS,
    team_health.ANALYSIS,
)
