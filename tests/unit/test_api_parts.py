"""The API's parts without servers: its names are the producer's, its JSON is strict, its problems are tidy."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from dataclasses import fields as fields_of
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.door import checked
from api.key import api_key
from api.limits import MAX_BODY_BYTES
from api.problems import INVALID, KINDS, URN, Problem, found_invalid, tidy
from api.requests import JobRequest
from api.server import Address, bound
from api.strict_json import read_object
from gateway.analyses.registry import load_analyses
from gateway.errors import ConfigurationError
from ops.cli.doctor import installation
from ops.cli.doctor.finding import Verdict
from tasks.producer.jobs import Job, JobFields

KEY = "0123456789abcdef"
SOON_S = 10.0
"""Ten times what reading the longest body takes."""


def test_a_request_has_the_fields_of_a_job() -> None:
    names = {field.alias or name for name, field in JobRequest.model_fields.items()}
    assert names == {field.name for field in fields_of(Job)} == {"analysis", "content", *JobFields.__annotations__}


def test_a_request_becomes_the_job_it_says() -> None:
    said = {"analysis": "a", "content": "c", "schema": {"x": 1}, "messages": [{"role": "user", "content": "hi"}]}
    assert JobRequest.model_validate(said).job("key") == Job(**said, idempotency_key="key")  # type: ignore[arg-type]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), PLAIN, max_size=5), st.booleans())
def test_whatever_json_says_is_read(value: dict[str, Any], escaped: bool) -> None:
    assert read_object(json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")) == value


@given(st.binary(max_size=200) | st.text('{}[]":,\\u0de1.-9 \n').map(str.encode))
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    with suppress(Problem):
        read_object(body)


def test_a_name_that_is_there_twice_is_found_in_a_body_of_full_length() -> None:
    """In one pass: the process serves nobody while it reads, and comparing each name with each takes its square."""
    names = [f'"n{number}":1' for number in range(MAX_BODY_BYTES // 13)]
    body = f"{{{','.join([*names, names[-1]])}}}".encode()
    assert len(body) < MAX_BODY_BYTES
    began = time.process_time()
    with pytest.raises(Problem) as caught:
        read_object(body)
    assert caught.value.errors == ((f"n{len(names) - 1}", "is there twice"),)
    assert time.process_time() - began < SOON_S


@given(st.text())
def test_a_tidied_text_can_be_printed(text: str) -> None:
    assert tidy(text).isprintable()
    assert tidy(text).encode().decode() == tidy(text)


def test_a_problem_is_bounded() -> None:
    findings = [{"loc": ("tags", number), "msg": "x" * 2_000} for number in range(1_000)]
    body = found_invalid(findings).response("/v1/jobs", "id").body
    assert len(body) < 20_000
    assert json.loads(bytes(body))["errors"][1]["field"] == "tags[1]"


def test_kinds_have_names_of_their_own() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert INVALID.type == f"{URN}invalid"


@pytest.mark.parametrize("key", ["", KEY[:-1], f"{KEY} x", f"{KEY}\u00e4", "x" * 513])
def test_a_weak_key_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        api_key({"ASSAYLINE_API_KEY": key})
    assert not key or key not in str(caught.value)
    assert api_key({"ASSAYLINE_API_KEY": KEY}) == KEY


def test_a_taken_port_and_a_foreign_address_are_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port}"):
            bound(Address(port=port))
    for host in ("198.51.100.1", "x" * 64):
        with pytest.raises(ConfigurationError, match=f"cannot listen at {host}"):
            bound(Address(host, 0))


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_beyond_loopback_there_is_a_warning(host: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    bound(Address(host, 0)).close()
    assert ("beyond loopback" in caplog.text) is warned


@pytest.mark.parametrize(
    ("env", "verdict"),
    [({}, Verdict.NOTED), ({"ASSAYLINE_API_KEY": "short"}, Verdict.WRONG), ({"ASSAYLINE_API_KEY": KEY}, Verdict.GOOD)],
)
def test_doctor_looks_at_the_key(env: dict[str, str], verdict: Verdict) -> None:
    finding = installation.api(env)
    assert finding.verdict is verdict
    assert KEY not in finding.said


@pytest.mark.parametrize("name", load_analyses().names())
def test_the_door_takes_every_shipped_example(name: str) -> None:
    registry = load_analyses()
    example = registry.get(name).analysis.example
    if example is not None:
        said = {"analysis": name, "content": example.content.read_text(), "context": dict(example.context)}
        assert checked(JobRequest.model_validate(json.loads(json.dumps(said))), None, registry).analysis == name
