"""Programs as providers: real ones, of every kind that a program can be, and none of their children left behind."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import textwrap

import pytest
import uvloop

from gateway.errors import (
    AuthRejected,
    ConfigurationError,
    ContentRefused,
    InvalidRequest,
    MalformedCompletion,
    OutputTruncated,
    Overloaded,
    ServerError,
    Throttled,
    Timeout,
)
from gateway.messages import Message, Usage

GOOD = {
    "output": "hello",
    "finish_reason": "stop",
    "usage": {"input_tokens": 20, "output_tokens": 7, "cached_tokens": 3},
    "model": "served",
    "request_id": "r-1",
}
SAY = "import json, sys\nasked = json.loads(sys.stdin.read())\n"
HANG_GUARD_S = 20.0


@pytest.fixture
def program(tmp_path, build):
    """A provider that runs this Python code; options by keyword."""

    def make(code, **options):
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(code))
        argv = [sys.executable, "-S", "-E", str(path)]
        return build(dialect="command", base_url=None, options={"argv": argv, **options})

    return make


def says(value):
    return f"{SAY}print({json.dumps(json.dumps(value))})"


async def gone(pid):
    """Return once a process is no more (or a zombie that its own parent has not collected)."""
    async with asyncio.timeout(HANG_GUARD_S):
        while True:
            try:
                os.kill(pid, 0)
                with open(f"/proc/{pid}/stat") as stat:  # noqa: ASYNC230, PTH123
                    if stat.read().rpartition(")")[2].split()[0] == "Z":
                        return
            except (ProcessLookupError, FileNotFoundError):
                return
            await asyncio.sleep(0.01)


# The question and the answer


async def test_the_question_is_one_json_object_on_stdin(program, ask):
    provider = program(f"{SAY}print(json.dumps({GOOD!r} | {{'output': json.dumps(asked)}}))")
    completion = await provider.complete(ask(temperature=0.5, schema={"type": "object"}, extra_body={"seed": 7}))
    assert json.loads(completion.text) == {
        "seed": 7,
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Say hello."}],
        "max_tokens": 100,
        "temperature": 0.5,
        "schema": {"type": "object"},
        "schema_name": "result",
    }


async def test_the_answer_is_one_json_object_on_stdout(program, ask):
    completion = await program(says(GOOD)).complete(ask())
    assert (completion.text, completion.model, completion.provider_request_id) == ("hello", "served", "r-1")
    assert completion.usage == Usage(20, 7, 3)


async def test_a_program_sees_nothing_of_the_workers_environment_but_what_it_is_given(
    tmp_path, build, ask, monkeypatch
):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "of-the-worker")
    monkeypatch.setenv("ASSAYLINE_DATABASE_URL", "of-the-worker")
    path = tmp_path / "program.py"
    path.write_text(f"import os\n{SAY}print(json.dumps({GOOD!r} | {{'output': json.dumps(dict(os.environ))}}))")
    options = {"argv": [sys.executable, str(path)], "env": {"MODE": "quick"}, "key_variable": "THE_KEY"}
    completion = await build(dialect="command", base_url=None, api_key="mine", options=options).complete(ask())
    seen = json.loads(completion.text)
    assert (seen["MODE"], seen["THE_KEY"]) == ("quick", "mine")
    assert "of-the-worker" not in completion.text


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (GOOD | {"finish_reason": "length"}, OutputTruncated),
        (GOOD | {"finish_reason": "refusal"}, ContentRefused),
        (GOOD | {"finish_reason": "tired"}, MalformedCompletion),
        (GOOD | {"usage": None}, MalformedCompletion),
        (GOOD | {"usage": {"input_tokens": 1, "output_tokens": -1}}, MalformedCompletion),
        (GOOD | {"output": None}, MalformedCompletion),
        ([], MalformedCompletion),
        ({"error": {"kind": "throttled", "message": "slow", "retry_after_s": 7}}, Throttled),
        ({"error": {"kind": "overloaded", "message": "busy"}}, Overloaded),
        ({"error": {"kind": "what", "message": "?"}}, ServerError),
        ({"error": "plain words"}, ServerError),
    ],
)
async def test_what_a_program_may_say(program, ask, said, expected):
    with pytest.raises(expected) as caught:
        await program(says(said)).complete(ask())
    assert type(caught.value) is expected
    if expected is Throttled:
        assert (str(caught.value), caught.value.retry_after_s) == ("slow", 7)


@pytest.mark.parametrize(
    ("code", "expected"),
    [(1, ServerError), (2, AuthRejected), (3, InvalidRequest), (77, ServerError)],
)
async def test_exit_codes_and_the_end_of_stderr(program, ask, code, expected):
    provider = program(f"{SAY}sys.stderr.write('x' * 5000 + 'the cause')\nsys.exit({code})")
    with pytest.raises(expected, match=f"exit code {code}: ") as caught:
        await provider.complete(ask())
    assert type(caught.value) is expected


async def test_a_key_that_a_program_prints_is_cut_out(tmp_path, build, ask):
    path = tmp_path / "program.py"
    path.write_text("import os, sys\nsys.exit('bad key ' + os.environ['K'])")
    options = {"argv": [sys.executable, str(path)], "key_variable": "K"}
    with pytest.raises(ServerError) as caught:
        await build(dialect="command", base_url=None, api_key="very-secret-key", options=options).complete(ask())
    assert str(caught.value) == "exit code 1: bad key [key]"


@pytest.mark.parametrize("output", ["''", "'no json'", r"'\xff'", "'{}{}'", "'{} {}'"])
async def test_what_is_not_one_json_object_is_malformed(program, ask, output):
    with pytest.raises(MalformedCompletion):
        await program(f"{SAY}sys.stdout.buffer.write({output}.encode('latin-1'))").complete(ask())


# Programs that do not behave


async def test_one_that_never_reads_and_answers_at_once(program, ask):
    """A question larger than a pipe holds."""
    provider = program(f"import json\nprint(json.dumps({GOOD!r}))")
    completion = await provider.complete(ask(messages=(Message("user", "x" * 1_000_000),)))
    assert completion.text == "hello"


async def test_one_that_writes_without_end_is_ended(program, ask):
    provider = program("import sys\nwhile True: sys.stdout.write('x' * 4096)", max_output_bytes=100_000)
    with pytest.raises(MalformedCompletion, match="more than 100000 bytes"):
        await provider.complete(ask())


CHILDREN = """
import json, os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-E", "-c", "import time; time.sleep(600)"])
with open({report!r}, "w") as report:
    report.write(f"{{os.getpid()}} {{child.pid}}")
