"""What the project asks of Assayline: one place, so that views need not know how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assayline_client import Client
from django.db import connection

if TYPE_CHECKING:
    from uuid import UUID

    from assayline_client import StoredJob

assayline = Client()  # no URL: each call brings Django's own connection


def judge(text: str, *, labels: list[str], subject: str) -> UUID:
    """Have a text put under one of some labels; part of the transaction that Django has open."""
    receipt = assayline.enqueue(
        "text_classification",
        text,
        context={"labels": labels},
        subject=subject,
        source="reviews",
        lane="interactive",
        connection=connection,
    )
    return receipt.id


def found(job_id: UUID) -> StoredJob:
    """Return what came of it so far."""
    return assayline.get(job_id, connection=connection)
