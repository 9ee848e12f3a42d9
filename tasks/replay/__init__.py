"""Replay: jobs that have ended are asked for again, by new jobs.

`request` is what may be asked for, `plan` finds and judges the jobs that are meant and what they may cost, `book`
writes a replay down, shows it and takes orders, `copy` makes the new jobs: the dispatchers do, portion by portion. The
jobs that are meant are settled when a replay is made. Knows Postgres; knows no process, no terminal and no HTTP.
"""
