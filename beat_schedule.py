"""The clock: what is ticked when, as data. Read by `assayline beat`.

A tick is a name sent to the `system` queue, never a job. Whatever a tick calls for may be called for twice, or late,
without harm.
"""

from celery.schedules import crontab

TICKS = {
    # The store's partitions are made three months ahead; an hour's delay is nothing.
    "upkeep": crontab(minute="17"),
}
