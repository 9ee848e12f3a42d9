"""A dead key, or one without quota, takes its account out and no job with it: the provider's other account answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from nodes.fixtures import node_env as plain_env

from gateway.breaker.account import Account
from gateway.breaker.breakers import Breakers
from gateway.redis_line import RedisLine

if TYPE_CHECKING:
    from pathlib import Path

    from nodes.cluster import AssaylineSetup
    from nodes.wire import Wire

MAIN, SPARE = "key-of-main", "key-of-spare"
CATALOG = """
providers:
  openai:
    dialect: openai_compatible
    base_url_env: OPENAI_BASE_URL
    key_env: OPENAI_API_KEY
    accounts: [{name: main}, {name: spare, key_env: OPENAI_SPARE_API_KEY}]
    models:
      gpt-5.4-nano:
        context_window: 400000
        max_output_tokens: 128000
        capabilities: [structured_output]
        price: null
        note: of no matter
        source: a test
        checked: 2026-11-21
defaults: {chain: [openai/gpt-5.4-nano]}
"""


@pytest.fixture
def node_env(redis_url: str, database_url: str, wire: Wire, tmp_path: Path) -> dict[str, str]:
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(CATALOG)
    env: dict[str, str] = plain_env.__wrapped__(redis_url, database_url, wire)
    return env | {"ASSAYLINE_CATALOG": str(catalog), "OPENAI_API_KEY": MAIN, "OPENAI_SPARE_API_KEY": SPARE}


async def let_a_probe_go(redis_url: str) -> None:
    """As if the account had been out for as long as it is to be. It was out, or there is nothing to try."""
    line, account = RedisLine.from_url(redis_url), Account("openai", "main")
    try:
        breakers = Breakers(line)
        assert (await breakers.describe(account)).standing.state == "open"
        await breakers.force(account, "open")
        assert (await breakers.force(account, None)).half_open
    finally:
        await line.aclose()


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(401, "invalid_api_key", "auth_rejected"), (429, "insufficient_quota", "quota_exhausted")],
)
def test_no_job_dies_of_a_dead_key_not_even_the_one_that_tries_it_again(
    celery_setup: AssaylineSetup, redis_url: str, status: int, code: str, error: str
) -> None:
    """The one model of the chain, and all the jobs that were there when the key died."""
    setup = celery_setup
    setup.wire.reject_key(MAIN, status, code)
    setup.start_dispatcher()
    jobs = [setup.enqueue()[0] for _ in range(6)]
    setup.workers.start()
    for job in jobs:
        setup.ended(job)
    first = setup.wire.calls_with(MAIN)
    assert 1 <= first <= len(jobs)

    for probes in (1, 2):
        asyncio.run(let_a_probe_go(redis_url))
        probe, _ = setup.enqueue()
        row = setup.ended(probe)
        assert setup.wire.calls_with(MAIN) == first + probes, "the probe was a real job"
        [cause] = row["causes"]
        assert (cause["move"], cause["error"], row["attempts_used"]) == ("next_account", error, 2)
        accounts = setup.store.rows("SELECT account FROM assayline.calls WHERE job_id = %s ORDER BY claim_no", probe)
        assert [call["account"] for call in accounts] == ["main", "spare"]
        jobs.append(probe)

    assert setup.store.states() == {"succeeded": len(jobs)}
    assert setup.wire.calls_with(SPARE) == len(jobs)
    with setup.redis as client:
        assert not client.keys("*:retries"), "none of it drew on the fleet's retries"
