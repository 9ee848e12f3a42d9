"""Process-backed nodes for every fault test."""

from nodes.fixtures import *  # noqa: F403  fixtures are found by name
