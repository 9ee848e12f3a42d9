"""The catalog: what it says, and how it says what is wrong with it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.catalog import SHIPPED_CATALOG, Catalog, build_catalog, load_catalog
from gateway.errors import CatalogError, ConfigurationError, RequestError
from gateway.messages import ModelRef, Usage
from gateway.pricing import cost_usd, total_usd
from gateway.yaml_source import MAX_FILE_BYTES, parse_yaml

SMALL = """\
providers:
  one:
    dialect: fake
    key_env: ONE_KEY
    base_url_env: ONE_URL
    models:
      m:
        context_window: 100
        max_output_tokens: 10
        capabilities: [structured_output]
        price: {input_per_mtok_usd: "1.5", output_per_mtok_usd: "6"}
        source: a test
        checked: 2026-11-21
  two:
    dialect: fake
    models:
      n:
        context_window: 100
        max_output_tokens: 10
        capabilities: []
        price: null
        note: nobody knows
        source: a test
        checked: 2026-11-21
defaults:
  chain: [one/m, two/n]
analyses:
  skill_extraction:
    chain: [two/n]
    lane: interactive
"""
ONE_SET = {"ONE_KEY": "k", "ONE_URL": "http://127.0.0.1/v1"}


def small(text: str = SMALL, env: dict[str, str] | None = None) -> Catalog:
    return build_catalog(parse_yaml(text, "c.yaml", CatalogError), env or {})


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def test_the_shipped_catalog_is_valid_and_every_price_has_source_and_date():
    catalog = load_catalog(None, {})
    models = [entry for provider in catalog.providers.values() for entry in provider.models.values()]
    assert {"openai", "local", "fake"} <= set(catalog.providers)
    assert all(entry.source and entry.checked.year >= 2026 for entry in models)
    assert catalog.model(ModelRef("local", "smollm2-135m")).context_window == 8192


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, set()),
        ({"OPENAI_API_KEY": "k"}, {"openai"}),
        ({"OPENAI_BASE_URL": "http://x"}, set()),
        ({"ASSAYLINE_LOCAL_BASE_URL": "http://127.0.0.1:1/v1"}, {"local"}),
        ({"ASSAYLINE_FAKE": "1"}, {"fake"}),
        ({"ASSAYLINE_FAKE": "0"}, set()),
    ],
)
def test_a_shipped_provider_is_configured_by_its_variables(env, expected):
    assert set(load_catalog(None, env).configured(env)) == expected


def test_a_key_file_configures_a_provider(tmp_path):
    key = tmp_path / "key"
    key.write_text("k")
    env = {"OPENAI_API_KEY_FILE": str(key)}
    assert set(load_catalog(None, env).configured(env)) == {"openai"}


def test_what_is_missing_is_named():
    assert small().providers["one"].missing({"ONE_KEY": "k"}) == ("ONE_URL",)
    assert small().providers["two"].missing({}) == ()


def test_the_environments_url_wins_over_the_catalogs():
    openai = load_catalog(None, {}).providers["openai"]
    assert openai.url({}) == "https://api.openai.com/v1"
    assert openai.url({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}) == "http://127.0.0.1:9/v1"


def test_queues_are_the_configured_providers_lanes():
    assert small().queues() == ("two.interactive", "two.bulk")
    assert small(env=ONE_SET).queues() == ("one.interactive", "one.bulk", "two.interactive", "two.bulk")


def test_a_chain_is_its_configured_hops_in_order():
    assert small().chain("anything") == (ModelRef("two", "n"),)
    assert small(env=ONE_SET).chain("anything") == (ModelRef("one", "m"), ModelRef("two", "n"))
    assert small(env=ONE_SET).chain("skill_extraction") == (ModelRef("two", "n"),)


def test_llm_provider_moves_its_hop_to_the_front_and_fallbacks_order_the_rest():
    env = {"ASSAYLINE_FAKE": "1", "OPENAI_API_KEY": "k", "ASSAYLINE_LOCAL_BASE_URL": "http://x"}
    order = [hop.provider for hop in load_catalog(None, env).chain("code_quality")]
    assert order == ["openai", "local", "fake"]
    env |= {"LLM_PROVIDER": "fake", "LLM_FALLBACK_PROVIDERS": "local"}
    order = [hop.provider for hop in load_catalog(None, env).chain("code_quality")]
    assert order == ["fake", "local", "openai"]


def test_an_unknown_preferred_provider_is_refused_with_those_there_are():
    with pytest.raises(ConfigurationError, match=r"LLM_PROVIDER.*'claude'.*one, two"):
        small(env={"LLM_PROVIDER": "claude"})


def test_an_analysis_without_a_configured_hop_is_shown_not_fatal():
    catalog = load_catalog(None, {})
    assert catalog.unrunnable(["skill_extraction"]) == ("skill_extraction",)
    assert small().unrunnable(["skill_extraction"]) == ()


def test_an_entry_for_no_analysis_is_refused_with_its_line():
    with pytest.raises(
        CatalogError, match=rf"c\.yaml:{line_of(SMALL, 'skill_extraction')}: analyses\.skill_extraction"
    ):
        small().check_analyses(["code_quality"])
    small().check_analyses(["skill_extraction"])


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("    dialect: fake\n    key_env", "    dialekt: fake\n    key_env", "providers.one.dialekt"),
        ("context_window: 100", "context_window: many", "providers.one.models.m.context_window"),
        ("max_output_tokens: 10", "max_output_tokens: 1000", "providers.one.models.m"),
        ("input_per_mtok_usd: ", "input_per_mtok: ", "providers.one.models.m.price.input_per_mtok"),
        ('"1.5"', '"-1"', "providers.one.models.m.price.input_per_mtok_usd"),
        ("note: nobody knows", "note: null", "providers.two.models.n"),
        ("[structured_output]", "[telepathy]", "providers.one.models.m.capabilities.0"),
        ("chain: [two/n]", "chain: [two/zzz]", "analyses.skill_extraction.chain.0"),
        ("chain: [two/n]", "chain: [three/n]", "analyses.skill_extraction.chain.0"),
        ("chain: [two/n]", "chain: [two]", "analyses.skill_extraction.chain.0"),
        ("chain: [two/n]", "chain: []", "analyses.skill_extraction.chain"),
        ("lane: interactive", "lane: express", "analyses.skill_extraction.lane"),
        ("checked: 2026-11-21", "checked: soon", "providers.one.models.m.checked"),
    ],
)
def test_an_error_names_file_line_and_key(old, new, key):
    text = SMALL.replace(old, new, 1)
    changed = next(
        number for number, (a, b) in enumerate(zip(SMALL.splitlines(), text.splitlines(), strict=True), 1) if a != b
    )
    with pytest.raises(CatalogError) as caught:
        small(text)
    message = str(caught.value)
    assert f"{key}:" in message
    place = message[: message.index(f": {key}:")].rsplit("; ", 1)[-1]
    line = int(place.removeprefix("c.yaml:"))
    # A rule between two keys (a missing note, a window too small) is reported at their parent.
    parent = line_of(text, key.rsplit(".", 1)[-1] + ":") if key.endswith((".m", ".n")) else changed
    assert line == parent


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "c.yaml:4: b.c: stands twice, first in line 3"),
        ("a: &x 1\nb: *x\n", "c.yaml:2: aliases (*x) are not supported"),
        ("a: [1, 2\n", "not YAML"),
        ("1: 2\n", "c.yaml:1: 1: a key is text"),
        ("", "c.yaml:1: the file:"),
        ("- 1\n", "c.yaml:1: the file:"),
        ("a: !!python/object/apply:os.getcwd []\n", "not YAML"),
        ("a: \x00", "not YAML"),
    ],
)
def test_what_is_no_catalog_at_all(text, message):
    with pytest.raises(CatalogError) as caught:
        small(text)
    assert message in str(caught.value)


def test_deep_nesting_is_an_error_not_a_crash():
    with pytest.raises(CatalogError, match="nested deeper"):
        small("[" * 5_000 + "]" * 5_000)


def test_many_findings_are_counted_not_poured_out():
    with pytest.raises(CatalogError, match=r"and [0-9]+ more"):
        small("providers: {a: {}, b: {}, c: {}}\n")


def test_files_that_cannot_be_the_catalog(tmp_path):
    with pytest.raises(CatalogError, match="cannot be read"):
        load_catalog(tmp_path / "none.yaml", {})
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(CatalogError, match="longer than"):
        load_catalog(huge, {})


def test_a_users_file_replaces_the_shipped_one(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(SMALL)
    assert set(load_catalog(mine, {}).providers) == {"one", "two"}


def test_an_unknown_model_is_the_requests_fault():
    with pytest.raises(RequestError, match="three"):
        small().model(ModelRef("three", "m"))
    with pytest.raises(RequestError, match="it has m"):
        small().model(ModelRef("one", "z"))


def test_a_catalog_is_frozen():
    with pytest.raises(ValidationError):
        small().defaults = small().route("x")


def test_cost_counts_cached_tokens_at_their_own_rate():
    mini = load_catalog(None, {}).model(ModelRef("openai", "gpt-5.4-mini"))
    usage = Usage(input_tokens=1_000_000, output_tokens=100_000, cached_tokens=400_000)
    assert cost_usd(mini, usage) == Decimal("0.6") * Decimal("0.75") + Decimal("0.4") * Decimal("0.075") + Decimal(
        "0.45"
    )


def test_cached_tokens_without_a_rate_cost_what_input_costs():
    model = small().model(ModelRef("one", "m"))
    assert cost_usd(model, Usage(1_000_000, 0, cached_tokens=1_000_000)) == Decimal("1.5")


def test_a_long_call_costs_the_long_rates_from_the_first_token_on():
    model = load_catalog(None, {}).model(ModelRef("openai", "gpt-5.4"))
    assert cost_usd(model, Usage(272_000, 0)) == Decimal("0.68")
    assert cost_usd(model, Usage(272_001, 0)) == Decimal("1.360005")


def test_unknown_is_none_and_stays_none_in_a_sum():
    catalog = small()
    assert cost_usd(catalog.model(ModelRef("two", "n")), Usage(1, 1)) is None
    assert cost_usd(catalog.model(ModelRef("one", "m")), None) is None
    assert total_usd([Decimal(1), None]) is None
    assert total_usd([Decimal(1), Decimal(2)]) == Decimal(3)


def test_tenants_have_weights_and_all_others_one(tmp_path: Path) -> None:
    text = SHIPPED_CATALOG.read_text(encoding="utf-8")
    path = tmp_path / "catalog.yaml"
    path.write_text(text + "\ntenants: {acme: {weight: 3}, zeta: {}}\n", encoding="utf-8")
    assert load_catalog(path, {}).weights() == {"acme": 3, "zeta": 1}
    for wrong in ("{acme: {weight: 0}}", "{acme: {weight: 1001}}", "{acme: {wait: 3}}", "{'': {weight: 3}}"):
        path.write_text(f"{text}\ntenants: {wrong}\n", encoding="utf-8")
        with pytest.raises(CatalogError, match="tenants"):
            load_catalog(path, {})