os.rename({report!r}, {report!r} + ".done")
{then}
"""


async def reported(path):
    async with asyncio.timeout(HANG_GUARD_S):
        while not os.path.exists(f"{path}.done"):  # noqa: ASYNC110, ASYNC240, PTH110
            await asyncio.sleep(0.01)
    with open(f"{path}.done") as report:  # noqa: ASYNC230, PTH123
        return [int(pid) for pid in report.read().split()]


async def test_at_the_deadline_the_program_and_its_children_are_ended(program, ask, tmp_path):
    report = str(tmp_path / "pids")
    provider = program(CHILDREN.format(report=report, then="time.sleep(600)"))
    with pytest.raises(Timeout, match="the program was ended"):
        await provider.complete(ask(timeout_s=1.0))
    for pid in await reported(report):
        await gone(pid)


def test_the_same_under_the_workers_loop(program, ask, tmp_path):
    """It has its own way with processes."""
    report = str(tmp_path / "pids")

    async def through() -> None:
        assert (await program(says(GOOD)).complete(ask())).text == "hello"
        with pytest.raises(Timeout):
            await program(CHILDREN.format(report=report, then="time.sleep(600)")).complete(ask(timeout_s=1.0))
        for pid in await reported(report):
            await gone(pid)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(through())


async def test_one_that_will_not_go_is_killed(program, ask, tmp_path):
    report = str(tmp_path / "pids")
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)"
    with pytest.raises(Timeout):
        await program(CHILDREN.format(report=report, then=deaf)).complete(ask(timeout_s=1.0))
    for pid in await reported(report):
        await gone(pid)


async def test_cancelled_it_takes_its_children_along(program, ask, tmp_path):
    report = str(tmp_path / "pids")
    provider = program(CHILDREN.format(report=report, then="time.sleep(600)"))
    call = asyncio.create_task(provider.complete(ask()))
    pids = await reported(report)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    for pid in pids:
        await gone(pid)


async def test_a_child_that_holds_stdout_open_does_not_hold_us_and_is_ended(program, ask, tmp_path):
    report = str(tmp_path / "pids")
    then = f"print(json.dumps({GOOD!r}), flush=True)"
    completion = await program(CHILDREN.format(report=report, then=then)).complete(ask())
    assert completion.text == "hello"
    _, child = await reported(report)
    await gone(child)


async def test_a_program_that_cannot_be_run(build, ask, tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("no program")
    with pytest.raises(ConfigurationError, match="no program"):
        build(dialect="command", base_url=None, options={"argv": [str(plain)]})
    script = tmp_path / "script"
    script.write_text("#!/nowhere\n")
    script.chmod(0o700)
    provider = build(dialect="command", base_url=None, options={"argv": [str(script)]})
    with pytest.raises(ServerError, match="cannot be run"):
        await provider.complete(ask())


async def test_a_stream_is_the_whole_answer_in_one_piece(program, ask):
    provider = program(says(GOOD))
    assert [piece async for piece in provider.stream(ask())] == ["hello"]
    assert provider.capabilities.streaming is False


async def test_is_available_runs_the_check(program):
    assert await program(says(GOOD)).is_available()
    assert await program(says(GOOD), check=["-c", "raise SystemExit(0)"]).is_available()
    assert not await program(says(GOOD), check=["-c", "raise SystemExit(1)"]).is_available()


@pytest.mark.parametrize(
    "options",
    [{}, {"argv": []}, {"argv": "ls"}, {"argv": ["ls"], "shell": True}, {"argv": ["ls"], "max_output_bytes": 0}],
)
def test_wrong_options_are_refused(build, options):
    with pytest.raises(ConfigurationError, match="option"):
        build(dialect="command", base_url=None, options=options)


async def test_what_is_no_text_is_refused_before_the_program_runs(program, ask, tmp_path):
    provider = program(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InvalidRequest):
        await provider.complete(ask(messages=(Message("user", "\ud800"),)))
    assert not (tmp_path / "ran").exists()
