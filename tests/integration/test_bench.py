"""Each bench in a small size: it reports, and with its mechanism switched off it fails by its headline figure.

Goals are not asserted: they are stated for the full size on a quiet machine.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import psycopg
import pytest
from rich.console import Console
from typer.testing import CliRunner

from gateway.errors import ConfigurationError
from ops.bench import BENCHES, SWITCHES, dispatch, failover, limits, recovery, steady
from ops.bench import LOADS as BENCH_LOADS
from ops.bench.dispatch import released_twice
from ops.bench.outage.failures import FAILURES
from ops.bench.report import Check, Options, Report, Servers, most_quantile, quantile
from ops.bench.strict.endpoint import Arrival
from ops.bench.strict.loads import LARGE, LOADS, Load
from ops.bench.strict.visits import waits_ms
from ops.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Callable

PASSED_S = 21.0
"""A silent worker counts as dead after twenty seconds: the heartbeat of one that was killed is put back by so much."""

GAP_OF_A_BUSY_MACHINE_S = 10.0
"""The goal is two seconds: without another dispatcher there would be no end to it."""

SERVER_IS_OLD_ENOUGH = "SELECT pg_sleep(greatest(0, 21 - extract(epoch FROM now() - pg_postmaster_start_time())))"


@pytest.fixture
def measured(database_url: str, redis_url: str) -> Callable[..., tuple[Report, Report]]:
    """Runs a bench as it is, then without a mechanism, on the session's servers."""

    def pair(run: Callable[[Options], Report], without: str, n: int) -> tuple[Report, Report]:
        options = partial(Options, n=n, rounds=1, peers=False, servers=Servers(database_url, redis_url))
        return run(options()), run(options(without=without))

    return pair


def test_latency_fails_without_listen(measured: Callable[..., tuple[Report, Report]]) -> None:
    on, off = measured(BENCHES["latency"], "listen", 4)
    assert not off.checks[0].ok
    assert 0 < on.checks[0].value < off.checks[0].value
    stages = ("to_row_ms", "to_queue_ms", "to_claim_ms", "to_call_ms")
    assert all(on.rounds[0][stage] > 0 for stage in stages)


def test_enqueue_fails_without_copy(measured: Callable[..., tuple[Report, Report]]) -> None:
    on, off = measured(BENCHES["enqueue"], "copy", 2_000)
    assert not off.checks[0].ok
    assert on.checks[0].value > off.checks[0].value
    assert all(rows.ok for rows in (*on.checks[1:], *off.checks[1:]))


def test_dispatch_fails_without_portions(measured: Callable[..., tuple[Report, Report]]) -> None:
    """One dispatcher is killed, and the other one goes on where it was, evenly."""
    on, off = measured(lambda options: dispatch.measure(options, {"12 tenants": 12}, slots=12), "portions", 120)
    assert not off.checks[0].ok
    assert 0 < off.checks[0].value < on.checks[0].value / 2
    for report in (on, off):
        found = {check.what.rpartition(": ")[2]: check for check in report.checks}
        assert found["released twice"].ok
        assert found["most served - least served"].ok
        assert 0 < found["longest gap, one of two dispatchers killed"].value < GAP_OF_A_BUSY_MACHINE_S
        assert [figures["waiting"] for figures in report.rounds] == [60, 120]
        assert 60 <= report.rounds[1]["released"] <= 180
        assert report.rounds[-1]["least_of_a_tenant"] > 0


