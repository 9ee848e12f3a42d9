"""Analyses of what a developer's work shows of the developer."""

from gateway.analyses.developer import developer_profile, growth_trajectory, soft_skills

ANALYSES = (developer_profile.ANALYSIS, soft_skills.ANALYSIS, growth_trajectory.ANALYSIS)
