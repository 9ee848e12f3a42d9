"""`assayline exec`: a task in, a result out, over the wire with the real SDK and without any service of ours."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from ops.cli import main

TASK = {"task_id": "T-1", "title": "Slug", "description": "Write slug(text)."}
FIELDS = [
    *("status", "output", "error", "task_id", "agent", "provider", "model", "execution_time_seconds", "tokens_used"),
    *("prompt_tokens", "completion_tokens", "cost", "timestamp", "exit_code"),
]


@pytest.fixture
def execute(monkeypatch, llmock):
    """Run a task; the provider `openai` is the wire double, the others have no key."""
    for name in ("ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "OLLAMA_BASE_URL", "LLM_PROVIDER", "ASSAYLINE_LOCAL_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    monkeypatch.setenv("OPENAI_BASE_URL", llmock.base_url("openai"))

    def run(task, **env):
        given = task if isinstance(task, (str, bytes)) else json.dumps(task)
        result = CliRunner().invoke(main.app, ["exec"], input=given, env=env)
        document = json.loads(result.stdout)
        assert list(document) == FIELDS
        assert document["exit_code"] == result.exit_code
        assert (document["status"] == "success") is (result.exit_code == 0)
        return document

    return run


def test_a_task_is_done_with_its_tokens_and_cost(execute, llmock):
    llmock.reply("def slug(text): ...", times=None)
    done = execute({**TASK, "agent": "gpt-4", "deliverables": ["slug.py"], "success_criteria": ["no dependencies"]})
    assert (done["output"], done["task_id"], done["agent"], done["provider"]) == (
        "def slug(text): ...",
        "T-1",
        "gpt-4",
        "openai",
    )
    assert done["tokens_used"] == done["prompt_tokens"] + done["completion_tokens"] > 0
    assert done["cost"] > 0
    assert done["execution_time_seconds"] >= 0
    question = llmock.requests[-1].body["messages"][-1]["content"]
    assert question == ("Slug\n\nWrite slug(text).\n\nDeliverables:\n- slug.py\n\nSuccess criteria:\n- no dependencies")


def test_the_example_is_a_task(execute, llmock):
    llmock.reply("ok", times=None)
    printed = CliRunner().invoke(main.app, ["exec", "--example"])
    assert printed.exit_code == 0
    done = execute({**json.loads(printed.stdout), "agent": "openai"})
    assert done["output"] == "ok"


def test_a_provider_that_refuses_the_key_is_exit_code_1(execute, llmock):
    llmock.fail(status=401, times=None)
    done = execute({**TASK, "provider": "openai"})
    assert done["exit_code"] == 1
    assert done["error"].startswith("auth_rejected: ")
    assert "sk-test" not in json.dumps(done)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"description": None}, "description: Input should be a valid string"),
        ({"priority": 1}, "priority: Extra inputs are not permitted"),
        ({"max_tokens": 0}, "max_tokens: "),
        ({"temperature": 3}, "temperature: "),
        ({"agent": "hal-9000"}, "no provider 'hal-9000'; there are claude"),
        ({"agent": "gpt", "provider": "claude"}, "are not the same"),
        ({"provider": "openai", "model": "gpt-1"}, "model: no model 'gpt-1' at openai; it has gpt-6-luna"),
        ({"model": "gpt-1"}, "model: no configured provider has 'gpt-1'"),
        ({"title": ""}, "title: "),
    ],
)
def test_a_wrong_task_is_exit_code_3_and_names_the_field(execute, llmock, changes, said):
    done = execute({**TASK, **changes})
    assert done["exit_code"] == 3
    assert said in done["error"]
    assert done["task_id"] == "T-1"
    assert not llmock.requests


@pytest.mark.parametrize(("given", "said"), [("", "not one JSON"), ("[1]", "stdin: "), (b"\xff", "not one JSON")])
def test_what_is_no_task_at_all_is_exit_code_3(execute, given, said):
    done = execute(given)
    assert done["exit_code"] == 3
    assert said in done["error"]


def test_a_task_longer_than_a_mebibyte_is_refused(execute):
    assert "more than 1048576 bytes" in execute({**TASK, "description": "x" * 1_048_576})["error"]


@pytest.mark.parametrize("agent", ["claude-code", "gemini-pro", "meta-llama"])
def test_an_agent_that_is_not_configured_is_exit_code_2_and_names_its_variable(execute, agent):
    done = execute({**TASK, "agent": agent})
    assert done["exit_code"] == 2
    assert "is not configured: set " in done["error"]


def test_without_an_agent_the_chain_is_tried_in_order(execute, llmock, caplog):
    """The first provider cannot be reached; the second answers."""
    llmock.reply("from the second", times=None)
    done = execute(TASK, OLLAMA_BASE_URL="http://127.0.0.1:1", LLM_PROVIDER="ollama")
    assert (done["output"], done["provider"]) == ("from the second", "openai")
    assert "ollama/llama3.2: unreachable; asking openai/gpt-6-luna" in caplog.text


def test_what_is_no_unicode_is_told_in_jsons_own_escapes(execute):
    """Half an emoji; a model may say one in an answer that was paid for."""
    refused = execute({**TASK, "task_id": "T-\ud83d", "title": ""})
    assert (refused["exit_code"], refused["task_id"]) == (3, "T-\ud83d")


def test_a_model_alone_finds_its_provider(execute, llmock):
    llmock.reply("ok", times=None)
    execute({**TASK, "model": "gpt-6.1-terra"})
    assert llmock.requests[-1].body["model"] == "gpt-6.1-terra"
