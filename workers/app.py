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


def _settings() -> dict[str, Any]:
    for name in CELERYS_OWN:
        if os.environ.pop(name, None):
            log.warning("%s is left alone: ASSAYLINE_BROKER_URL names the broker here", name)
    url = Settings.from_env(os.environ).broker_url
    return for_broker(url) if url else SETTINGS


app = Celery("assayline", set_as_current=True, include=["workers.entrypoints"])
app.add_defaults(_settings)
