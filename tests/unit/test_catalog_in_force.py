"""What the environment puts in force of the catalog: accounts, models by variable, warnings."""

from __future__ import annotations

import re
from datetime import date

import pytest

from gateway.analyses.registry import load_analyses
from gateway.build import provider_config
from gateway.catalog import SHIPPED_CATALOG, Catalog, build_catalog, load_catalog
from gateway.errors import CatalogError
from gateway.messages import ModelRef
from gateway.providers.registry import create
from gateway.providers.rest.endpoint import RestEndpoint
from gateway.yaml_source import parse_yaml

MODEL = """\
        context_window: 100
        max_output_tokens: 10
        capabilities: []
        price: null
        note: nobody knows
        source: a test
        checked: 2026-11-21
"""
ACCOUNTS = f"""\
providers:
  one:
    dialect: fake
    key_env: ONE_KEY
    base_url: http://shared/v1
    base_url_env: ONE_URL
    accounts:
      - name: first
        limits: {{default: {{requests_per_min: 50, usd_per_day: "20"}}}}
        zone: Europe/Berlin
      - {{name: second, key_env: SECOND_KEY, base_url_env: SECOND_URL}}
    models:
      m:
{MODEL}
defaults:
  chain: [one/m]
"""
TODAY = date(2026, 11, 21)
BOTH = {"ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k"}


def catalog(text: str = ACCOUNTS, env: dict[str, str] | None = None) -> Catalog:
    return build_catalog(parse_yaml(text, "c.yaml", CatalogError), env or {})


def test_the_first_account_that_is_configured_makes_the_calls():
    env = {"SECOND_KEY": "k2"}
    one = catalog(env=env).providers["one"]
    assert catalog(env=env).account("one") == "second"
    assert (one.key(env), one.url(env), one.missing(env)) == ("k2", "http://shared/v1", ())
    env |= {"ONE_KEY": "k1", "SECOND_URL": "http://second/v1"}
    assert catalog(env=env).account("one") == "first"
    assert provider_config("one", one, env).api_key == "k1"


def test_an_accounts_own_url_stands_in_place_of_the_providers():
    env = {"SECOND_KEY": "k2", "SECOND_URL": "http://second/v1", "ONE_URL": "http://one/v1"}
    assert catalog(env=env).providers["one"].url(env) == "http://second/v1"


def test_with_no_account_configured_the_first_ones_variables_are_missing():
    assert catalog().providers["one"].missing({}) == ("ONE_KEY",)


def test_limits_are_read_by_group():
    limits = catalog().providers["one"].accounts[0].limits["default"]
    assert (limits.requests_per_min, str(limits.usd_per_day), limits.input_tokens_per_min) == (50, "20", None)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("name: second", "name: first", "two accounts have one name"),
        ("zone: Europe/Berlin", "zone: Mars/Olympus", r"c\.yaml:[0-9]+: .*no time zone 'Mars/Olympus'"),
        ("requests_per_min: 50", "requests_per_min: 0", r"c\.yaml:[0-9]+: .*requests_per_min"),
        ("requests_per_min: 50", "requests_per_hour: 50", "requests_per_hour"),
        ("        note: nobody knows", "        note: n\n        replacement: x", "replacement 'x' is not among"),
        (
            "        note: nobody knows",
            "        note: n\n        price_changes:\n"
            "          - {since: 2027-01-02, price: {input_per_mtok_usd: '1', output_per_mtok_usd: '1'}}\n"
            "          - {since: 2027-01-01, price: {input_per_mtok_usd: '1', output_per_mtok_usd: '1'}}",
            "in the order of their days",
        ),
    ],
)
def test_a_wrong_entry_is_refused_with_its_place(old, new, says):
    assert old in ACCOUNTS
    with pytest.raises(CatalogError, match=says):
        catalog(ACCOUNTS.replace(old, new, 1))


