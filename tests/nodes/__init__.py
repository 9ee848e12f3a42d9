"""Test nodes: pytest-celery's workers, broker and setup over processes of this machine instead of Docker containers."""
