"""What the bench of limits makes of an endpoint's record, and what it hands to the processes it starts."""

from __future__ import annotations

import json
import sys
from subprocess import run
from typing import Any
from xml.etree import ElementTree

import pytest

from gateway.catalog import load_catalog
from gateway.messages import ModelRef
from ops.bench.catalogs import MODEL, catalog
from ops.bench.strict.endpoint import Record
from ops.bench.strict.loads import LOADS
from ops.bench.strict.ours import provider
from ops.bench.strict.peers import slots
from ops.bench.strict.plot import plot

CLOCKS = """
import sys, time
real = time.time()
from ops.bench.skewed import shift
shift(-30.0)
from datetime import UTC, datetime
import json
now = datetime.now(UTC)
print(json.dumps([time.time() - real, now.timestamp() - real, time.time_ns() / 1e9 - real, isinstance(now, datetime)]))
"""


def record(load: str = "requests", counted: list[float] | None = None, **told: Any) -> Record:
    amounts = counted or [20.0] * 20 + [9.9] * 80
    whole = {
        "counted": {"requests": amounts, "tokens": amounts},
        "refused": [0] * (len(amounts) - 1) + [5],
        "most_open": 7,
        "highest_minute": {"requests": 600.0, "tokens": 0.0},
    }
    return Record.of(LOADS[load], whole | told, 100)


def test_use_leaves_out_the_first_fifth_and_refusals_do_not() -> None:
    found = record(refused=[3] + [0] * 99)
    assert found.use == pytest.approx(0.99)
    assert found.refusals == 3
    assert found.figures() == {
        "use_%": pytest.approx(99.0),
        "calls": 20 * 20 + 792 + 3,
        "refused": 3,
        "highest_minute_%": 100.0,
        "most_open": 7,
    }


def test_a_run_that_was_not_recorded_has_no_use() -> None:
    empty = Record(LOADS["requests"], 0, {"requests": []}, [], 0, {"requests": 0.0})
    assert empty.use is None


@pytest.mark.parametrize("name", LOADS)
def test_a_loads_catalog_holds_and_has_its_limits(name: str, tmp_path: Any) -> None:
    load = LOADS[name]
    file = tmp_path / "catalog.yaml"
    made_up = provider(load)
    file.write_text(json.dumps(catalog([made_up])))
    read = load_catalog(file, made_up.env("http://127.0.0.1:9"))
    assert read.chain("text_classification") == (ModelRef(made_up.name, MODEL),)
    [account] = read.providers[made_up.name].accounts
    told = account.limits["default"].model_dump(exclude_none=True)
    assert told == {f"{kind}_per_min": limit for kind, limit in load.per_min.items()}
    shipped = load_catalog(None, {}).providers[made_up.name]
    for name in ("counting", "slots", "dialect", "key_env", "base_url_env"):
        assert getattr(read.providers[made_up.name], name) == getattr(shipped, name), name


def test_peers_have_slots_to_spare() -> None:
    assert [slots(LOADS[name], 4) for name in ("requests", "long")] == [8, 167]


def test_a_worker_whose_clock_is_off_reads_wrong_times() -> None:
    done = run([sys.executable, "-c", CLOCKS], capture_output=True, text=True, check=True)
    *shifts, is_datetime = json.loads(done.stdout)
    assert shifts == [pytest.approx(-30.0, abs=2.0)] * 3
    assert is_datetime


def test_the_plot_has_a_line_for_each_in_each_panel() -> None:
    drawn = plot(
        {"requests": {"Assayline": record(), "a < b": record(counted=[0.0] * 100)}, "more": {"Assayline": record()}}
    )
    root = ElementTree.fromstring(drawn)
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 3
    assert len({line.get("stroke") for line in lines}) == 2
    texts = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"requests", "more", "Assayline", "a < b", "limit", "measured from here"} <= texts
