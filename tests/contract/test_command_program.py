"""Programs as providers: real ones, of every kind that a program can be, and none of their children left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import textwrap
import threading

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
from gateway.limits.told import ToldLimits
from gateway.messages import Message, Usage
from gateway.providers.command import process

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


WITNESSED = """
import json, os, signal, socket, subprocess, sys, time
seen = socket.create_connection(("127.0.0.1", {port}))
os.set_inheritable(seen.fileno(), True)
def child(*code, **how):
    return subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", "; ".join([*code, "import time", "time.sleep(600)"])], close_fds=False, **how
    )
def ready(*children):
    seen.sendall(b"%s\\n" % json.dumps([os.getpid(), *(one.pid for one in children)]).encode())
"""
"""What a program begins with that is watched: its children inherit the connection."""


class Witness:
    """Sees when a program is ready, and when the last of those who hold its connection is gone: no pid to poll."""

    def __init__(self):
        self._met = asyncio.get_running_loop().create_future()

    async def meet(self, reader, writer):
        self._met.set_result((reader, writer))

    async def ready(self):
        """Return the pids of the program and its children, once it says that it is ready."""
        async with asyncio.timeout(HANG_GUARD_S):
            reader, _ = await self._met
            return json.loads(await reader.readline())

    async def tell(self):
        """Let a program go on that waits for it."""
        (await self._met)[1].write(b"go\n")

    async def all_gone(self):
        async with asyncio.timeout(HANG_GUARD_S):
            reader, writer = await self._met
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()

    async def leave(self):
        if self._met.done():
            self._met.result()[1].close()


@contextlib.asynccontextmanager
async def witnessing():
    witness = Witness()
    async with await asyncio.start_server(witness.meet, "127.0.0.1", 0) as server:
        yield witness, WITNESSED.replace("{port}", str(server.sockets[0].getsockname()[1]))
        await witness.leave()


@pytest.fixture
async def watched(program):
    """A provider of a program that a witness sees, and the witness."""
    async with witnessing() as (witness, begins):
        yield lambda code, **options: (program(begins + textwrap.dedent(code), **options), witness)


async def open_files():
    """Count them once the transports' last callbacks have run."""
    for _ in range(3):
        await asyncio.sleep(0)
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


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
        ({"error": {"kind": "overloaded", "message": "busy"}}, Overloaded),
        ({"error": {"kind": "what", "message": "?"}}, ServerError),
        ({"error": "plain words"}, ServerError),
        ({"error": {"kind": "output_truncated", "message": "cut"}}, OutputTruncated),
    ],
)
async def test_what_a_program_may_say(program, ask, said, expected):
    with pytest.raises(expected) as caught:
        await program(says(said)).complete(ask())
    assert type(caught.value) is expected


@pytest.mark.parametrize(
    ("said", "wait_s"),
    [
        (7, 7),
        (0.5, 0.5),
        (10**400, 86_400),
        (-(10**400), None),
        (float("nan"), None),
        (True, None),
        (-1, None),
        ("7", None),
    ],
)
async def test_how_long_to_wait_is_believed_within_bounds(program, ask, said, wait_s):
    with pytest.raises(Throttled, match="slow") as caught:
        await program(says({"error": {"kind": "throttled", "message": "slow", "retry_after_s": said}})).complete(ask())
    assert caught.value.retry_after_s == wait_s
    assert caught.value.told == (None if wait_s is None else ToldLimits({}, retry_after_s=wait_s))


async def test_what_a_failed_answer_has_cost_is_kept(program, ask):
    said = {"error": {"kind": "content_refused", "message": "no", "request_id": "r-2"}, "usage": GOOD["usage"]}
    with pytest.raises(ContentRefused) as caught:
        await program(says(said)).complete(ask())
    assert (caught.value.usage, caught.value.provider_request_id) == (Usage(20, 7, 3), "r-2")


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


async def test_a_program_ended_by_a_signal(program, ask):
    with pytest.raises(ServerError, match=f"ended by signal {int(signal.SIGABRT)}"):
        await program(f"{SAY}import os\nos.abort()").complete(ask())