def test_dispatch_counts_every_number_that_a_job_was_given() -> None:
    """A second release has another number, so no message comes twice."""
    once = {("a", 1): 1, ("b", 1): 1}
    rows = {"a": (1, 1), "b": (1, 1)}
    assert released_twice(once, rows) == 0
    assert released_twice(once | {("b", 2): 1}, rows | {"b": (2, 1)}) == 1, "released again: its copies begin anew"
    assert released_twice(once, rows | {"b": (2, 1)}) == 1, "even if the message has not come"
    assert released_twice(once | {("b", 1): 2}, rows) == 1, "a message that was sent twice"
    assert released_twice(once | {("b", 2): 1}, rows | {"b": (2, 2)}) == 0, "it was sent again, for nobody took it"
    assert released_twice({("a", 2): 1}, {"a": (2, 2)}) == 0, "its first message was never sent"
    assert released_twice(once | {("b", 2): 1, ("b", 3): 1}, rows | {"b": (3, 2)}) == 1, "released, again, sent again"
    assert released_twice({("c", 1): 1}, {}) == 1, "nobody released it"


@pytest.mark.parametrize(
    ("name", "wrong", "missed"),
    [
        ("gap_s", 2.1, "longest gap"),
        ("twice", 1, "released twice"),
        ("per_s", 999.0, "released"),
        ("blocks_per_row", 16.0, "blocks a row"),
        ("most_of_a_tenant", 8, "most served"),
        ("least_of_a_tenant", 0, "most served"),
    ],
)
def test_dispatch_judges_each_figure(name: str, wrong: float, missed: str) -> None:
    good = {"waiting": 120, "per_s": 1_000.0, "gap_s": 2.0, "twice": 0, "blocks_per_row": 10.0}
    good |= {"most_of_a_tenant": 7, "least_of_a_tenant": 3}
    assert all(check.ok for check in dispatch.judged("many", 12, good, good))
    [check] = [check for check in dispatch.judged("many", 12, good, good | {name: wrong}) if not check.ok]
    assert missed in check.what


def test_inflight_fails_without_threads(measured: Callable[..., tuple[Report, Report]]) -> None:
    on, off = measured(BENCHES["inflight"], "threads", 5)
    assert on.checks[0].value == 5
    assert on.checks[2].ok
    assert not off.ok
    assert off.checks[0].value < 5 or off.checks[1].value > on.checks[1].value


def test_job_cost_fails_without_the_loop(measured: Callable[..., tuple[Report, Report]]) -> None:
    on, off = measured(BENCHES["job-cost"], "loop", 6)
    assert not off.checks[0].ok
    assert 0 < on.checks[0].value < off.checks[0].value
    assert on.rounds[0]["in_flight_peak"] == 6
    assert on.rounds[0]["succeeded"] == 12


def test_recovery_fails_without_rescue(database_url: str, redis_url: str, postgres_admin_url: str) -> None:
    with psycopg.connect(postgres_admin_url) as connection:
        # A server that has just started gives all workers time to be heard.
        connection.execute(SERVER_IS_OLD_ENOUGH)
    options = partial(Options, n=4, rounds=1, peers=False, servers=Servers(database_url, redis_url))
    on = recovery.measure(options(), passed_s=PASSED_S)
    assert on.ok
    assert on.rounds[0]["lost_in_mid_call"] == on.rounds[0]["unknown_in_ledger"] == 2
    # As it is, the jobs were called again within this time; without the mechanism they get half as much again.
    off = recovery.measure(options(without="rescue"), bound_s=1.5 * on.checks[0].value, passed_s=PASSED_S)
    assert not off.ok
    assert off.checks[0].value is None


def test_steady_fails_without_headroom(database_url: str, redis_url: str) -> None:
    load = Load("small", "openai", {"requests": 600, "tokens": LARGE}, "requests", 20, 3, 0.2, 0.4, 0.98, 0.0)
    heap = steady.Heap(load, bulk=300, every_s=0.2, idle=3)
    options = partial(Options, seconds=2, servers=Servers(database_url, redis_url))
    on, off = (steady.measure(options(without=without), [heap], workers=1, warm_up=1) for without in (None, "headroom"))
    assert not off.checks[0].ok
    assert 0 < on.checks[0].value < off.checks[0].value
    assert on.rounds[0]["snoozed"] < off.rounds[0]["snoozed"]
    for report in (on, off):
        assert report.rounds[0]["unwritten"] == report.rounds[0]["refused"] == 0
        assert report.rounds[0]["idle_n"] >= 3
        assert report.rounds[0]["loaded_p50_ms"] > 0


