"""Whether a process does its work, judged by its progress and told over HTTP.

`thresholds` says what is judged and why so; `pulse` notes what the process does; `neighbours` asks the broker and
Postgres; `worker`, `dispatcher` and `beat` judge; `server` answers. None of it does any of the work.

Two answers, as Kubernetes asks for them. **Live**: no reason to kill the process. That Postgres or Redis is away is
none; to do nothing once they are back is one. **Ready**: it does its work now.
"""