async def test_an_answer_longer_than_a_pipe_holds_comes_whole(program, ask):
    completion = await program(f"{SAY}print(json.dumps({GOOD!r} | {{'output': 'x' * 1_000_000}}))").complete(ask())
    assert completion.text == "x" * 1_000_000


# Programs that do not behave


LONG = (Message("user", "x" * 1_048_576),)
"""A question larger than a pipe holds."""


@pytest.mark.parametrize("first", ["", "import os\nos.close(0)"], ids=["never reads", "closes stdin"])
async def test_one_that_does_not_read_and_answers(program, ask, first):
    completion = await program(f"{first}\nimport json\nprint(json.dumps({GOOD!r}))").complete(ask(messages=LONG))
    assert completion.text == "hello"


@pytest.mark.parametrize(
    "code",
    ["", f"import os, sys\nprint({json.dumps(json.dumps(GOOD))}, flush=True)\nos.close(1)"],
    ids=["never reads, never answers", "answers, closes stdout, stays"],
)
async def test_one_that_does_not_end_is_ended_and_nothing_of_it_stays_open(program, ask, code):
    before = await open_files()
    provider = program(f"{code}\nimport time\ntime.sleep(600)")
    with pytest.raises(Timeout, match="the program was ended"):
        await provider.complete(ask(messages=LONG, timeout_s=0.4))
    assert await open_files() == before


async def test_one_that_writes_without_end_is_ended(watched, ask):
    provider, witness = watched("ready()\nwhile True: sys.stdout.write('x' * 4096)", max_output_bytes=100_000)
    with pytest.raises(MalformedCompletion, match="more than 100,000 bytes") as caught:
        await provider.complete(ask())
    assert caught.value.raw_text == "x" * process.HEAD_BYTES
    await witness.all_gone()


async def test_of_stderr_without_end_only_the_last_is_kept(program, ask):
    provider = program(f"{SAY}sys.stderr.write('x' * 1_000_000 + 'the cause')\nsys.exit(1)")
    with pytest.raises(ServerError) as caught:
        await provider.complete(ask())
    # What the error keeps is shorter still, and its end is what counts.
    assert len(str(caught.value)) <= 500


FAMILY = "ready(child(), child('import signal', 'signal.signal(signal.SIGTERM, signal.SIG_IGN)'))\ntime.sleep(600)"


async def test_at_the_deadline_the_program_and_its_children_are_ended(watched, ask):
    provider, witness = watched(FAMILY)
    with pytest.raises(Timeout, match="the program was ended"):
        await provider.complete(ask(timeout_s=1.0))
    pid, *_ = await witness.ready()
    await witness.all_gone()
    with pytest.raises(ProcessLookupError):  # not even a zombie
        os.kill(pid, 0)


async def test_one_that_will_not_go_is_killed(watched, ask, monkeypatch):
    monkeypatch.setattr(process, "GRACE_S", 0.1)
    provider, witness = watched("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nready(child())\ntime.sleep(600)")
    await cancelled(provider, witness, ask)
    await witness.all_gone()


async def test_one_that_is_asked_to_go_has_time_to_say_goodbye(watched, ask, tmp_path):
    farewell = tmp_path / "farewell"
    goodbye = f"lambda *_: (open({str(farewell)!r}, 'w').close(), os._exit(0))"
    provider, witness = watched(f"signal.signal(signal.SIGTERM, {goodbye})\nready()\ntime.sleep(600)")
    await cancelled(provider, witness, ask)
    assert farewell.exists()


async def cancelled(provider, witness, ask):
    """Cancel a call once its program is ready."""
    call = asyncio.create_task(provider.complete(ask()))
    await witness.ready()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_cancelled_it_takes_its_children_along(watched, ask):
    provider, witness = watched(FAMILY)
    await cancelled(provider, witness, ask)
    await witness.all_gone()


async def test_cancelled_again_while_it_ends_it_still_takes_them_along(watched, ask, monkeypatch):
    monkeypatch.setattr(process, "GRACE_S", 0.2)
    provider, witness = watched("signal.signal(signal.SIGTERM, lambda *_: seen.sendall(b'[]\\n'))\n" + FAMILY)
    call = asyncio.create_task(provider.complete(ask()))
    await witness.ready()
    call.cancel()
    await witness.ready()  # it has been asked to go
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await witness.all_gone()


