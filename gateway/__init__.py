"""One LLM call, done well.

This package knows HTTP and Redis. It must never know Celery or SQL: what it needs of the
job's world (the ledger of calls) comes in through ports that `tasks` implements.
"""
