"""`assayline prompts`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from gateway.analyses.registry import load_analyses
from ops.cli import main


def run(*args):
    return CliRunner().invoke(main.app, ["prompts", *args])


def test_all_prompts_are_listed_with_their_variables():
    result = run()
    assert result.exit_code == 0
    heads = (line for line in result.stdout.splitlines()[1:] if not line.startswith(" "))
    lines = {line.split()[0]: line for line in heads}
    assert set(lines) == {f"{name}/v1" for name in load_analyses().names()}
    assert "content, labels" in lines["text_classification/v1"]
    assert "guidance" in lines["text_classification/v1"]


@pytest.mark.parametrize("which", ["skill_extraction", "skill_extraction/v1"])
def test_one_is_shown_as_it_is_written(which):
    result = run(which)
    assert result.stdout.startswith("---\nversion: v1\n")
    assert "{{ content }}" in result.stdout


def test_as_json_it_has_its_fingerprint():
    [document] = [json.loads(line) for line in run("completion", "--json").stdout.splitlines()]
    assert document["id"] == "completion/v1"
    assert document["optional"] == {"output_format": "text", "schema": None}
    assert len(document["fingerprint"]) == 64


@pytest.mark.parametrize(
    ("which", "said"), [("astrology", "no analysis 'astrology'"), ("completion/v9", "no version 'v9'")]
)
def test_one_that_is_not_there_is_exit_code_3(which, said):
    result = run(which)
    assert result.exit_code == 3
    assert said in result.stderr
