"""`assayline exec`: one task as JSON on stdin, one result as JSON on stdout. Needs no service, only a provider.

The seeds' `execute_<provider>.py` scripts in one command, for programs of any language that want one answer now. Exit
codes as theirs: 0 done, 1 the provider did not answer, 2 configuration, 3 the task is wrong. Whatever the code, stdout
holds one result.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.exit_codes import BAD_INPUT, CONFIGURATION, FAILED, FAULT, OK
from ops.cli.screen import AsJson, Screen, write_json

if TYPE_CHECKING:
    from gateway.messages import AnalysisResult
    from ops.cli.exec_task import Task

EXAMPLE: dict[str, Any] = {
    "task_id": "TASK-001",
    "title": "Slug function",
    "description": "Write a Python function slug(text) that makes a URL slug of a title.",
    "agent": "claude-code",
    "max_tokens": 2000,
    "deliverables": ["slug.py"],
    "success_criteria": ["slug('Hello, World!') == 'hello-world'", "No dependencies"],
}
"""What `--example` prints: ready to be piped back in."""


def exec_task(
    example: Annotated[bool, typer.Option("--example", help="Print a task to start from, and run nothing.")] = False,
    as_json: AsJson = False,
) -> int:
    """Run one task, read as JSON from stdin, and print one result as JSON. Needs no running service.

    Fields: task_id, title, description; optional: agent or provider, model, max_tokens, temperature, timeout_s,
    deliverables, success_criteria. Without agent, provider and model the chain of `completion` is tried in order.

    Example: [bold]assayline exec --example | assayline exec[/bold]
    """
    screen = Screen(as_json=as_json)
    if example:
        write_json(EXAMPLE)
        return OK
    if sys.stdin.isatty():
        screen.say("reading one task as JSON from stdin (end it with Ctrl-D); --example prints one")
    started = time.monotonic()
    try:
        result = _run(started)
    except Exception as error:
        # A fault of our own: its traceback goes to stderr, and whoever reads stdout still finds a result.
        write_json(_result(None, None, started, FAULT, error))
        raise
    write_json(result)
    if result["error"]:
        screen.say(result["error"])
    return int(result["exit_code"])


def _run(started: float) -> dict[str, Any]:
    """Do the task on stdin; whatever happens is a result."""
    from gateway.errors import ConfigurationError, GatewayError, LedgerRefusal, RequestError
    from ops.cli.exec_task import BadTask, Execution, read_task

    task: Task | None = None
    try:
        task = read_task(sys.stdin.buffer)
        execution = Execution(task, os.environ)
        answer = asyncio.run(execution.run())
    except (BadTask, RequestError) as error:
        return _result(task, None, started, BAD_INPUT, error)
    except ConfigurationError as error:
        return _result(task, None, started, CONFIGURATION, error)
    except (GatewayError, LedgerRefusal) as error:
        return _result(task, None, started, FAILED, error)
    return _result(task, answer, started, OK, None)


def _result(
    task: Task | None, answer: AnalysisResult | None, started: float, code: int, error: Exception | None
) -> dict[str, Any]:
    """The seeds' fields. Counts that nobody reported are null, never 0; so is a cost whose price is unknown."""
    usage = answer.usage if answer else getattr(error, "usage", None)
    return {
        "status": "success" if code == OK else "error",
        "output": answer.data["text"] if answer else None,
        "error": f"{getattr(error, 'name', type(error).__name__)}: {error}" if error else None,
        "task_id": task.task_id if task else getattr(error, "task_id", None),
        "agent": (task.agent or task.provider) if task else None,
        "provider": answer.provider if answer else None,
        "model": answer.model if answer else (task.model if task else None),
        "execution_time_seconds": round(time.monotonic() - started, 3),
        "tokens_used": usage.input_tokens + usage.output_tokens if usage else None,
        "prompt_tokens": usage.input_tokens if usage else None,
        "completion_tokens": usage.output_tokens if usage else None,
        "cost": float(answer.cost_usd) if answer and answer.cost_usd is not None else None,
        "timestamp": datetime.now(UTC).isoformat(),
        "exit_code": code,
    }
