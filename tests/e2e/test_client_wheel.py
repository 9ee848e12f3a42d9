"""The wheel in somebody else's project: built, installed alone, used beside a package `tasks` of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import psycopg
import pytest

from tasks import producer

SOURCE = Path(producer.__file__).parent

WEB_APP = """
import json, sys
import tasks                                   # the web app's own
from assayline_client import AsyncClient, Client, Job

before = sorted(name for name in sys.modules if name.partition(".")[0] in ("psycopg", "redis", "sqlalchemy"))
with Client(sys.argv[1]) as client:
    one = client.enqueue("quick", "text", idempotency_key="k")
    many = list(client.enqueue_many(Job("quick", f"{n}") for n in range(3)))
    state = client.get(one.id).state
foreign = {"gateway", "workers", "ops", "api", "celery", "kombu", "pydantic", "sqlalchemy", "redis"}
print(json.dumps({
    "tasks": tasks.MINE,
    "before": before,
    "state": state,
    "created": [one.created, *(receipt.created for receipt in many)],
    "foreign": sorted(name for name in sys.modules if name.partition(".")[0] in foreign or name.startswith("tasks.")),
    "file": sys.modules["assayline_client"].__file__,
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by hatchling from a copy, so that the source tree stays as it is."""
    copy, out = tmp_path_factory.mktemp("source") / "producer", tmp_path_factory.mktemp("dist")
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], cwd=copy, check=True)
    (built,) = out.glob("assayline_client-*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True)
    return target


@pytest.fixture
def web_app(tmp_path: Path) -> Path:
    """A project with a `tasks` package of its own, as Celery's users have."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text("MINE = 'the web app'\n")
    (tmp_path / "app.py").write_text(WEB_APP)
    return tmp_path


@pytest.fixture
def url(database_url: str) -> str:
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO assayline.catalog_models VALUES ('one/small')")
        connection.execute("INSERT INTO assayline.catalog_analyses VALUES ('quick', '{one/small}', 'bulk', 3)")
    return database_url


def test_the_wheel_holds_the_client_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    modules = {name for name in names if ".dist-info/" not in name}
    assert modules == {f"assayline_client/{path.name}" for path in SOURCE.glob("*.py")} | {"assayline_client/py.typed"}


def test_the_wheel_asks_for_nothing(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    wanted = [line for line in archive.read(metadata).decode().splitlines() if line.startswith("Requires-Dist")]
    assert wanted
    assert all("extra ==" in line for line in wanted)


def test_a_web_app_enqueues_with_the_wheel_alone(web_app: Path, site: Path, url: str) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "app.py", url],
        cwd=web_app,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told.pop("file").startswith(str(site))
    assert told == {
        "tasks": "the web app",
        "before": [],
        "state": "scheduled",
        "created": [True] * 4,
        "foreign": [],
    }
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM assayline.jobs").fetchone() == (4,)
