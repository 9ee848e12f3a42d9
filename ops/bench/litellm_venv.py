"""A virtual environment of its own for LiteLLM: its pins are not ours, and only who asks for it installs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ops.bench.processes import BenchFailure

PLACE = Path(".assayline/peers/litellm")
SETTINGS = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
"""For its processes' environment: it would fetch its prices from the network."""
PACKAGES = ("litellm", "redis", "uvloop")


def python() -> str:
    """The environment's interpreter; it is built where it is missing, from the package index.

    Raises:
        BenchFailure: it cannot be built here.
    """
    interpreter = PLACE.resolve() / "bin" / "python"
    if not (PLACE / "complete").exists():
        _run([sys.executable, "-m", "venv", "--clear", str(PLACE)])
        _run([str(interpreter), "-m", "pip", "install", "--quiet", *PACKAGES])
        (PLACE / "complete").touch()
    return str(interpreter)


def redis_arguments(redis_url: str) -> dict[str, Any]:
    """A Redis server as LiteLLM's Router is told of it."""
    url = urlsplit(redis_url)
    password = unquote(url.password) if url.password else None
    return {"redis_host": url.hostname, "redis_port": url.port, "redis_password": password}


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchFailure(f"{' '.join(argv[-3:])} failed\n{done.stderr[-2000:]}")
