"""The clock: what is ticked when, and what runs by night, as data. Read by `assayline beat` and by the workers.

A tick is a name sent to the `system` queue, never a job. Whatever a tick calls for may be called for twice, or late,
without harm: which night of which schedule has been run stands in Postgres.
"""

from celery.schedules import crontab

TICKS = {
    # The store's partitions are made three months ahead; an hour's delay is nothing.
    "upkeep": crontab(minute="17"),
    # "Is a window open?" is asked each minute in UTC, and answered in local time: crontab is an hour off, or skips a
    # night, when the clocks change.
    "schedules": crontab(),
}

SCHEDULES = {
    # Everything in a folder (one job for each text), or a .jsonl file (one job for each line), in the bulk lane while
    # the provider is idle. What has been done is not done again unless it has changed; what is left over in the
    # morning goes on the next night.
    "nightly": {
        "analysis": "skill_extraction",
        "inputs_env": "ASSAYLINE_NIGHTLY_INPUTS",
        "opens": "22:00",
        "closes": "06:00",
        "zone": "UTC",
        "zone_env": "ASSAYLINE_NIGHTLY_ZONE",
    },
}
