"""docker-compose.yml: a valid compose file, and every command in it one that runs and is found healthy."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.catalog import load_catalog
from ops.supervisor import ports
from workers.departure import KILLED_AFTER_S

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "ops" / "docker" / "Dockerfile").read_text()
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if "assayline" in service.get("image", "")}
LASTING = [name for name in OURS if name != "migrate"]
DEADLINE_S = 60.0

_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?+])([^}]*))?\}")


def interpolated(value: str, given: dict[str, str]) -> str:
    """What compose makes of `${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `${NAME:+other}`."""

    def one(match: re.Match[str]) -> str:
        name, kind, rest = match[1], match[2], match[3] or ""
        found = given.get(name, "")
        if kind == "+":
            return rest if found else ""
        assert found or kind != "?", f"{name}: {rest}"
        return found or (rest if kind == "-" else "")

    return _VARIABLE.sub(one, value)


def test_it_keeps_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_there_is_a_worker_service_for_each_real_provider_behind_a_profile_of_its_name() -> None:
    providers = [name for name, entry in load_catalog(None, {}).providers.items() if entry.dialect != "fake"]
    for name in providers:
        worker = OURS[f"worker-{name}"]
        assert worker["command"] == ["worker", f"--provider={name}", "--health-port=9100"]
        assert worker["profiles"] == [name]
        assert worker["stop_grace_period"] == f"{KILLED_AFTER_S:g}s"


def test_every_variable_of_the_catalog_reaches_every_process() -> None:
    entries = load_catalog(None, {}).providers.values()
    named = {
        variable
        for entry in entries
        if entry.dialect != "fake"
        for variable in (entry.key_env, entry.base_url_env, entry.model_env)
        if variable
    }
    for name, service in OURS.items():
        assert named <= service["environment"].keys(), name


def test_every_variable_of_the_example_is_taken() -> None:
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", (ROOT / ".env.example").read_text()))
    elsewhere = {
        "NAME_FILE",
        "COMPOSE_PROFILES",
        "ASSAYLINE_DATABASE_URL",
        "ASSAYLINE_REDIS_URL",
    }
    taken = {match[1] for match in _VARIABLE.finditer(COMPOSE.read_text())}
    assert named - elsewhere <= taken


def test_a_catalog_of_ones_own_lies_where_each_process_looks_for_it() -> None:
    given = {"POSTGRES_PASSWORD": "p", "REDIS_PASSWORD": "r", "ASSAYLINE_CATALOG": "./mine.yaml"}
    for name, service in OURS.items():
        place = interpolated(service["environment"]["ASSAYLINE_CATALOG"], given)
        assert f"./mine.yaml:{place}:ro" in [interpolated(volume, given) for volume in service["volumes"]], name
        assert interpolated(service["environment"]["ASSAYLINE_CATALOG"], {}) == ""


def test_secrets_have_no_default() -> None:
    text = COMPOSE.read_text()
    for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "ASSAYLINE_API_KEY", "FLOWER_PASSWORD"):
        assert f"${{{name}:?" in text
        assert f"${{{name}:-" not in text


def test_only_loopback_is_published() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_processes_have_no_rights_they_do_not_need() -> None:
    for name, service in OURS.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert DOCKERFILE.count("\nHEALTHCHECK ") == 1


def test_the_image_gets_everything_that_a_wheel_holds() -> None:
    words = {word for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()}
    wheel = re.search(r"only-include = \[(.*)\]", (ROOT / "pyproject.toml").read_text())
    assert wheel is not None
    assert set(re.findall(r'"([^"]+)"', wheel[1])) <= words
    ignored = (ROOT / ".dockerignore").read_text()
    assert all(f"!{name}\n" in ignored for name in re.findall(r'"([^"]+)"', wheel[1]))


@pytest.fixture
def environment(tmp_path: Path, database_url: str, redis_url: str) -> dict[str, str]:
    """What the containers get, with this test's stores in place of theirs and a key for every provider."""
    given = {
        "POSTGRES_PASSWORD": "p",
        "REDIS_PASSWORD": "r",
        "ANTHROPIC_API_KEY": "test-key",
        "OPENAI_API_KEY": "test-key",
        "GOOGLE_API_KEY": "test-key",
        "OLLAMA_BASE_URL": "http://127.0.0.1:1",
        "ASSAYLINE_LOCAL_BASE_URL": "http://127.0.0.1:1/v1",
        "ASSAYLINE_API_KEY": "0123456789abcdef-of-a-test",
        "FLOWER_PASSWORD": "of-a-test",
    }
    ours = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    for service in OURS.values():
        ours |= {name: interpolated(value, given) for name, value in service["environment"].items()}
    return ours | {"ASSAYLINE_DATABASE_URL": database_url, "ASSAYLINE_REDIS_URL": redis_url}


def on_this_machine(words: list[str], tmp_path: Path, free: dict[str, int]) -> list[str]:
    """A command of the file with its places changed: loopback for all addresses, free ports, a directory of ours."""
    changed = []
    for word in words:
        word = word.replace("0.0.0.0", "127.0.0.1").replace("/tmp/", f"{tmp_path}/")
        changed.append(re.sub(r"port=(\d+)", lambda port: f"port={free[port[1]]}", word))
    return changed


def test_each_command_runs_as_a_process_and_is_found_healthy(environment: dict[str, str], tmp_path: Path) -> None:
    api, flower, *health = ports.several(2 + len(OURS))
    free = {name: {"8000": api, "5555": flower, "9100": own} for name, own in zip(OURS, health, strict=True)}

    def command(name: str) -> list[str]:
        service = OURS[name]
        words = [*service.get("entrypoint", ["assayline"]), *service["command"]]
        return on_this_machine(words, tmp_path, free[name])

    subprocess.run(command("migrate"), env=environment, cwd=tmp_path, check=True, capture_output=True)
    running: dict[str, subprocess.Popen[bytes]] = {}
    with ExitStack() as stack:
        for name in LASTING:
            process = subprocess.Popen(command(name), env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL)
            running[name] = stack.enter_context(process)
            stack.callback(process.kill)
        waiting = [name for name in LASTING if "healthcheck" in OURS[name]]
        give_up_at = time.monotonic() + DEADLINE_S
        while waiting:
            assert time.monotonic() < give_up_at, f"not healthy: {waiting}"
            ended = {name: process.poll() for name, process in running.items() if process.poll() is not None}
            assert not ended, ended
            waiting = [name for name in waiting if not healthy(OURS[name], environment, tmp_path, free[name])]
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        assert {name: process.wait(DEADLINE_S) for name, process in running.items()} == dict.fromkeys(LASTING, 0)


def healthy(service: dict[str, Any], environment: dict[str, str], tmp_path: Path, free: dict[str, int]) -> bool:
    kind, *check = service["healthcheck"]["test"]
    assert kind == "CMD"
    check = on_this_machine(check, tmp_path, free)
    if check[-1] == "api":
        check.append(f"--url=http://127.0.0.1:{free['8000']}")
    return subprocess.run(check, env=environment, cwd=tmp_path, capture_output=True, check=False).returncode == 0
