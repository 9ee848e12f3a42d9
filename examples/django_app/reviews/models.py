"""A review that a customer wrote, and the job that judges it."""

from django.core.validators import MaxLengthValidator
from django.db import models


class Review(models.Model):
    """One review."""

    author = models.CharField(max_length=100)
    text = models.TextField(validators=[MaxLengthValidator(20_000)])
    job_id = models.UUIDField()

    def __str__(self) -> str:
        return f"{self.author}: {self.text[:40]}"
