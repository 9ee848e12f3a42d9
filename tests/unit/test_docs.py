"""The documents name only what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tasks/producer/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
ROOMS = ("gateway/", "tasks/", "workers/", "api/", "ops/", "tests/", "docs/", "examples/", "beat_schedule", "docker-")
NAMED = re.compile(r"`((?:%s)[\w./*<>-]*)`" % "|".join(ROOMS))  # noqa: UP031  braces would be doubled
LINKED = re.compile(r"\]\((?!https?:)([^)#]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path):
    text = page.read_text(encoding="utf-8")
    named = {name: re.sub(r"<\w+>", "*", name) for name in NAMED.findall(text)}
    missing = [name for name, pattern in named.items() if not any(ROOT.glob(pattern.rstrip("/")))]
    missing += [link for link in LINKED.findall(text) if not (page.parent / link).exists()]
    assert missing == []


def test_a_page_that_names_nothing_real_would_be_caught():
    assert NAMED.findall("see `tests/unit/test_nothing.py`") == ["tests/unit/test_nothing.py"]
