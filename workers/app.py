"""The Celery app. Importing it connects to nothing and reads no environment; Celery asks for its settings later.

`celery -A workers.app …` (Flower, inspect) works with it as with any app.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from celery import Celery

from gateway.settings import Settings
from workers.celery_settings import SETTINGS, for_broker

log = logging.getLogger(__name__)

CELERYS_OWN = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND")
"""Variables that Celery prefers to any setting. In a container shared with a web app they are that app's."""


class _App(Celery):  # type: ignore[misc]  # untyped
    """Celery's app, whose broker is the one of its settings, whatever Celery's own variables say."""

    def _connection(self, url: Any, *arguments: Any, **named: Any) -> Any:
        return super()._connection(self.conf.get("broker_url") or url, *arguments, **named)


def _settings() -> dict[str, Any]:
    for name in CELERYS_OWN:
        if os.environ.pop(name, None):
            log.warning("%s is left alone: ASSAYLINE_BROKER_URL names the broker here", name)
    url = Settings.from_env(os.environ).broker_url
    return for_broker(url) if url else SETTINGS


app = _App("assayline", set_as_current=True, include=["workers.entrypoints"])
app.add_defaults(_settings)
