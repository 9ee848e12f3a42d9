"""Runs processes as one: order, readiness, restarts, one log, and no orphan. Knows nothing of what the processes do."""
