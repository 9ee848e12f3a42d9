"""The home of Celery: the app, its queues, the task entrypoint, and the runtime of a worker process."""
