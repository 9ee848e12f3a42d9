"""`assayline submit`: one job for each file, all options of a job as options of the command."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli import target
from ops.cli.exit_codes import OK
from ops.cli.screen import DEFAULT_DIRECTORY, AsJson, Directory, Screen
from ops.cli.troubles import BadInput
from tasks.producer.errors import MAX_BYTES, InvalidJob
from tasks.producer.jobs import OPTIONS, Job

STDIN = "-"
WHERE, HOW, WHEN, WHOSE = "Where it may run", "How it is asked", "When", "Whose it is"


# Long, because each field of a job is one parameter; there is nothing else in it.
def submit(
    ctx: typer.Context,
    analysis: Annotated[str, typer.Argument(help="What to do, such as code_quality.")],
    files: Annotated[list[str] | None, typer.Argument(metavar="[FILE|-]...", help="What to judge; - is stdin.")] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(
            help="A prompt variable, k=v (v as JSON where it is JSON, else as text), or @file.json. May be repeated.",
            rich_help_panel=HOW,
        ),
    ] = None,
    messages: Annotated[
        str | None, typer.Option(help="A conversation: @file.json or JSON.", rich_help_panel=HOW)
    ] = None,
    schema: Annotated[
        str | None, typer.Option(help="A JSON schema for the answer: @file.json or JSON.", rich_help_panel=HOW)
    ] = None,
    prompt_version: Annotated[str | None, typer.Option(rich_help_panel=HOW)] = None,
    output_format: Annotated[str | None, typer.Option(rich_help_panel=HOW)] = None,
    max_tokens: Annotated[int | None, typer.Option(rich_help_panel=HOW)] = None,
    temperature: Annotated[float | None, typer.Option(rich_help_panel=HOW)] = None,
    tenant: Annotated[str | None, typer.Option(rich_help_panel=WHOSE)] = None,
    subject: Annotated[str | None, typer.Option(help="About whom or what.", rich_help_panel=WHOSE)] = None,
    source: Annotated[str | None, typer.Option(help="The calling service.", rich_help_panel=WHOSE)] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="May be repeated.", rich_help_panel=WHOSE)] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key and request again is the same job.", rich_help_panel=WHOSE)
    ] = None,
    provider: Annotated[str | None, typer.Option(rich_help_panel=WHERE)] = None,
    model: Annotated[str | None, typer.Option(help="provider/model", rich_help_panel=WHERE)] = None,
    chain: Annotated[
        list[str] | None,
        typer.Option(help="provider/model, first choice first. May be repeated.", rich_help_panel=WHERE),
    ] = None,
    max_cost_usd: Annotated[str | None, typer.Option(rich_help_panel=WHERE)] = None,
    max_attempts: Annotated[int | None, typer.Option(help="Provider calls at most.", rich_help_panel=WHERE)] = None,
    use_cache: Annotated[bool | None, typer.Option("--cache/--no-cache", rich_help_panel=WHERE)] = None,
    use_fallback: Annotated[bool | None, typer.Option("--fallback/--no-fallback", rich_help_panel=WHERE)] = None,
    lane: Annotated[str | None, typer.Option(help="interactive or bulk", rich_help_panel=WHEN)] = None,
    priority: Annotated[int | None, typer.Option(help="0 (first) to 9 (last)", rich_help_panel=WHEN)] = None,
    not_before: Annotated[
        str | None, typer.Option(help="A time with its offset, 2026-11-05T08:00:00Z.", rich_help_panel=WHEN)
    ] = None,
    deadline_at: Annotated[str | None, typer.Option(help="No call runs on beyond it.", rich_help_panel=WHEN)] = None,
    expires_at: Annotated[
        str | None, typer.Option(help="Not wanted if unclaimed by then.", rich_help_panel=WHEN)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the results and show them.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="With --wait: give up after so many seconds.")] = 600.0,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    r"""Enqueue one job for each file and print its id; if one is refused, none is enqueued.

    Examples: [bold]assayline submit code_quality app.py --wait[/bold]
    [bold]git diff | assayline submit text_classification - --context labels='\["fix", "feature"]'[/bold]
    """
    fields = _fields(ctx.params)
    names = _names(files, fields)
    jobs = [Job(analysis, _content(name) if name else "", **fields) for name in names]
    return _submit(jobs, names, Screen(as_json=as_json), directory, timeout if wait else None)


def _submit(jobs: Sequence[Job], names: Sequence[str], screen: Screen, directory: Path, timeout_s: float | None) -> int:
    from tasks.producer import Client

    with Client(target.database_url(directory)) as client:
        try:
            receipts = list(client.enqueue_many(jobs))
        except InvalidJob as refused:
            raise _refusal(refused, names) from refused
    if timeout_s is not None:
        from ops.cli.wait import wait_for

        return wait_for([receipt.id for receipt in receipts], screen, directory, timeout_s)
    for receipt, name in zip(receipts, names, strict=True):
        known = "" if receipt.created else "  (known already: its idempotency key had brought it)"
        screen.show(f"{receipt.id}  {name}{known}".rstrip())
        screen.document({"id": receipt.id, "file": name or None, "created": receipt.created})
    return OK


def _refusal(refused: InvalidJob, names: Sequence[str]) -> Exception:
    """The same refusal, its content called by its file's name."""
    name = names[refused.item or 0]
    refused.item = None
    return BadInput(f"{name}: {refused.problem}") if name and refused.field == "content" else refused


