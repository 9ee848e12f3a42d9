"""`assayline submit`: one job for each file, or for an analysis's example; a job's options are the command's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli import job_options as its
from ops.cli import target
from ops.cli.exit_codes import OK
from ops.cli.judged import Judged, contents, example
from ops.cli.screen import DEFAULT_DIRECTORY, AsJson, Directory, Screen
from ops.cli.troubles import BadInput
from tasks.producer.errors import InvalidJob
from tasks.producer.jobs import OPTIONS, Job


# Long, because each field of a job is one parameter; there is nothing else in it.
def submit(
    ctx: typer.Context,
    analysis: Annotated[str, typer.Argument(help="What to do, such as code_quality.")],
    files: Annotated[list[str] | None, typer.Argument(metavar="[FILE|-]...", help="What to judge; - is stdin.")] = None,
    use_example: Annotated[
        bool, typer.Option("--example", help="Send the example that ships with the analysis, with its context.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="With --example: print it instead of sending it.")] = False,
    context: its.Context = None,
    messages: its.Messages = None,
    schema: its.Schema = None,
    prompt_version: its.PromptVersion = None,
    output_format: its.OutputFormat = None,
    max_tokens: its.MaxTokens = None,
    temperature: its.Temperature = None,
    tenant: its.Tenant = None,
    subject: its.Subject = None,
    source: its.Source = None,
    tags: its.Tags = None,
    idempotency_key: its.IdempotencyKey = None,
    provider: its.Provider = None,
    model: its.Model = None,
    chain: its.Chain = None,
    max_cost_usd: its.MaxCostUsd = None,
    max_attempts: its.MaxAttempts = None,
    use_cache: its.UseCache = None,
    use_fallback: its.UseFallback = None,
    lane: its.Lane = None,
    priority: its.Priority = None,
    not_before: its.NotBefore = None,
    deadline_at: its.DeadlineAt = None,
    expires_at: its.ExpiresAt = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the results and show them.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="With --wait: give up after so many seconds.")] = 600.0,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: AsJson = False,
) -> int:
    r"""Enqueue one job for each file and print its id; if one is refused, none is enqueued.

    Examples: [bold]assayline submit code_quality app.py --wait[/bold]
    [bold]git diff | assayline submit text_classification - --context labels='\["fix", "feature"]'[/bold]
    [bold]assayline submit code_quality --example --wait[/bold]
    """
    screen, fields = Screen(as_json=as_json), _fields(ctx.params)
    if show and not use_example:
        raise BadInput("--show prints an analysis's example: say --example --show")
    material = _material(analysis, files or (), use_example=use_example, nothing_needed=messages is not None)
    if show:
        return _show(analysis, material[0], screen)
    return _enqueue(_jobs(analysis, material, fields), material, screen, directory, timeout if wait else None)


def _material(analysis: str, files: Sequence[str], *, use_example: bool, nothing_needed: bool) -> list[Judged]:
    if not use_example:
        return contents(files, nothing_needed=nothing_needed)
    if files:
        raise BadInput(f"--example brings its own content: leave out {' '.join(files)}")
    return [example(analysis)]


def _show(analysis: str, shown: Judged, screen: Screen) -> int:
    """Print an example: the content on stdout, so that it can be kept in a file, and what is about it on stderr."""
    content = shown.content.decode()
    screen.say(f"{shown.name}  {shown.source}")
    for name, value in shown.context.items():
        screen.say(f"--context {name}={json.dumps(value, ensure_ascii=False)}")
    screen.show(content.rstrip("\n"))
    about = {"analysis": analysis, "file": shown.name, "source": shown.source, "context": dict(shown.context)}
    screen.document({**about, "content": content})
    return OK


def _jobs(analysis: str, material: Sequence[Judged], fields: dict[str, Any]) -> list[Job]:
    """One job for each content; what the command line says of the context wins over what an example says.

    Raises:
        BadInput: several jobs would share one idempotency key.
    """
    if len(material) > 1 and fields["idempotency_key"] is not None:
        raise BadInput(f"--idempotency-key names one job, and {len(material)} files are {len(material)} jobs")
    own = fields.pop("context") or {}
    return [Job(analysis, one.content, {**one.context, **own} or None, **fields) for one in material]


def _enqueue(
    jobs: Sequence[Job], material: Sequence[Judged], screen: Screen, directory: Path, timeout_s: float | None
) -> int:
    from tasks.producer import Client

    with Client(target.database_url(directory)) as client:
        try:
            receipts = list(client.enqueue_many(jobs))
        except InvalidJob as refused:
            raise _refusal(refused, material) from refused
    if timeout_s is not None:
        from ops.cli.wait import wait_for

        return wait_for([receipt.id for receipt in receipts], screen, directory, timeout_s)
    for receipt, one in zip(receipts, material, strict=True):
        known = "" if receipt.created else "  (known already: its idempotency key had brought it)"
        screen.show(f"{receipt.id}  {one.name}{known}".rstrip())
        screen.document({"id": receipt.id, "file": one.name or None, "created": receipt.created})
    return OK


def _refusal(refused: InvalidJob, material: Sequence[Judged]) -> Exception:
    """The same refusal, its content called by its file's name."""
    name = material[refused.item or 0].name
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
        where = f"{option} {given}" if given.startswith("@") else option
        raise BadInput(f"{where}: not JSON: {error}") from error
