"""A worker's parts: how long an attempt may take, what is refused before any call, which adapters it starts with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from gateway.breaker.account import Account
from gateway.breaker.breakers import Breakers
from gateway.breaker.view import Standing
from gateway.catalog import Catalog, build_catalog, load_catalog
from gateway.errors import CatalogError, ConfigurationError, DeadlinePassed
from gateway.ledger import MemoryLedger
from gateway.messages import ModelRef
from gateway.settings import Settings
from gateway.yaml_source import parse_yaml
from tasks.job import Cause, Claim
from workers.build import LEASE_SLACK_S, GatewayAnalyst, build_worker

CATALOG = load_catalog(None, {"OPENAI_API_KEY": "k"})
NOWHERE: Any = None
"""A line to Redis that is not asked."""
USUAL_S = CATALOG.providers["openai"].timeout_s
CLAIM = Claim(
    id=UUID(int=1),
    claim_no=1,
    analysis="code_quality",
    tenant="t",
    lane="bulk",
    model=ModelRef("openai", "gpt-5.4-mini"),
    chain=("openai/gpt-5.4-mini",),
    hop=0,
    prompt_version=None,
    output_format=None,
    max_tokens=None,
    temperature=None,
    max_cost_usd=None,
    max_attempts=4,
    attempts_used=1,
    use_cache=True,
    use_fallback=True,
    deadline_in_s=None,
    spent_usd=None,
    unpriced_calls=None,
    content="x",
    context={},
    messages=(),
    schema=None,
)


class Gateway:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    async def analyze(self, *_: Any, **wishes: Any) -> None:
        self.asked.append(wishes)


def analyst(catalog: Catalog, gateway: Any = None, breakers: Breakers | None = None) -> GatewayAnalyst:
    return GatewayAnalyst(gateway or Gateway(), catalog, breakers or Breakers(NOWHERE))


async def asked(**changes: Any) -> list[dict[str, Any]]:
    gateway = Gateway()
    await analyst(CATALOG, gateway).analyze(replace(CLAIM, **changes), MemoryLedger())
    return gateway.asked


@pytest.mark.parametrize(("deadline_in_s", "timeout_s"), [(None, USUAL_S), (USUAL_S * 30, USUAL_S), (7.5, 7.5)])
async def test_an_attempt_ends_at_the_deadline_and_never_after_its_lease(deadline_in_s, timeout_s):
    (wishes,) = await asked(deadline_in_s=deadline_in_s)
    assert wishes["timeout_s"] == timeout_s
    lease_s = analyst(CATALOG).lease_s("openai")
    assert wishes["timeout_s"] + LEASE_SLACK_S <= lease_s


@pytest.mark.parametrize(
    ("retried", "causes"),
    [
        (False, ()),
        (True, (Cause("openai/m", "retry", "timeout"),)),
        (False, (Cause("openai/m", "retry", "timeout"), Cause("openai/m", "next_account", "auth_rejected"))),
        (False, (Cause("claude/m", "retry", "timeout"), Cause("claude/m", "fallback", "timeout"))),
    ],
)
async def test_only_what_repeats_a_call_draws_on_the_fleets_retries(retried: bool, causes: tuple[Cause, ...]) -> None:
    (wishes,) = await asked(causes=causes)
    assert wishes["retry"] is retried


TWO_ACCOUNTS = """
providers:
  mine:
    dialect: openai_compatible
    base_url_env: MINE_URL
    key_env: MINE_KEY
    accounts: [{name: main}, {name: spare, key_env: SPARE_KEY}]
    models: {m: {context_window: 9, max_output_tokens: 9, capabilities: [], price: null, note: nobody knows,
      source: a test, checked: 2026-11-21}}
defaults: {chain: [mine/m]}
"""
MAIN, SPARE = Account("mine", "main"), Account("mine", "spare")


def test_what_is_known_of_a_providers_accounts() -> None:
    now_s = 1_000.0
    env = {"MINE_URL": "http://nowhere", "MINE_KEY": "a", "SPARE_KEY": "b"}
    two = build_catalog(parse_yaml(TWO_ACCOUNTS, "c.yaml", CatalogError), env)
    breakers = Breakers(NOWHERE, now_us=lambda: round(now_s * 1e6))
    known = analyst(two, breakers=breakers)

    def said() -> tuple[bool, bool, bool]:
        return known.spare_account("mine", "main"), known.spare_account("mine", "spare"), known.is_out("mine")

    assert said() == (True, True, False), "of neither anything was heard"
    breakers.hear(MAIN, Standing("open", 1, again_s=300.0))
    assert said() == (True, False, False)
    breakers.hear(SPARE, Standing("open", 1, again_s=5.0))
    assert said() == (False, False, True)
    now_s += 5.0
    assert said() == (True, False, True), "the spare one may be asked again, but nobody has said that it is well"
    breakers.hear(SPARE, Standing("half-open", 1, again_s=1.0))
    assert said() == (True, False, True)
    breakers.hear(SPARE, Standing("closed", 2))
    assert said() == (True, False, False)


def test_a_provider_with_one_account_has_no_spare_one() -> None:
    assert not analyst(CATALOG).spare_account("openai", CATALOG.account("openai"))


async def test_a_deadline_that_is_over_costs_no_call():
    with pytest.raises(DeadlinePassed):
        await asked(deadline_in_s=-0.5)


async def test_a_worker_whose_providers_adapter_cannot_be_made_does_not_start() -> None:
    """It would make a dead letter of every job."""
    text = """
providers: {mine: {dialect: nope, models: {m: {context_window: 9, max_output_tokens: 9, capabilities: [], price: null,
  note: nobody knows, source: a test, checked: 2026-11-21}}}}
defaults: {chain: [mine/m]}
"""
    env = {"ASSAYLINE_DATABASE_URL": "postgresql://nowhere/x", "ASSAYLINE_REDIS_URL": "redis://nowhere"}
    own = build_catalog(parse_yaml(text, "c.yaml", CatalogError), env)
    with pytest.raises(ConfigurationError, match="provider 'mine': unknown dialect 'nope'"):
        await build_worker(Settings.from_env(env), own, env, providers=("mine",), slots=1)