def test_a_call_that_has_not_come_is_awaited_still() -> None:
    arrivals = [Arrival("a", 3_000_000, False), Arrival("a", 5_000_000, True), Arrival("b", 4_000_000, False)]
    assert waits_ms({"a": 1_000_000, "b": 2_000_000}, arrivals, 9_000_000) == [4.0, 7.0]


@pytest.mark.parametrize(("p50", "p95", "missed"), [(90.0, 190.0, []), (110.0, 190.0, ["p50"]), (90.0, 210.0, ["p95"])])
def test_steady_judges_the_long_waits_too(p50: float, p95: float, missed: list[str]) -> None:
    figures = dict.fromkeys(("claims_per_call", "unwritten", "refused", "waiting", "use_%", "most_open"), 1.0)
    figures |= {"idle_p50_ms": 50.0, "idle_p95_most_ms": 100.0, "loaded_p50_ms": p50, "loaded_p95_ms": p95}
    checks = [check for check in steady._checks(steady.HEAPS["requests"], figures) if "wait, " in check.what]
    assert [check.what[-3:] for check in checks] == ["p50", "p95"]
    assert [check.what[-3:] for check in checks if not check.ok] == missed


def test_the_most_that_a_quantile_may_be() -> None:
    """Of 59 values the highest is above the 95 % quantile with a confidence of 95 %, of 93 the second: Wilks."""
    found = {n: most_quantile(list(range(n)), 0.95) for n in (0, 3, 58, 59, 92, 93, 200)}
    assert found == {0: None, 3: 2, 58: 57, 59: 58, 92: 91, 93: 91, 200: 195}
    rng = Random(7)
    held = sum(most_quantile([rng.random() for _ in range(120)], 0.95) >= 0.95 for _ in range(2_000))  # type: ignore[operator]
    assert 0.94 <= held / 2_000 <= 0.985


def test_limits_marks_a_run_that_the_machine_was_too_small_for() -> None:
    bench = limits._Limits(Options(), 4, 300)
    bench.waiting.append(1)
    bench.rounds.append({"load": "requests", "trouble": "as it is", "round": 1, "cores_busy_%": 40.0})
    bench.beside |= {"requests: one": {"cores_busy_%": 93.4}, "requests: two": {"cores_busy_%": 84.0}}
    [note] = [note for note in bench.report().notes if "cores" in note]
    assert note.startswith("requests: one: cores were 93 % busy")


def test_limits_fails_without_the_limiter(database_url: str, redis_url: str) -> None:
    small = replace(LOADS["requests"], per_min={"requests": 30, "tokens": 4_000_000})
    options = partial(Options, seconds=4, peers=False, servers=Servers(database_url, redis_url))
    on = limits.measure(options(), [small], workers=1, troubles=limits.TROUBLES[:1])
    assert on.checks[0].ok
    assert on.rounds[0]["calls"] > 0
    off = limits.measure(options(without="limiter"), [small], workers=1)
    assert not off.checks[0].ok
    assert off.rounds[0]["calls"] > 30


def test_failover_fails_without_the_breaker(database_url: str, redis_url: str) -> None:
    course = failover.Course(warm_s=1.5, dark_s=2.5, hold_s=0.5, settled_s=1.5, back_s=10.0, drain_s=0.0)
    options = partial(Options, peers=False, servers=Servers(database_url, redis_url))
    on = failover.measure(options(), [FAILURES["errors"]], course)
    assert on.checks[0].value is not None
    assert on.rounds[0]["back_s"] < course.back_s
    assert on.rounds[0]["failed"] == 0
    off = failover.measure(options(without="breaker"), [FAILURES["errors"]], replace(course, back_s=0.0))
    assert not off.checks[0].ok
    assert off.rounds[0]["wasted"] > on.rounds[0]["wasted"]
    assert off.rounds[0]["wasted_late"] > on.rounds[0]["wasted_late"]