def test_a_key_in_place_of_its_variables_name_is_refused_and_not_shown():
    with pytest.raises(CatalogError, match=r"c\.yaml:4: providers\.one\.key_env: .*environment variable") as caught:
        catalog(ACCOUNTS.replace("ONE_KEY", "sk-ant-very-secret"))
    assert "very-secret" not in str(caught.value)


def test_claude_model_takes_the_place_of_the_chains_claude_models():
    env = BOTH | {"CLAUDE_MODEL": "claude-opus-5-5"}
    found = load_catalog(None, env)
    assert found.chain("code_quality") == (
        ModelRef("claude", "claude-opus-5-5"),
        ModelRef("openai", "gpt-6.1-terra"),
    )
    assert found.chain("text_classification")[0].model == "claude-opus-5-5"


def test_a_claude_model_that_the_catalog_does_not_know_is_refused_with_those_it_knows():
    """Its window and its price would be made up."""
    with pytest.raises(CatalogError, match=r"CLAUDE_MODEL: no model 'claude-3' at claude; .*claude-haiku-5-5"):
        load_catalog(None, BOTH | {"CLAUDE_MODEL": "claude-3"})


def test_ollama_model_may_be_any_that_is_pulled():
    env = {"OLLAMA_BASE_URL": "http://127.0.0.1:11434", "OLLAMA_MODEL": "qwen3:4b"}
    found = load_catalog(None, env)
    assert found.chain("skill_extraction") == (ModelRef("ollama", "qwen3:4b"),)
    assert ModelRef("ollama", "qwen3:4b") in found.models()
    assert found.model(ModelRef("ollama", "qwen3:4b")).price is not None


def test_a_chain_never_holds_one_model_twice():
    text = ACCOUNTS.replace("chain: [one/m]", "chain: [one/m, one/n]").replace(
        "    models:\n", f"    model_env: ONE_MODEL\n    models:\n      n:\n{MODEL}\n", 1
    )
    env = {"ONE_KEY": "k", "ONE_MODEL": "n"}
    assert catalog(text, env).chain("anything") == (ModelRef("one", "n"),)


def test_a_model_that_goes_away_is_warned_of_only_while_a_chain_in_force_names_it():
    assert load_catalog(None, BOTH).warnings(TODAY) == ()
    env = BOTH | {"CLAUDE_MODEL": "claude-sonnet-4-5"}
    assert load_catalog(None, env).warnings(TODAY) == (
        "claude/claude-sonnet-4-5 goes on 2026-11-30; take claude/claude-sonnet-5-5",
    )
    [gone] = load_catalog(None, env).warnings(date(2026, 12, 1))
    assert "is gone since 2026-11-30" in gone


def test_no_shipped_chain_names_a_model_that_goes_away():
    everything = BOTH | {"GOOGLE_API_KEY": "k", "OLLAMA_BASE_URL": "http://x", "ASSAYLINE_FAKE": "1"}
    assert load_catalog(None, everything).warnings(TODAY) == ()


def test_a_preferred_provider_without_its_key_is_warned_of():
    found = load_catalog(None, {"OPENAI_API_KEY": "k", "LLM_PROVIDER": "claude"})
    assert found.warnings(TODAY) == (
        "LLM_PROVIDER / LLM_FALLBACK_PROVIDERS name claude, which needs ANTHROPIC_API_KEY",
    )


def test_the_example_of_an_endpoint_of_ones_own_holds_when_it_is_uncommented():
    text = re.sub(r"(?m)^  # (?=house:|  )", "  ", SHIPPED_CATALOG.read_text(encoding="utf-8"))
    env = {"HOUSE_SPARE_API_KEY": "k"}
    found = catalog(text, env)
    assert found.models() == (ModelRef("house", "house-1"),)
    assert found.account("house") == "spare"
    assert isinstance(create(provider_config("house", found.providers["house"], env)), RestEndpoint)


def test_every_shipped_analysis_has_a_hop_at_every_provider():
    """So that any one key is enough for everything."""
    found = load_catalog(None, {})
    for name in load_analyses(offered=[]).names():
        hops = {hop.provider for hop in found.route(name).chain}
        assert hops == set(found.providers), name
