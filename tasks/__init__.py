"""The job: a row in Postgres, its legal moves, and the processes that move it.

Knows `gateway` and Postgres. Must not know Celery: publishing is a port (`tasks.outbox.Publisher`)
that `workers` implements.
"""