async def test_cancelled_while_it_starts_it_leaves_nothing(program, ask):
    before = await open_files()
    call = asyncio.create_task(program("import time\ntime.sleep(600)").complete(ask()))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await open_files() == before


DETACHED = "child(start_new_session=True)"


async def test_given_up_it_takes_along_even_those_who_left_its_group(watched, ask):
    """The one in a session of its own, whose parent is alive; and the daemon, whose parent is gone."""
    daemon = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nif os.fork() == 0: os.setsid(); child(); os._exit(0)"
    provider, witness = watched(f"{daemon}\nready({DETACHED})\ntime.sleep(600)")
    await cancelled(provider, witness, ask)
    await witness.all_gone()


async def test_a_child_that_holds_stdout_open_does_not_hold_us_and_is_ended(watched, ask):
    provider, witness = watched(f"ready(child())\nprint(json.dumps({GOOD!r}))")
    assert (await provider.complete(ask())).text == "hello"
    await witness.all_gone()


async def test_a_stranger_that_holds_stdout_open_does_not_hold_us(watched, ask, monkeypatch):
    """Who left the group before a good answer is left alone; its end of our pipes is not waited for."""
    monkeypatch.setattr(process, "DRAIN_S", 0.05)
    before = await open_files()
    provider, witness = watched(f"ready({DETACHED})\nprint(json.dumps({GOOD!r}))")
    assert (await provider.complete(ask(messages=LONG))).text == "hello"
    _, stranger = await witness.ready()
    assert await open_files() == before + 1  # the witness's connection
    os.kill(stranger, signal.SIGKILL)
    await witness.all_gone()


def test_the_same_on_the_workers_loop(program, ask):
    """It has its own way with processes, and runs in a thread beside Celery's."""
    outcomes = []

    async def through():
        # The loop's own files come with its first process.
        await program(says(GOOD)).complete(ask())
        before = await open_files()
        answers = await asyncio.gather(*(program(says(GOOD)).complete(ask(messages=LONG)) for _ in range(8)))
        outcomes.extend(answer.text for answer in answers)
        for code in (FAMILY, f"ready({DETACHED})\ntime.sleep(600)"):
            async with witnessing() as (witness, begins):
                await cancelled(program(begins + code), witness, ask)
                await witness.all_gone()
        with pytest.raises(Timeout):
            await program("import time\ntime.sleep(600)").complete(ask(messages=LONG, timeout_s=0.4))
        with pytest.raises(MalformedCompletion, match="more than"):
            await program("while True: print('x' * 4096)", max_output_bytes=9).complete(ask())
        streaming = program(lines({"text": "hel"}, {"text": "lo"}, GOOD), stream=True)
        outcomes.append([piece async for piece in streaming.stream(ask())])
        assert await open_files() == before

    def in_thread():
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(through())

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join(HANG_GUARD_S)
    assert outcomes == ["hello"] * 8 + [["hel", "lo"]]


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


# Streams


def lines(*said):
    return SAY + "\n".join(f"print({json.dumps(json.dumps(one))}, flush=True)" for one in said)


async def collected(stream):
    return [piece async for piece in stream]


async def test_a_stream_is_the_whole_answer_in_one_piece(program, ask):
    provider = program(says(GOOD))
    assert await collected(provider.stream(ask())) == ["hello"]
    assert provider.capabilities.streaming is False


async def test_pieces_come_as_they_are_written(watched, ask):
    last = json.dumps({key: value for key, value in GOOD.items() if key != "output"})
    code = f'print(\'{{"text": "hel"}}\', flush=True)\nseen.recv(9)\nprint(\'{{"text": "lo"}}\')\nprint({last!r})'
    provider, witness = watched(code, stream=True)
    stream = provider.stream(ask())
    assert await anext(stream) == "hel"
    await witness.tell()
    assert await collected(stream) == ["lo"]
    assert provider.capabilities.streaming


