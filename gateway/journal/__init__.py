"""Answers that have come and are not stored yet: kept in Redis, so that a process that dies then costs no second call.

`entry` is what is kept of them and its form as bytes; `journal` writes, finds and removes it. A courtesy, as all that
travels on the line: where it is missing, the call is made again, and the earlier one stays `unknown`.
"""