@pytest.mark.parametrize(("dark", "judged"), [(["refuses"], "not judged"), (["refuses", "hangs"], "by the others")])
def test_what_nobody_saw_is_said(dark: list[str], judged: str) -> None:
    figures = dict.fromkeys(("rate_back_s", "back_s", "wasted", "failed", "not_ended"), 0.0)
    rounds = [{"failure": name, **figures, "probes_at_once": None if name == "refuses" else 1} for name in dark]
    report = failover._report(Options(peers=False), failover.Course(), rounds, {})
    [note] = [note for note in report.notes if "probes at once" in note]
    assert "in refuses;" in note
    assert note.endswith(judged)
    assert any("at once" in check.what for check in report.checks) is (dark != ["refuses"])


LOADS_OF = {"dispatch": dispatch.LOADS, "limits": LOADS, "steady": steady.HEAPS, "failover": FAILURES}


@pytest.mark.parametrize("name", BENCHES)
def test_a_load_that_there_is_not_is_refused_before_anything_starts(name: str) -> None:
    assert BENCH_LOADS.get(name, ()) == tuple(LOADS_OF.get(name, ()))
    there_are = ", ".join(map(repr, LOADS_OF.get(name, ()))) or "none"
    with pytest.raises(ConfigurationError, match=f"bench {name} has no load 'night'; there are {there_are}$"):
        BENCHES[name](Options(loads=("night",)))


def test_the_command_names_the_loads() -> None:
    shown = CliRunner().invoke(app, ["bench", "--help"], env={"COLUMNS": "400", "NO_COLOR": "1"}).output
    for name, loads in BENCH_LOADS.items():
        assert f"{name}: {', '.join(loads)}" in shown


def test_a_switch_of_another_bench_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="without listen, not 'copy'"):
        BENCHES["latency"](Options(without="copy"))


def test_every_bench_has_a_switch() -> None:
    assert BENCHES.keys() == SWITCHES.keys()
    assert all(SWITCHES.values())


@pytest.mark.parametrize(
    ("value", "relation", "ok"),
    [
        (5.0, "<=", True),
        (5.1, "<=", False),
        (5.0, ">=", True),
        (4.9, ">=", False),
        (5.0, "=", True),
        (None, "<=", False),
    ],
)
def test_a_check_is_reached_or_not(value: float | None, relation: str, ok: bool) -> None:
    assert Check("x", value, "s", relation, 5.0).ok is ok


def test_a_report_is_ok_only_if_every_check_is() -> None:
    good, bad = Check("good", 1.0, "ms", "<=", 2.0), Check("bad", 3.0, "ms", "<=", 2.0)
    report = Report("x", [good, bad], [{"a_ms": 1.23456}], {"peer": {"a_ms": None}})
    assert not report.ok
    said = json.loads(json.dumps(report.as_json()))
    assert (said["value"], said["unit"], said["goal"], said["ok"]) == (1.0, "ms", "<= 2", False)
    assert said["rounds"] == [{"a_ms": 1.235}]
    assert said["peers"] == {"peer": {"a_ms": None}}


def test_people_see_every_round_the_peers_and_the_goals() -> None:
    report = Report(
        "x", [Check("head", 3.0, "ms", "<=", 2.0)], [{"a_ms": 11.0}, {"a_ms": 12.0}], {"peer": {"a_ms": 9.0}}
    )
    paper = io.StringIO()
    report.print(Console(file=paper, width=100))
    assert all(word in paper.getvalue() for word in ("11.0", "12.0", "peer", "9.0", "head", "<= 2", "NO"))


def test_a_quantile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1.0)) == (50.0, 99.0, 100.0)
    assert quantile([], 0.5) is None