async def test_a_program_that_streams_also_answers_whole(program, ask):
    without = {key: value for key, value in GOOD.items() if key != "output"}
    completion = await program(lines({"text": "hel"}, {"text": ""}, {"text": "lo"}, without), stream=True).complete(
        ask()
    )
    assert (completion.text, completion.usage) == ("hello", Usage(20, 7, 3))
    assert (await program(says(GOOD), stream=True).complete(ask())).text == "hello"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (lines({"text": "hel"}), MalformedCompletion),
        (lines({"text": "hel"}, GOOD), MalformedCompletion),
        (lines({"text": "hello"}, GOOD | {"output": 5}), MalformedCompletion),
        (lines({"text": "hello"}, GOOD, {"text": "more"}), MalformedCompletion),
        (lines({"text": "hello"}, GOOD, GOOD), MalformedCompletion),
        (lines({"text": "hel"}, [], GOOD), MalformedCompletion),
        (lines({"text": "hello"}, GOOD) + "\nsys.exit(1)", ServerError),
        (lines({"text": "hello"}, GOOD | {"finish_reason": "length"}), OutputTruncated),
        (lines({"text": "hel"}, {"error": {"kind": "overloaded", "message": "busy"}}), Overloaded),
    ],
)
@pytest.mark.parametrize("whole", [False, True], ids=["stream", "complete"])
async def test_a_stream_that_does_not_end_well_says_so(program, ask, said, expected, whole):
    provider = program(said, stream=True)
    with pytest.raises(expected) as caught:
        await (provider.complete(ask()) if whole else collected(provider.stream(ask())))
    assert type(caught.value) is expected


async def test_a_stream_left_early_ends_the_program(watched, ask):
    provider, witness = watched('print(\'{"text": "hel"}\', flush=True)\n' + FAMILY, stream=True)
    stream = provider.stream(ask())
    assert await anext(stream) == "hel"
    await witness.ready()
    await stream.aclose()
    await witness.all_gone()


async def test_the_deadline_covers_the_whole_stream(program, ask):
    provider = program('import time\nprint(\'{"text": "hel"}\', flush=True)\ntime.sleep(600)', stream=True)
    with pytest.raises(Timeout):
        await collected(provider.stream(ask(timeout_s=0.4)))


async def test_a_line_without_end_is_too_much_output(program, ask):
    provider = program("while True: print('x' * 4096, end='')", stream=True, max_output_bytes=100_000)
    with pytest.raises(MalformedCompletion, match="more than 100,000 bytes"):
        await collected(provider.stream(ask()))


# Configuration


async def test_is_available_runs_the_check(program):
    assert await program("raise SystemExit(5)").is_available()
    check = "import sys\nsys.exit(sys.argv[1:] != ['--check'])"
    assert await program(check, check=["--check"]).is_available()
    assert not await program(check, check=["--other"]).is_available()
    assert not await program("while True: print('x' * 4096)", check=["--check"], max_output_bytes=9).is_available()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"argv": []},
        {"argv": "ls"},
        {"argv": [""]},
        {"argv": ["ls"] * 101},
        {"argv": ["ls", "a\0b"]},
        {"argv": ["./ls"]},
        {"argv": ["no-such-program"]},
        {"argv": ["ls"], "shell": True},
        {"argv": ["ls"], "max_output_bytes": 0},
        {"argv": ["ls"], "env": {"A=B": "c"}},
        {"argv": ["ls"], "env": {"A": "c\0"}},
        {"argv": ["ls"], "key_variable": "A\n"},
        {"argv": ["ls"], "cwd": "relative"},
        {"argv": ["ls"], "cwd": "/nowhere/at/all"},
    ],
)
def test_wrong_options_are_refused(build, options):
    with pytest.raises(ConfigurationError, match="option"):
        build(dialect="command", base_url=None, options=options)


async def test_it_runs_in_its_directory(program, ask, tmp_path):
    provider = program(f"import os\n{SAY}print(json.dumps({GOOD!r} | {{'output': os.getcwd()}}))", cwd=str(tmp_path))
    assert (await provider.complete(ask())).text == str(tmp_path)


async def test_what_is_no_text_is_refused_before_the_program_runs(program, ask, tmp_path):
    provider = program(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InvalidRequest):
        await provider.complete(ask(messages=(Message("user", "\ud800"),)))
    assert not (tmp_path / "ran").exists()
