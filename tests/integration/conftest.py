"""Process-backed nodes for the worker tests."""

from nodes.fixtures import *  # noqa: F403  fixtures are found by name
