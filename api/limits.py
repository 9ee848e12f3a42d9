"""Every limit of the HTTP API, as a number: what is refused beyond it is refused with a problem that names it."""

from __future__ import annotations

from tasks.producer.errors import MAX_BYTES

MAX_BODY_BYTES = 6 * MAX_BYTES + MAX_BYTES // 4
"""Longest body: 6.25 MiB. Content and options have 1 MiB each as UTF-8; as JSON's escapes (`\\u00fc`), which many
clients write, other letters than ASCII take up to three times that."""

MAX_HEAD_BYTES = 64 * 1024
"""A request's line and headers that are longer than this and still not whole are refused."""

HEAD_WITHIN_S = 10.0
"""Seconds from a connection's beginning, or from the answer before, to a request's head, whole. A body that nobody
reads, after a refusal, has as long to come to its end."""

BODY_WITHIN_S = 30.0
"""Seconds from a request's head to the end of its body."""

MAX_IN_FLIGHT = 512
"""Requests with the key answered at once by one process, those that wait for a job included; more are sent away with a
503."""

MAX_WAIT_S = 60
"""Longest `?wait=`: proxies and load balancers cut longer silences."""

MAX_PAGE = 200
"""Most jobs on one page."""

PAGE = 50
"""Jobs on a page where nobody says how many."""

STORE_WITHIN_S = 10.0
"""Seconds for one visit to Postgres; beyond them it counts as away. Of one that froze, psycopg takes up to 10 s more to
let go."""

PLAN_WITHIN_S = 8.0
"""Seconds for one statement that looks for the jobs of a replay, within those."""

PLANS_AT_ONCE = 2
"""Replays planned at once by one process, dry runs included: each has a connection for all that time, of the eight that
all requests share. Others wait for their turn without one, as long as one statement may take."""

RETRY_AFTER_S = 5
"""What `Retry-After` says when Postgres is away, the process is full or another replay is being made."""

READY_FOR_S = 1.0
"""How long an answer about readiness holds, so that probes cost the stores nothing."""

MAX_ERRORS = 20
"""Most single findings in one problem."""

MAX_TEXT = 500
"""Longest text of the caller's that a problem repeats, in characters."""

MIN_KEY_CHARS, MAX_KEY_CHARS = 16, 512
"""Length of the key: 16 characters of a password generator are beyond guessing."""

CANCEL_FOR_S = 1.5
"""Seconds that one request goes on cancelling; the portion under way is brought to its end. What is left is for the
next request."""

STOP_WITHIN_S = 10.0
"""Seconds that open requests get after SIGTERM; those that wait for a job end at once."""
