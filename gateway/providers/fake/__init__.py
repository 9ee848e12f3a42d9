"""Scripted answers, for tests and benches. No network, no cost."""
