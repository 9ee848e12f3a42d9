"""The HTTP service for producers and operators. Composes gateway and tasks; knows no Celery."""
