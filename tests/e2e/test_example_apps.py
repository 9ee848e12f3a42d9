"""The example web apps, as their READMEs run them: with the client's wheel, beside a dispatcher and a worker."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ops.supervisor import ports
from tasks import producer

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
DEADLINE_S = 60.0
NOTHING_OF_OURS = ("gateway", "workers", "ops", "celery")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client as pip installs it from `tasks/producer`."""
    copy, target = tmp_path_factory.mktemp("client") / "producer", tmp_path_factory.mktemp("site")
    shutil.copytree(Path(producer.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", str(target), str(copy)], check=True)
    return target


@pytest.fixture
def assayline(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[ExitStack]:
    """A dispatcher and a worker of the scripted provider; what is started on top of them ends with them."""
    environment = cleaned() | {
        "ASSAYLINE_DATABASE_URL": database_url,
        "ASSAYLINE_REDIS_URL": redis_url,
        "ASSAYLINE_FAKE": "1",
    }
    with ExitStack() as stack:
        for command in (["dispatcher"], ["worker", "--slots=4"]):
            argv = [sys.executable, "-m", "ops.cli.main", *command]
            process = stack.enter_context(subprocess.Popen(argv, env=environment, cwd=tmp_path))
            stack.callback(process.kill)
        with psycopg.connect(database_url, autocommit=True) as connection:
            eventually(lambda: connection.execute("SELECT count(*) > 0 FROM assayline.catalog_analyses").fetchone()[0])
        yield stack


def cleaned() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("ASSAYLINE_", "LLM_"))}


def eventually(condition: Any) -> Any:
    give_up_at = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
    return found


def served(stack: ExitStack, argv: list[str], folder: Path, site: Path, **env: str) -> None:
    """Start a web app with the client on its path and nothing of Assayline's."""
    environment = cleaned() | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "", **env}
    process = stack.enter_context(subprocess.Popen([sys.executable, *argv], cwd=folder, env=environment))
    stack.callback(process.kill)


def asked(url: str, body: dict[str, Any] | None = None, content_type: str = "application/json") -> tuple[int, Any]:
    """Ask an app; 0 while it does not listen yet."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 0, None


def test_the_fastapi_app_stores_a_snippet_with_its_job_and_shows_the_answer(
    assayline: ExitStack, site: Path, database_url: str, redis_url: str
) -> None:
    port = ports.pick()
    argv = ["-m", "uvicorn", "app:app", f"--port={port}", "--log-level=warning"]
    served(assayline, argv, EXAMPLES / "fastapi_app", site, DATABASE_URL=database_url, REDIS_URL=redis_url)
    url = f"http://127.0.0.1:{port}/snippets"
    eventually(lambda: asked(f"{url}/1")[0])
    status, created = asked(url, {"author": "ann", "code": "import asyncio"})
    assert status == 201
    status, shown = asked(f"{url}/{created['id']}?wait=60")
    assert (status, shown["state"], float(shown["cost_usd"])) == (200, "succeeded", 0)
    assert shown["skills"]["language"]
    assert asked(url, {"author": "ann", "code": "nul \0"})[0] == 422
    assert asked(url, {"author": "nul \0", "code": "import asyncio"})[0] == 422
    with psycopg.connect(database_url) as connection:
        counts = "SELECT (SELECT count(*) FROM snippets), (SELECT count(*) FROM assayline.jobs)"
        assert connection.execute(counts).fetchone() == (1, 1), "a refused job leaves no snippet behind"
    with ThreadPoolExecutor(8) as people:
        at_once = [people.submit(asked, url, {"author": "bob", "code": f"import os{n}"}) for n in range(8)]
        assert [one.result()[0] for one in at_once] == [201] * 8, "a new author comes in several requests at once"


def test_the_django_project_with_a_tasks_package_of_its_own_does_the_same(
    assayline: ExitStack, site: Path, database_url: str
) -> None:
    port = ports.pick()
    folder = EXAMPLES / "django_app"
    environment = cleaned() | {"PYTHONPATH": str(site), "DATABASE_URL": database_url}
    migrate = [sys.executable, "manage.py", "migrate", "--verbosity=0"]
    subprocess.run(migrate, cwd=folder, env=environment, check=True)
    argv = ["manage.py", "runserver", "--noreload", str(port)]
    served(assayline, argv, folder, site, DATABASE_URL=database_url)
    url = f"http://127.0.0.1:{port}/reviews/"
    eventually(lambda: asked(f"{url}1/")[0])
    status, created = asked(url, {"author": "ann", "text": "Where is my parcel?"})
    assert status == 201
    shown = eventually(lambda: (one := asked(f"{url}{created['id']}/")[1])["state"] == "succeeded" and one)
    assert shown["judged"]["label"] in ("praise", "complaint", "question")
    assert asked(url, {"author": "ann"})[0] == 400
    for refused in (
        {"text": "nul \0"},
        {"text": ""},
        {"text": "x" * 20_001},
        {"author": "a" * 101},
        {"author": "nul \0"},
    ):
        assert asked(url, {"author": "ann", "text": "Fine.", **refused})[0] == 422
    assert asked(url, {"author": "ann", "text": "Forged."}, content_type="text/plain")[0] == 415
    with psycopg.connect(database_url) as connection:
        counts = "SELECT (SELECT count(*) FROM reviews_review), (SELECT count(*) FROM assayline.jobs)"
        assert connection.execute(counts).fetchone() == (1, 1), "both or neither"


def test_the_examples_import_nothing_of_assayline_but_its_client() -> None:
    for path in EXAMPLES.glob("*_app/**/*.py"):
        for line in path.read_text().splitlines():
            assert not line.startswith(
                tuple(f"{word} {name}" for word in ("import", "from") for name in NOTHING_OF_OURS)
            )
