"""Which processes make up a running Assayline, as data: what `assayline up` and `make demo` run.

Embedded services are prepared (directories owned, ports chosen), not started: that is the supervisor's part.
"""

from __future__ import annotations

import os
import sys
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from pathlib import Path

import workers
from api.key import KEY as API_KEY
from api.key import api_key
from gateway.catalog import Catalog
from gateway.settings import Settings, text
from ops.cli import api
from ops.cli.liveness import complaint, dispatcher_works, worker_works
from ops.embedded import EmbeddedPostgres, EmbeddedService, EmbeddedValkey, LocalModel
from ops.embedded.service import kept_secret
from ops.supervisor import ports
from ops.supervisor.child import Child
from workers.departure import KILLED_AFTER_S

DATABASE, REDIS, LOCAL_MODEL = "ASSAYLINE_DATABASE_URL", "ASSAYLINE_REDIS_URL", "ASSAYLINE_LOCAL_BASE_URL"
BROKER = "ASSAYLINE_BROKER_URL"
FLOWER_PORT = 5555
"""Flower's usual port, taken if it is free."""
FLOWER_USER = "assayline"
PYTHON = (sys.executable, "-P")
"""Without the working directory in front of what is installed: it is the operator's, whose web app may well have a
`tasks` or an `api` of its own."""
API_PORTS = range(8000, 8020)
"""The API takes the first of these that is free."""


@dataclass(frozen=True, slots=True)
class Link:
    """Something a person may open or connect to. `secret_url` holds the password, `url` does not."""

    name: str
    url: str
    note: str = ""
    secret_url: str | None = None


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything to run, in no order (each child names what it waits for), and what to tell the operator.

    `env` is what the children get on top of our own environment: the URLs of the embedded services, and of those
    servers that our environment names.
    """

    children: tuple[Child, ...]
    links: tuple[Link, ...]
    env: Mapping[str, str]
    embedded: tuple[EmbeddedService, ...]

    def release(self) -> None:
        """Give the embedded services' directories back, once everything has stopped."""
        for service in self.embedded:
            service.release()


def services(settings: Settings, catalog: Catalog, directory: Path, env: Mapping[str, str]) -> Stack:
    """Compose the whole system: stores, migrations, dispatcher, a worker per configured provider, beat, API, Flower.

    Args:
        settings: a URL in it replaces the embedded store.
        catalog: its configured providers get a worker each; if none is configured, the small local model is added.
        directory: where embedded services keep their data.
        env: the environment that settings and catalog were read from.

    Raises:
        EmbeddedServiceError: an embedded service cannot run here, or another process uses its directory.
        ConfigurationError: the environment's key of the API is unusable.
    """
    embedded = _prepared(_needed(settings, catalog, directory, env))
    try:
        added = {_VARIABLE[service.name]: service.url for service in embedded}
        # For other terminals: a worker or doctor started there must speak to the same servers.
        added |= {name: url for name in (DATABASE, REDIS, BROKER) if (url := text(env, name))}
        names = tuple(service.name for service in embedded)
        database_url = added.get(DATABASE) or settings.database_url or ""
        workers = [_worker(directory, name, database_url) for name in catalog.configured({**env, **added})]
        dispatcher = replace(_assayline(directory, "dispatcher"), ready=partial(dispatcher_works, database_url))
        # After the workers: it asks them at once what they do, and complains where nobody answers.
        flower, flower_link = _flower(directory, tuple(worker.name for worker in workers) or names)
        serving, api_links = _api(directory, env) if api.installed() else ((), ())
        children = [
            *(_embedded_child(service) for service in embedded),
            _assayline(directory, "migrate", after=names, once=True),
            *_watched(dispatcher, *workers, _assayline(directory, "beat")),
            *serving,
            flower,
        ]
    except BaseException:
        _release(embedded)
        raise
    links = (*api_links, flower_link, *(_embedded_link(service) for service in embedded))
    return Stack(tuple(_with_env(child, added) for child in children), links, added, tuple(embedded))


_VARIABLE = {EmbeddedValkey.name: REDIS, EmbeddedPostgres.name: DATABASE, LocalModel.name: LOCAL_MODEL}


def _needed(settings: Settings, catalog: Catalog, directory: Path, env: Mapping[str, str]) -> list[EmbeddedService]:
    needed: list[EmbeddedService] = []
    if settings.redis_url is None:
        needed.append(EmbeddedValkey(directory / EmbeddedValkey.name))
    if settings.database_url is None:
        needed.append(EmbeddedPostgres(directory / EmbeddedPostgres.name))
    usable = catalog.configured({**env, LOCAL_MODEL: "a URL"}).keys() - catalog.configured(env).keys()
    if not catalog.configured(env) and usable:
        needed.append(LocalModel(directory / LocalModel.name))
    return needed


def _prepared(needed: list[EmbeddedService]) -> list[EmbeddedService]:
    done: list[EmbeddedService] = []
    try:
        for service in needed:
            service.prepare()
            done.append(service)
    except BaseException:
        _release(done)
        raise
    return done


