"""A day's money from end to end: dispatcher, worker, ledger, Redis. What it buys is bought, and no more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from nodes.fixtures import node_env as plain_env
from nodes.waiting import eventually
from nodes.wire import OUTPUT_TOKENS

if TYPE_CHECKING:
    from pathlib import Path

    from nodes.cluster import AssaylineSetup
    from nodes.wire import Wire

MAX_TOKENS, USD_PER_TOKEN = 100, 0.001
BUDGET_USD = 0.2
CALLS = 4
"""Of 0.03 USD each; for a fifth its worst, 0.1 USD, is no longer there."""
ZONE = f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"
"""Where it is noon: no midnight comes in between."""
CATALOG = f"""
providers:
  openai:
    dialect: openai_compatible
    base_url_env: OPENAI_BASE_URL
    key_env: OPENAI_API_KEY
    accounts: [{{zone: {ZONE}, limits: {{default: {{usd_per_day: "{BUDGET_USD}"}}}}}}]
    models:
      gpt-5.4-nano:
        context_window: 400000
        max_output_tokens: 128000
        capabilities: [structured_output]
        price: {{input_per_mtok_usd: "0.000001", output_per_mtok_usd: "{USD_PER_TOKEN * 1_000_000:g}"}}
        source: a test
        checked: 2026-11-21
defaults: {{chain: [openai/gpt-5.4-nano]}}
"""


@pytest.fixture
def node_env(redis_url: str, database_url: str, wire: Wire, tmp_path: Path) -> dict[str, str]:
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(CATALOG)
    env: dict[str, str] = plain_env.__wrapped__(redis_url, database_url, wire)
    return env | {"ASSAYLINE_CATALOG": str(catalog)}


def test_no_more_is_bought_than_the_day_has_though_redis_forgets_it(celery_setup: AssaylineSetup) -> None:
    setup = celery_setup
    setup.start_dispatcher()
    setup.workers.start()
    bought = round(CALLS * OUTPUT_TOKENS * USD_PER_TOKEN * 1_000_000)
    for _ in range(CALLS + 2):
        setup.enqueue(max_tokens=MAX_TOKENS)

    def ended() -> int:
        return setup.store.states().get("succeeded", 0)

    eventually(lambda: ended() == CALLS)
    with setup.redis as client:
        [key] = client.keys("*:spent:*")
        assert client.hget(key, "open") == b"0"
        client.delete(key)
    with setup.redis as client:
        eventually(lambda: client.exists(key))
        assert int(client.hget(key, "spent")) == pytest.approx(bought, abs=CALLS), "rounded up, call by call"
    eventually(lambda: not setup.store.states().keys() & {"queued", "running"})
    assert ended() == CALLS
    rows = setup.store.rows("SELECT state, release, attempts_used, not_before FROM assayline.jobs")
    assert sum(row["attempts_used"] for row in rows) == CALLS
    waiting = [row for row in rows if row["state"] == "scheduled"]
    assert max(row["not_before"] for row in waiting) > datetime.now(UTC) + timedelta(hours=6), "midnight there"
    assert max(row["release"] for row in waiting) <= 2, "what cannot be bought is not released again and again"
