"""`assayline bench`: runs one of `ops.bench`, which knows them all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.bench import BENCHES, LOADS, SWITCHES
from ops.cli.exit_codes import FAILED, OK
from ops.cli.screen import AsJson, Screen
from ops.cli.troubles import BadInput


def bench(
    name: Annotated[str, typer.Argument(help="One of: " + ", ".join(BENCHES))],
    rounds: Annotated[int | None, typer.Option(min=1, help="How many rounds. The bench's own figure.")] = None,
    n: Annotated[
        int | None, typer.Option("-n", "--jobs", min=1, help="Jobs or calls over all rounds. The bench's own.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="chaos: the faults of the first round are drawn from it. 1.")
    ] = None,
    without: Annotated[
        str | None,
        typer.Option(
            help="Switch a mechanism off, to see the goal missed. "
            + "; ".join(f"{bench}: {', '.join(switches)}" for bench, switches in SWITCHES.items())
        ),
    ] = None,
    peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Run the peers in the same rounds.")] = True,
    with_litellm: Annotated[
        bool, typer.Option("--with-litellm", help="Also LiteLLM, in a virtual environment of its own.")
    ] = False,
    seconds: Annotated[
        int | None,
        typer.Option(min=5, help="How long a run takes. limits: 300; steady: 240. failover, of a failure: 30."),
    ] = None,
    load: Annotated[
        list[str] | None,
        typer.Option(
            "--load",
            help="Only this load or failure; may be repeated. "
            + "; ".join(f"{bench}: {', '.join(loads)}" for bench, loads in LOADS.items()),
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="limits: write a plot of use over time (SVG) here.")] = None,
    as_json: AsJson = False,
) -> int:
    """Measure on servers of the bench's own, printing every round. Exit code 1 if a goal is missed.

    Example: [bold]assayline bench latency --rounds 3[/bold]
    """
    if name not in BENCHES:
        raise BadInput(f"no bench {name!r}; there are {', '.join(BENCHES)}")
    from ops.bench.report import Options

    screen = Screen(as_json=as_json)
    options = Options(
        n=n,
        rounds=rounds,
        seed=seed,
        without=without,
        peers=peers,
        with_litellm=with_litellm,
        seconds=seconds,
        loads=tuple(load or ()),
        plot=plot,
        say=screen.say,
    )
    report = BENCHES[name](options)
    if not as_json:
        report.print(screen.out)
    screen.document(report.as_json())
    return OK if report.ok else FAILED
