"""The client cancels by filter, in all its colours: sync and async, over SQL and over HTTP."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from apiworld import KEY, Api, mirror_into, served

from tasks.producer import AsyncClient, Cancelled, Client, InvalidJob
from tasks.producer import async_client as async_room
from tasks.producer import client as sync_room
from tasks.producer.cancelling import WALKS, Portion, Walk

if TYPE_CHECKING:
    from collections.abc import Iterator

ANALYSIS = "code_quality"
COLOURS = pytest.mark.parametrize(("kind", "way"), [(k, w) for k in ("sync", "async") for w in ("sql", "http")])


REDIS_DATABASE = 13


@pytest.fixture(scope="module")
def shared(module_database_url: str, valkey_url: str) -> Iterator[Api]:
    """One service for all."""
    with served(module_database_url, f"{valkey_url.rstrip('/')}/{REDIS_DATABASE}") as running:
        yield running


@pytest.fixture
def database_url(emptied_database_url: str) -> str:
    mirror_into(emptied_database_url)
    return emptied_database_url


@pytest.fixture
def api(shared: Api, database_url: str) -> Api:
    """The service without any job, its catalog as a dispatcher leaves it."""
    return shared


class Caller:
    """One client, called the same whatever its colour."""

    def __init__(self, api: Api, database_url: str, kind: str, way: str) -> None:
        self._make = AsyncClient if kind == "async" else Client
        self._args = (api.url,) if way == "http" else (database_url,)
        self._key = {"api_key": KEY} if way == "http" else {}

    def __call__(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if self._make is Client:
            with Client(*self._args, **self._key) as client:
                return getattr(client, method)(*args, **kwargs)

        async def call() -> Any:
            async with AsyncClient(*self._args, **self._key) as client:
                return await getattr(client, method)(*args, **kwargs)

        return asyncio.run(call())


def states(database_url: str) -> dict[str, int]:
    with psycopg.connect(database_url) as link:
        return dict(link.execute("SELECT tenant || ' ' || state, count(*) FROM assayline.jobs GROUP BY 1").fetchall())


@COLOURS
def test_what_fits_is_counted_and_cancelled(api: Api, database_url: str, kind: str, way: str) -> None:
    call = Caller(api, database_url, kind, way)
    for tenant in ("acme", "acme", "other"):
        api.enqueue(tenant=tenant, tags=["a"])
    now = datetime.now(UTC)
    which: dict[str, Any] = {
        "tenant": "acme", "state": "scheduled", "tag": "a", "source": None, "created_after": now - timedelta(hours=1),
        "created_before": now + timedelta(hours=1),
    }  # fmt: skip
    assert call("cancellable", **which) == {"scheduled": 2}
    heard: list[Cancelled] = []
    assert call("cancel_many", on_portion=heard.append, **which) == Cancelled(2, 0, 0) == heard[-1]
    assert states(database_url) == {"acme cancelled": 2, "other scheduled": 1}
    assert call("cancel_many", all=True) == Cancelled(1, 0, 0)


@COLOURS
def test_what_names_nothing_cancels_nothing(api: Api, database_url: str, kind: str, way: str) -> None:
    """A variable that is None must not become every job."""
    call = Caller(api, database_url, kind, way)
    api.enqueue()
    for method in ("cancel_many", "cancellable"):
        for which, field in (
            ({}, "filter"), ({"tenant": None}, "filter"), ({"all": False}, "filter"), ({"tennant": "acme"}, "tennant"),
            ({"created_after": datetime(2026, 1, 1)}, "created_after"), ({"tag": "a\0"}, None),
            ({"tag": object()}, "filter"), ({"state": ["failed"]}, None),
        ):  # fmt: skip
            with pytest.raises(InvalidJob) as refused:
                call(method, **which)
            assert field in (None, refused.value.field)
    assert states(database_url) == {"default scheduled": 1}


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_each_portion_is_heard_of_and_committed(
    api: Api, database_url: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever breaks off has done what he was told of, and no more."""
    for room in (sync_room, async_room):
        monkeypatch.setattr(room, "PORTION", 2)
    for _ in range(5):
        api.enqueue()
    heard: list[int] = []

    def break_off(so_far: Cancelled) -> None:
        heard.append(so_far.jobs)
        if len(heard) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Caller(api, database_url, kind, "sql")("cancel_many", analysis=ANALYSIS, on_portion=break_off)
    assert heard == [2, 4]
    assert states(database_url) == {"default cancelled": 4, "default scheduled": 1}


def test_in_the_callers_transaction_it_goes_with_it(api: Api, database_url: str) -> None:
    api.enqueue()
    with psycopg.connect(database_url) as connection:
        assert Client().cancellable(all=True, connection=connection)["scheduled"] == 1
        assert Client().cancel_many(all=True, connection=connection) == Cancelled(1, 0, 0)
        connection.rollback()
    assert states(database_url) == {"default scheduled": 1}


def test_what_somebody_holds_is_gone_over_again_and_told_in_the_end(
    api: Api, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.producer.cancelling.PAUSE_S", 0.0)
    held = api.enqueue()
    api.enqueue()
    with psycopg.connect(database_url) as other, Client(database_url) as client:
        other.execute("SELECT FROM assayline.jobs WHERE id = %s FOR UPDATE", (held,))
        heard: list[Cancelled] = []
        assert client.cancel_many(all=True, on_portion=heard.append) == Cancelled(1, 0, 1)
        assert len(heard) == WALKS
        assert client.cancel_many(all=True, connection=other) == Cancelled(1, 0, 0), "its own lock is in nobody's way"


def test_a_walk_ends_when_nothing_is_held_any_more() -> None:
    walk = Walk()
    assert walk.took(Portion(3, 1, 2, "x")) == 0.0
    assert (walk.after, walk.done) == ("x", False)
    assert walk.took(Portion(1, 0, 0, None)) > 0.0
    assert (walk.after, walk.done) == (None, False)
    assert walk.took(Portion(2, 1, 0, None)) == 0.0
    assert (walk.done, walk.so_far) == (True, Cancelled(6, 2, 0))
