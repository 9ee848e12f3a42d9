"""Exact shared limits: one script decides for all workers what may go, and when.

`rates` turns a provider's figures into buckets, `limiter` holds a process's reservations, `estimate` says how much
output to reserve; the Lua files are the authority. Why so, with figures: docs/adr/0010-one-schedule-per-limit.md.
"""