def _release(embedded: list[EmbeddedService]) -> None:
    for service in embedded:
        service.release()


def _embedded_child(service: EmbeddedService) -> Child:
    return Child(
        service.name,
        service.command(),
        ready=service.is_ready,
        stop_signal=service.stop_signal,
        death_signal=service.death_signal,
        identity=service.identity,
    )


def _embedded_link(service: EmbeddedService) -> Link:
    scheme, _, rest = service.url.partition("://")
    place = rest.rpartition("@")[2]
    return Link(service.name, f"{scheme}://{place}", secret_url=service.url)


def _assayline(directory: Path, command: str, *, after: tuple[str, ...] = ("migrate",), once: bool = False) -> Child:
    return Child(command, [*_command(command), f"--dir={directory}"], after=after, once=once)


def _worker(directory: Path, provider: str, database_url: str) -> Child:
    command = [*_command("worker"), f"--provider={provider}", f"--dir={directory}"]
    ready = partial(worker_works, database_url, provider)
    return Child(f"worker-{provider}", command, after=("migrate",), ready=ready, grace_s=KILLED_AFTER_S)


def _watched(*children: Child) -> list[Child]:
    """The same, each asked for its health now and then, and started anew where it does its work no more."""
    return [
        replace(
            child,
            command=[*child.command, f"--health-port={port}"],
            live=partial(complaint, f"http://{ports.LOOPBACK}:{port}/health/live"),
        )
        for child, port in zip(children, ports.several(len(children)), strict=True)
    ]


def _command(name: str) -> list[str]:
    return [*PYTHON, "-m", "ops.cli.main", name]


def _flower(directory: Path, after: tuple[str, ...]) -> tuple[Child, Link]:
    """Flower on loopback behind a generated password, handed over in its environment: argv is everybody's to read."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    password = kept_secret(directory / "flower.password")
    port = ports.pick(FLOWER_PORT)
    url = f"http://{ports.LOOPBACK}:{port}"
    # Celery itself looks for its app in the working directory first, so that is where the app is.
    celery = [*PYTHON, "-m", "celery", f"--workdir={Path(workers.__file__).parents[1]}", "-A", "workers.app"]
    child = Child(
        "flower",
        [*celery, "flower", f"--address={ports.LOOPBACK}", f"--port={port}"],
        after=after,
        ready=lambda: _answers(url),
        env={"FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{password}"},
    )
    return child, Link("flower", url, note=f"user {FLOWER_USER}, password {password}")


def _api(directory: Path, env: Mapping[str, str]) -> tuple[tuple[Child, ...], tuple[Link, ...]]:
    """The HTTP API on loopback, behind the environment's key or a generated one, handed over in its environment.

    Raises:
        ConfigurationError: the environment's key is unusable.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    given = text(env, API_KEY) or text(env, f"{API_KEY}_FILE")
    if given:
        api_key(env)  # an unusable one is said now: the service would be started again for ever
    key_file = directory / "api.key"
    added = {} if given else {API_KEY: kept_secret(key_file)}
    port = next(filter(ports.is_free, API_PORTS), None) or ports.pick()
    url = f"http://{ports.LOOPBACK}:{port}"
    child = replace(_assayline(directory, "api"), env=added, ready=partial(_is_ready, f"{url}/health/ready"))
    child = replace(child, command=[*child.command, f"--port={port}"])
    note = "Authorization: Bearer " + (f"(of {API_KEY})" if given else f"$(cat {key_file})")
    return (child,), (Link("api", url, note=note),)


def _is_ready(url: str) -> bool:
    """Whether an HTTP server answers with 200."""
    try:
        with ports.opened(url) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except urllib.error.HTTPError as answer:
        answer.close()
        return False
    except OSError:
        return False


def _answers(url: str) -> bool:
    """Whether an HTTP server answers at all; 401 is an answer."""
    try:
        ports.opened(url).close()
    except urllib.error.HTTPError as answer:
        answer.close()
        return True
    except OSError:
        return False
    return True


def _with_env(child: Child, added: Mapping[str, str]) -> Child:
    return replace(child, env={**added, **child.env})


def write_env_file(stack: Stack, path: Path) -> None:
    """Write the stack's URLs as shell assignments into a file only its owner can read."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123  born 0600
        file.writelines(f"export {name}={_quoted(value)}\n" for name, value in stack.env.items())


def _quoted(value: str) -> str:
    """A word for a shell, whatever is in it: a password may be of anything."""
    return "'" + value.replace("'", "'\\''") + "'"


def replaced(env: Mapping[str, str]) -> list[Link]:
    """What the environment names, for the list beside the embedded services; no URLs: they hold passwords."""
    named = (name for name in (DATABASE, REDIS, BROKER) if text(env, name) or text(env, f"{name}_FILE"))
    return [Link(name, "(from the environment)") for name in named]
