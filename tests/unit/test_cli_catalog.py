"""`assayline providers` and `assayline models`."""

from __future__ import annotations

import json
import os

import pytest
from typer.testing import CliRunner

from ops.cli import main

VARIABLES = (
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "GOOGLE_API_KEY",
    "OLLAMA_BASE_URL",
    "ASSAYLINE_FAKE",
    "LLM_PROVIDER",
)


@pytest.fixture
def cli(monkeypatch):
    for name in (*VARIABLES, "CLAUDE_MODEL", "OLLAMA_MODEL", "ASSAYLINE_CATALOG", "ASSAYLINE_LOCAL_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return lambda *args, **env: CliRunner().invoke(main.app, list(args), env=env)


def documents(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_providers_says_what_each_still_needs(cli):
    result = cli("providers", OPENAI_API_KEY="k-secret")
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert "configured" in lines["openai"]
    assert "set ANTHROPIC_API_KEY" in lines["claude"]
    assert "k-secret" not in result.output


def test_with_none_configured_it_is_exit_code_2(cli):
    result = cli("providers")
    assert result.exit_code == 2
    assert "none is configured" in result.stderr


def test_providers_as_json_has_url_account_and_limits(cli):
    result = cli("providers", "--json", ANTHROPIC_API_KEY="k", CLAUDE_MODEL="claude-opus-5-5")
    claude = documents(result)[0]
    assert claude["provider"] == "claude"
    assert claude["configured"] is True
    assert claude["limits"] == {"default": {"requests_per_min": 50, "input_tokens_per_min": 100_000}}
    assert claude["chosen_model"] == "claude-opus-5-5"


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_url_is_shown_without_what_is_secret_in_it(cli, as_json):
    url = "https://user:p%40ss@proxy.example/v1/@x?key=hidden#hidden"
    shown = cli("providers", *as_json, OPENAI_API_KEY="k", OPENAI_BASE_URL=url).output
    assert "https://proxy.example/v1/@x" in shown
    assert not any(secret in shown for secret in ("user", "p%40ss", "hidden"))


def test_the_local_model_of_a_running_up_is_configured(cli, tmp_path):
    (tmp_path / "up.lock").write_text(str(os.getpid()))
    (tmp_path / "env").write_text("export ASSAYLINE_LOCAL_BASE_URL='http://127.0.0.1:1/v1'\n")
    result = cli("providers", "--json", f"--dir={tmp_path}")
    assert result.exit_code == 0
    assert [row["provider"] for row in documents(result) if row["configured"]] == ["local"]
    [model] = documents(cli("models", "local", "--json", f"--dir={tmp_path}"))
    assert model["configured"] is True


def test_a_warning_goes_to_stderr(cli):
    result = cli("providers", "--json", OPENAI_API_KEY="k", LLM_PROVIDER="gemini")
    assert "name gemini, which needs GOOGLE_API_KEY" in result.stderr
    assert all(documents(result))


def test_models_shows_window_price_use_and_end(cli):
    result = cli("models", "claude", ANTHROPIC_API_KEY="k")
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert lines["claude/claude-haiku-5-5"].split()[1:6] == ["1M", "128k", "0.1", "0.01", "0.5"]
    assert "text_classification (1)" in lines["claude/claude-haiku-5-5"]
    assert "2026-11-30, then claude-sonnet-5-5" in lines["claude/claude-sonnet-4-5"]


def test_models_as_json_has_everything_the_catalog_says(cli):
    result = cli("models", "gemini", "--json")
    flash = {row["model"]: row for row in documents(result)}["gemini/gemini-3.8-flash"]
    assert flash["price"]["input_per_mtok_usd"] == "0.75"
    assert flash["price_changes"][0]["since"] == "2027-01-01"
    assert flash["source"]
    assert flash["configured"] is False


def test_a_model_that_a_variable_names_is_listed(cli):
    result = cli("models", "ollama", OLLAMA_BASE_URL="http://127.0.0.1:1", OLLAMA_MODEL="qwen3:4b")
    assert "ollama/qwen3:4b" in result.stdout


def test_an_unknown_provider_is_exit_code_3_with_those_there_are(cli):
    result = cli("models", "grok")
    assert result.exit_code == 3
    assert "claude, openai, gemini" in result.stderr
