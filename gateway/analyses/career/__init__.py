"""Analyses that plan: learning, job descriptions, interviews."""

from gateway.analyses.career import interview_rubric, job_description, learning_path

ANALYSES = (
    learning_path.ANALYSIS,
    job_description.ANALYSIS,
    interview_rubric.ANALYSIS,
)
