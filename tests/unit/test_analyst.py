"""A worker's parts: how long an attempt may take, what is refused before any call, which adapters it starts with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from gateway.catalog import build_catalog, load_catalog
from gateway.errors import CatalogError, ConfigurationError, DeadlinePassed
from gateway.ledger import MemoryLedger
from gateway.messages import ModelRef
from gateway.settings import Settings
from gateway.yaml_source import parse_yaml
from tasks.job import Claim
from workers.build import LEASE_SLACK_S, GatewayAnalyst, build_worker

CATALOG = load_catalog(None, {"OPENAI_API_KEY": "k"})
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


async def asked(**changes: Any) -> list[dict[str, Any]]:
    gateway = Gateway()
    await GatewayAnalyst(gateway, CATALOG).analyze(replace(CLAIM, **changes), MemoryLedger())  # type: ignore[arg-type]
    return gateway.asked


@pytest.mark.parametrize(("deadline_in_s", "timeout_s"), [(None, USUAL_S), (USUAL_S * 30, USUAL_S), (7.5, 7.5)])
async def test_an_attempt_ends_at_the_deadline_and_never_after_its_lease(deadline_in_s, timeout_s):
    (wishes,) = await asked(deadline_in_s=deadline_in_s)
    assert wishes["timeout_s"] == timeout_s
    lease_s = GatewayAnalyst(Gateway(), CATALOG).lease_s("openai")  # type: ignore[arg-type]
    assert wishes["timeout_s"] + LEASE_SLACK_S <= lease_s


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
