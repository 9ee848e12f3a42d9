"""The Celery app. Importing it connects to nothing and reads no environment; Celery asks for its settings later.

`celery -A workers.app …` (Flower, inspect) works with it as with any app.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from gateway.settings import Settings
from workers.celery_settings import SETTINGS


def _settings() -> dict[str, Any]:
    return {**SETTINGS, "broker_url": Settings.from_env(os.environ).broker_url}


app = Celery("assayline", set_as_current=True, include=["workers.entrypoints"])
app.add_defaults(_settings)
