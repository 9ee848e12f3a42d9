"""One provider call, from the question who may make it to the ledger's last line.

`hop` is where it goes, `terms` how it asks, `admission` lets it in by one of the hop's accounts (`seating`), `call`
makes it and writes it down, `end` says how it ended.
"""
