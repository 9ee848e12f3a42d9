"""One circuit breaker for each account with a provider, shared by all processes.

`breaker.lua` and `outcome.lua` are the authority: they ride on the limiter's scripts, so a breaker costs no round trip.
`view` is each process's own picture of it, `breakers` all of them, `health` what an outcome says. Why so, with sources:
docs/adr/0011-one-breaker-for-the-fleet.md.
"""
