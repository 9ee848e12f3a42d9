"""What a worker says of itself at its start."""

from __future__ import annotations

from gateway.catalog import load_catalog
from workers.worker import kept_limits, primary_and_fallbacks

BOTH = {"ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k"}


def test_it_names_the_primary_provider_and_those_after_it():
    assert primary_and_fallbacks(load_catalog(None, BOTH)) == "primary provider: claude, fallbacks: openai"
    assert primary_and_fallbacks(load_catalog(None, {"OPENAI_API_KEY": "k"})) == "primary provider: openai"
    assert primary_and_fallbacks(load_catalog(None, {})) == "primary provider: none"


def test_it_says_which_limits_it_keeps():
    catalog = load_catalog(None, BOTH)
    [line] = kept_limits(catalog, ["claude", "openai"])
    assert line == "claude/default/default is kept to 50 requests_per_min, 100000 input_tokens_per_min (the catalog)"
