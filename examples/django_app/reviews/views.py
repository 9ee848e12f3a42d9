"""Two views: hand a review in, and read it with its label."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from assayline_client import InvalidJob
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET, require_POST

from reviews.models import Review
from tasks import analyses

if TYPE_CHECKING:
    from django.http import HttpResponse

LABELS = ["praise", "complaint", "question"]


@require_POST
def create(request: HttpRequest) -> HttpResponse:
    """Store a review and have it judged: either both, or neither."""
    # There is no login here, so nothing to forge. With one: another site's page cannot send this type unasked.
    if request.content_type != "application/json":
        return JsonResponse({"error": "send application/json"}, status=415)
    try:
        given = json.loads(request.body)
        author, text = str(given["author"]), str(given["text"])
    except (ValueError, KeyError, TypeError):
        return JsonResponse({"error": "author and text are needed, as JSON"}, status=400)
    try:
        with transaction.atomic():
            job_id = analyses.judge(text, labels=LABELS, subject=author)
            review = Review(author=author, text=text, job_id=job_id)
            review.full_clean()
            review.save()
    except (InvalidJob, ValidationError) as error:
        return JsonResponse({"error": str(error)}, status=422)
    return JsonResponse({"id": review.pk, "job_id": str(job_id)}, status=201)


@require_GET
def read(request: HttpRequest, review_id: int) -> HttpResponse:
    """Show a review, with its label once there is one."""
    review = get_object_or_404(Review, pk=review_id)
    job = analyses.found(review.job_id)
    judged = job.result.data if job.result else None
    return JsonResponse({"id": review.pk, "text": review.text, "state": job.state, "judged": judged})
