"""The sample plugin, as somebody installs it: its wheel beside the gateway, found by its entry point, and asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gateway import errors

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "provider_plugin"
GUIDE = ROOT / "docs" / "guides" / "add-a-provider.md"

ASK = """
import asyncio, json, os
from pathlib import Path
from gateway.build import build_gateway
from gateway.catalog import load_catalog
from gateway.settings import Settings

async def main():
    catalog = load_catalog(Path("catalog.yaml"), os.environ)
    gateway = build_gateway(Settings.from_env(os.environ), catalog, os.environ)
    result = await gateway.analyze(
        "text_classification", "It crashes when I click on save.", context={"labels": ["fault", "praise"]}
    )
    await gateway.aclose()
    print(json.dumps({
        "label": result.data["label"], "provider": result.provider, "model": result.model,
        "tokens": [result.usage.input_tokens, result.usage.output_tokens], "cost": str(result.cost_usd),
    }))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin's wheel, built by hatchling from a copy and installed alone, without any index."""
    copy, out = tmp_path_factory.mktemp("source") / "plugin", tmp_path_factory.mktemp("dist")
    shutil.copytree(PLUGIN, copy, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], cwd=copy, check=True)
    (wheel,) = out.glob("assayline_cohere-*.whl")
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True)
    return target


class Api(BaseHTTPRequestHandler):
    """As much of Cohere's API as one classification needs."""

    asked: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append((self.headers["authorization"], body))
        answer = {"evidence": "It crashes", "label": "fault", "confidence_percent": 90}
        raw = json.dumps(
            {
                "id": "c-1",
                "finish_reason": "COMPLETE",
                "message": {"role": "assistant", "content": [{"type": "text", "text": json.dumps(answer)}]},
                "usage": {"billed_units": {"input_tokens": 2000, "output_tokens": 1000}},
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def api() -> Iterator[str]:
    Api.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def guides_catalog() -> str:
    """Return the catalog that the guide shows."""
    [shown] = [block.partition("```")[0] for block in GUIDE.read_text().split("```yaml\n")[1:]]
    return shown


def run(*argv: str, site: Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASSAYLINE_", "LLM_", "PYTEST"))}
    return subprocess.run(
        [sys.executable, *argv],
        cwd=cwd,
        env=kept | {"PYTHONPATH": str(site)} | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_catalog_that_names_its_dialect_is_answered_by_it(site: Path, api: str, tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_text(guides_catalog())
    told = run("-W", "error", "-c", ASK, site=site, cwd=tmp_path, COHERE_API_KEY="co-key", COHERE_BASE_URL=api)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout) == {
        "label": "fault",
        "provider": "cohere",
        "model": "command-a-03-2025",
        "tokens": [2000, 1000],
        "cost": "0.015",
    }
    [(authorization, body)] = Api.asked
    assert authorization == "Bearer co-key"
    assert body["response_format"]["json_schema"]["properties"]["label"]["enum"] == ["fault", "praise"]


def test_without_the_package_its_dialect_is_unknown(api: str, tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_text(guides_catalog())
    told = run("-c", ASK, site=tmp_path, cwd=tmp_path, COHERE_API_KEY="co-key", COHERE_BASE_URL=api)
    assert told.returncode != 0
    assert "provider 'cohere': unknown dialect 'cohere'; known: anthropic" in told.stderr


def test_its_own_tests_pass(site: Path, tmp_path: Path) -> None:
    """Every promise of a provider, over the wire."""
    shutil.copy(PLUGIN / "pyproject.toml", tmp_path)
    shutil.copytree(PLUGIN / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    told = run("-m", "pytest", "-q", "-p", "no:cacheprovider", site=site, cwd=tmp_path)
    assert told.returncode == 0, told.stdout + told.stderr


def test_installed_twice_under_two_names_it_is_refused(site: Path, tmp_path: Path) -> None:
    rival = tmp_path / "rival-2.0.dist-info"
    rival.mkdir()
    (rival / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 2.0\n")
    (rival / "entry_points.txt").write_text("[assayline.providers]\ncohere = assayline_cohere.chat:Cohere\n")
    create = (
        "import gateway.providers.registry as r, gateway.providers.base as b; r.create(b.ProviderConfig('p', 'cohere'))"
    )
    told = run("-c", create, site=site, cwd=tmp_path)
    assert "offered by assayline-cohere 0.1.0 (assayline_cohere.chat:Cohere) and by rival 2.0" in told.stderr


def test_the_guides_error_table_is_the_codes() -> None:
    """What the guide says of each error is what its class says."""
    words = {"later": True, "yes": True, "counts": True, "": False, "no": False, "perhaps": None}
    rows = [line for line in GUIDE.read_text().splitlines() if line.startswith("| `") and line.count("|") == 7]
    told = {}
    for row in rows:
        name, _, *facts = (cell.strip() for cell in row.strip("|").split("|"))
        again, following, breaker, paid = (words.get(fact, fact) for fact in facts)
        told[name.strip("`")] = (again, following, breaker, paid)
    assert told.pop("ContextTooLong") == (False, "a larger one", False, False)
    assert told.pop("ContentRefused") == (False, "if the analysis says so", False, True)
    classes = {cls.__name__: cls for cls in errors.ProviderError.__subclasses__()}
    assert told.keys() == classes.keys() - {"ContextTooLong", "ContentRefused"}
    for name, facts in told.items():
        cls = classes[name]
        assert facts == (cls.retryable, cls.try_next_model, cls.trips_breaker, cls.paid), name
