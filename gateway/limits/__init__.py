"""Exact shared limits: one script decides for all workers what may go, and when.

`rates` turns a provider's figures into buckets, `limiter` reserves and settles, `renewals` says what a process holds,
`commands` what each script is told, `estimate` how much output to reserve, `policy` what overloads and retries cost;
the Lua files are the authority. Why so, with figures: docs/adr/0010-one-schedule-per-limit.md, and 0011 for what keeps
calls out beside the limits.
"""