def _fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """A job's options, out of the command's: each has the name of the field it sets."""
    fields = {name: given[name] for name in OPTIONS}
    fields["context"] = _context(given["context"])
    for name in ("messages", "schema"):
        fields[name] = _json_value(f"--{name}", given[name])
    for name in ("chain", "tags"):
        fields[name] = list(given[name] or ()) or None
    return fields


def _names(files: Sequence[str] | None, fields: dict[str, Any]) -> list[str]:
    """The files to read, one job each; one job without a file where messages say everything.

    Raises:
        BadInput: there is nothing to judge, or several files would share one idempotency key or stdin.
    """
    names = list(files or ())
    if not names:
        if fields["messages"] is not None:
            return [""]
        raise BadInput("nothing to judge: name a file, or - for stdin")
    if len(names) > 1 and fields["idempotency_key"] is not None:
        raise BadInput(f"--idempotency-key names one job, and {len(names)} files are {len(names)} jobs")
    if names.count(STDIN) > 1:
        raise BadInput("- (stdin) can be read once only")
    return names


def _content(name: str) -> bytes:
    """Read what to judge, at most 1 MiB of UTF-8.

    Raises:
        BadInput: it cannot be read, is empty, or is no such text. The message begins with the file's name.
    """
    try:
        if name == STDIN:
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(f"{name}: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise BadInput(f"{name}: more than {MAX_BYTES:,} bytes (1 MiB), which is the most a job may have")
    if not data.strip():
        raise BadInput(f"{name}: is empty")
    return _text(name, data)


def _text(name: str, data: bytes) -> bytes:
    if b"\0" in data:
        raise BadInput(f"{name}: has a NUL byte at {data.index(0)}: not text")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{name}: is not UTF-8 at byte {error.start}: convert it first, such as with iconv") from error
    return data


def _context(given: Sequence[str] | None) -> dict[str, Any] | None:
    """Put `k=v` and `@file.json` together; later ones win.

    Raises:
        BadInput: one is neither, or a file holds no JSON object.
    """
    merged: dict[str, Any] = {}
    for item in given or ():
        if item.startswith("@"):
            value = _json_value("--context", item)
            if not isinstance(value, dict):
                raise BadInput(f"--context {item}: must hold a JSON object")
            merged |= value
            continue
        key, equals, text = item.partition("=")
        if not (equals and key):
            raise BadInput(f"--context {item}: write it k=v, or @file.json")
        merged[key] = _lenient(text)
    return merged or None


def _lenient(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _json_value(option: str, given: str | None) -> Any:
    """Read an option that is JSON, or a file of it.

    Raises:
        BadInput: the file cannot be read, or it is no JSON.
    """
    if given is None:
        return None
    try:
        text = Path(given[1:]).read_text(encoding="utf-8") if given.startswith("@") else given
        return json.loads(text)
    except OSError as error:
        raise BadInput(f"{option} {given}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        where = given if given.startswith("@") else ""
        raise BadInput(f"{option} {where}: not JSON: {error}") from error
